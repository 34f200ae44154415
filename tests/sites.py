"""One Valkey, one emulator and a worker for each execution pool: real processes, shared by the tests that need them.

Each worker has a database of its own, so that each test knows who ran its job.
"""

import json
import time
import urllib.request
import uuid
import wave
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from celery.result import AsyncResult

from emulator.stack import Process, Stack

POOLS = ("prefork", "threads", "gevent", "solo")
CONCURRENCY = 2
KEY = "sk-emulator-only"
TIMEOUT = 30.0


class Site:
    """A worker, and a client that knows nothing of ours but the broker's address."""

    def __init__(self, stack: Stack, pool: str, database: int, **env: str) -> None:
        self.stack = stack
        self.pool = pool
        self.folder = stack.folder / "audio"
        self.redis_url = stack.redis_url.rsplit("/", 1)[0] + f"/{database}"
        self.redis = redis.Redis.from_url(self.redis_url)
        self.client = Celery("web", broker=self.redis_url, backend=self.redis_url, set_as_current=False)
        self.env = stack.env(
            **{
                "STENOPOOL_REDIS_URL": self.redis_url,
                "STENOPOOL_AUDIO_ROOTS": str(self.folder),
                "DASHSCOPE_API_KEY": KEY,
            }
            | env
        )
        self.worker: Process = stack.worker(pool, CONCURRENCY, name=f"{pool}{database}", **self.env)

    def send(self, *args: Any, **options: Any) -> AsyncResult[Any]:
        return self.client.send_task("tasks.transcribe", args=args, kwargs=options)

    def transcribe(self, *args: Any, **options: Any) -> dict[str, Any]:
        result: dict[str, Any] = self.send(*args, **options).get(timeout=TIMEOUT)
        return result

    def failure(self, *args: Any, **options: Any) -> tuple[str, str]:
        """The code and the sentence with which a job fails."""
        answer = self.send(*args, **options)
        error = answer.get(timeout=TIMEOUT, propagate=False)
        assert answer.state == "FAILURE", error
        code, sentence = error.args
        record = self.record(str(answer.id))
        assert (record["state"], record["error_code"], record["error"]) == ("failed", code, sentence)
        return code, sentence

    def record(self, job_id: str) -> dict[str, str]:
        fields: Any = self.redis.hgetall(f"stenopool:job:{{{job_id}}}")
        return {name.decode(): value.decode() for name, value in fields.items()}

    def tasks(self, marker: str) -> list[dict[str, Any]]:
        """What the emulator noted of the recognitions with this marker among their parameters."""
        return [task for task in self.logbook()["tasks"] if task["parameters"].get("marker") == marker]

    def logbook(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.stack.http_url}/logbook?chunks=1", timeout=10) as answer:
            book: dict[str, Any] = json.load(answer)
        return book

    def fault(self, **fault: Any) -> None:
        """Order a fault of the service; the next connection or recognition that it suits takes it."""
        order = urllib.request.Request(f"{self.stack.http_url}/faults", json.dumps(fault).encode(), method="POST")
        urllib.request.urlopen(order, timeout=10).close()

    def close(self) -> None:
        self.redis.close()
        self.client.close()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    (folder / "audio").mkdir()
    # No limit of starts: tests run many short jobs at once, and each shall cost one attempt.
    with Stack(folder, emulator_options=("--api-key", KEY, "--starts-per-second", "0")) as running:
        yield running


@pytest.fixture(scope="session")
def sites(stack: Stack) -> Iterator[Callable[..., Site]]:
    """Makes a site for a pool, or for a pool with settings of its own, once."""
    made: dict[str, Site] = {}

    def site(pool: str, **env: str) -> Site:
        name = f"{pool} {sorted(env.items())}"
        if name not in made:
            made[name] = Site(stack, pool, len(made), **env)
        return made[name]

    yield site
    for one in made.values():
        one.close()


@pytest.fixture(params=POOLS)
def site(request: pytest.FixtureRequest, sites: Callable[..., Site]) -> Site:
    """A site; the test runs once under each execution pool."""
    return sites(request.param)


@pytest.fixture
def threads(sites: Callable[..., Site]) -> Site:
    """A site of one pool, for what cannot differ between them."""
    return sites("threads")


@pytest.fixture
def marker() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def wav(stack: Stack) -> Callable[..., Path]:
    """Makes a recording in the folder that jobs may name."""

    def make(samples: "array[int]", rate: int = 16_000) -> Path:
        path = stack.folder / "audio" / f"{uuid.uuid4().hex}.wav"
        with wave.open(str(path), "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(rate)
            out.writeframes(samples.tobytes())
        return path

    return make


@pytest.fixture
def counter(wav: Callable[..., Path]) -> Callable[[float], Path]:
    """Makes a recording whose samples carry a counter, so that what arrives proves itself."""

    def make(seconds: float) -> Path:
        samples = array("H", (n % 65_536 for n in range(round(seconds * 16_000))))
        return wav(array("h", samples.tobytes()))

    return make


@pytest.fixture
def eventually() -> Callable[..., None]:
    """Waits until a condition holds, with a bound."""

    def wait(condition: Callable[[], object], what: str, timeout: float = TIMEOUT) -> None:
        until = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < until, f"not within {timeout:g} s: {what}"
            time.sleep(0.02)

    return wait
