"""A recording of three hours costs its worker no more memory than one of five minutes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.audio.stream import AudioStream

from emulator import BackgroundEmulator
from emulator.engines.script import ScriptEngine

MINUTE = 60_000
"""Milliseconds."""

RATE = 16_000
GROWTH = 24 * 1024
"""KiB by which the worker's memory may grow at its highest: a tenth of what three hours of samples would take."""


def minute(folder: Path) -> bytes:
    """A minute of changing sound, as MP3 frames that can be repeated."""
    path = folder / "minute.mp3"
    sound = np.random.default_rng(7).normal(0, 3000, 60 * RATE).astype("<i2")
    with av.open(str(path), "w", options={"write_xing": "0", "id3v2_version": "0"}) as container:
        stream = container.add_stream("mp3", rate=RATE, layout="mono")
        assert isinstance(stream, AudioStream)
        stream.bit_rate = 32_000
        frame = av.AudioFrame.from_ndarray(sound.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = RATE
        fit = av.AudioResampler(stream.codec_context.format.name, "mono", RATE, stream.codec_context.frame_size)
        for ready in [*fit.resample(frame), *fit.resample(None), None]:
            container.mux(stream.encode(ready))
    return path.read_bytes()


def highest(pid: int) -> int:
    """KiB of memory that a process has had at its highest."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


@pytest.mark.timeout(150)
def test_three_hours_take_no_more_memory_than_five_minutes(alone: Callable[..., Any]) -> None:
    with BackgroundEmulator(ScriptEngine(sentence_ms=MINUTE)) as emulator:
        site = alone("threads", emulator)
        one = minute(site.folder)
        figures = []
        for minutes in (5, 180):
            path = site.folder / f"{minutes}.mp3"
            with path.open("wb") as file:
                file.writelines([one] * minutes)
            result = site.send(path.as_uri(), pace=0).get(timeout=100)
            path.unlink()
            assert result["duration_ms"] == pytest.approx(minutes * MINUTE, rel=0.01)
            assert len(result["sentences"]) == pytest.approx(minutes, abs=2)
            figures.append(highest(site.worker.pid))
    before, after = figures
    assert after - before < GROWTH
