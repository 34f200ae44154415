import math
import wave
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from config.settings import JobSettings, Settings
from emulator.background import BackgroundEmulator
from emulator.stack import free_port
from tasks import transcription
from tasks.job.view import JobView
from tests.tasks.scene import Scene
from worker.beat import impatient


class FickleRedis(redis.Redis):
    """A client whose Redis is away for the next `away` commands, or whose answers are lost for the next `deaf` ones.

    A test can act before each command, and after its answer; what its act raises is raised.
    """

    away = deaf = 0.0
    tries = 0
    before: Callable[[tuple[Any, ...]], Any] | None = None
    after: Callable[[Any], Any] | None = None

    def execute_command(self, *args: Any, **options: Any) -> Any:
        self.tries += 1
        if self.before is not None:
            self.before(args)
        if self.away > 0:
            self.away -= 1
            raise redis.ConnectionError("away")
        answer = super().execute_command(*args, **options)
        if self.after is not None:
            self.after(answer)
        if self.deaf > 0:
            self.deaf -= 1
            raise redis.TimeoutError("lost")
        return answer

    def goes_away(self) -> None:
        self.away = math.inf

    def comes_back(self) -> None:
        self.away = 0.0


@pytest.fixture
def fickle(valkey: str, client: redis.Redis) -> Iterator[FickleRedis]:
    """Another client of that Valkey, emptied before."""
    with FickleRedis.from_url(valkey) as connection:
        yield connection


@pytest.fixture
def nowhere() -> Iterator[redis.Redis]:
    """A client of a port where nobody listens."""
    with impatient(f"redis://127.0.0.1:{free_port()}/0") as connection:
        yield connection


@pytest.fixture
def emulator() -> Iterator[BackgroundEmulator]:
    """A service of this test's own."""
    with BackgroundEmulator() as running:
        yield running


@pytest.fixture
def worker(emulator: BackgroundEmulator, start_app: Callable[..., Celery], tmp_path: Path) -> Callable[..., Celery]:
    """Makes this process one that could run jobs: settings, Redis, service and a folder of recordings."""

    def ready(**variables: str) -> Celery:
        usual = {
            "DASHSCOPE_WEBSOCKET_BASE_URL": emulator.url,
            "DASHSCOPE_HTTP_BASE_URL": emulator.api_url,
            "DASHSCOPE_API_KEY": "k",
            "STENOPOOL_AUDIO_ROOTS": str(tmp_path),
        }
        return start_app(**usual | variables)

    return ready


@pytest.fixture
def counted(tmp_path: Path) -> str:
    """The reference of a recording of 0.2 s whose samples count up, so that its transcript is known."""
    path = tmp_path / "counted.wav"
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes(array("h", range(3200)).tobytes())
    return path.as_uri()


@pytest.fixture
def view(client: redis.Redis) -> JobView:
    """What those who follow the job `j` can read of it."""
    return JobView(client, "j")


@pytest.fixture
def rules(given: Callable[..., Settings]) -> Callable[..., JobSettings]:
    """The rules by default, but for what is given; and a short wait between two streams."""
    assert (JobSettings().backoff, JobSettings().backoff_max, JobSettings().retries) == (2.0, 120.0, 5)
    return lambda **changed: given(**{"STENOPOOL_JOB_BACKOFF": "0.001"} | changed).job


@pytest.fixture
def scene(client: redis.Redis, rules: Callable[..., JobSettings], monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A process that does the job `j`, and looks often for a Redis that is away."""
    assert transcription.LOOK_EVERY == 1.0
    monkeypatch.setattr(transcription, "LOOK_EVERY", 0.001)
    return Scene(client, rules())
