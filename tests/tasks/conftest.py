import wave
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from celery import Celery

from emulator.background import BackgroundEmulator


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
