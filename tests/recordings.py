"""Recordings in the folder that jobs may name: what arrives of them proves itself."""

import uuid
import wave
from array import array
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.stream import AudioStream

from emulator.stack import Stack


def written(folder: Path, samples: "array[int]", rate: int = 16_000) -> Path:
    """A recording in a folder."""
    path = folder / f"{uuid.uuid4().hex}.wav"
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(samples.tobytes())
    return path


def counting(seconds: float) -> "array[int]":
    """Samples that carry a counter, so that what arrives proves itself."""
    samples = array("H", (n % 65_536 for n in range(round(seconds * 16_000))))
    return array("h", samples.tobytes())


@pytest.fixture
def wav(stack: Stack) -> Callable[..., Path]:
    """Makes a recording in the folder that jobs may name."""

    def make(samples: "array[int]", rate: int = 16_000) -> Path:
        return written(stack.folder / "audio", samples, rate)

    return make


@pytest.fixture
def counter(wav: Callable[..., Path]) -> Callable[[float], Path]:
    """Makes a recording whose samples carry a counter."""
    return lambda seconds: wav(counting(seconds))


@pytest.fixture
def broken(stack: Stack) -> Callable[[float], Path]:
    """Makes a recording that breaks off in its middle, which nobody can tell before he gets there."""

    def make(seconds: float) -> Path:
        path = stack.folder / "audio" / f"{uuid.uuid4().hex}.mka"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("flac", rate=16_000, layout="mono")
            assert isinstance(stream, AudioStream)
            frame = av.AudioFrame.from_ndarray(np.arange(16_000, dtype="<i2").reshape(1, -1), layout="mono")
            frame.sample_rate = 16_000
            for second in range(round(seconds)):
                frame.pts = second * 16_000
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return path

    return make
