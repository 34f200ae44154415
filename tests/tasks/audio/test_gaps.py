from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.audio.stream import AudioStream

from tasks.audio.gaps import Gaps
from tasks.audio.opening import open_recording


class Frame:
    """What a gap is judged by of an AudioFrame: 20 ms at 48 kHz."""

    samples = 960
    sample_rate = 48_000

    def __init__(self, at_ms: int | None) -> None:
        self.time = None if at_ms is None else at_ms / 1000


def silences(*at_ms: int | None, end: float | None = None) -> list[int]:
    """The silences, in samples at 16 kHz, between frames of 20 ms that begin at these times."""
    sounds: Any = [Frame(at) for at in at_ms]
    return [sound for sound in Gaps(16_000, end).filled(sounds) if isinstance(sound, int)]


def test_sounds_that_follow_each_other_have_no_hole_between_them() -> None:
    assert silences(0, 20, 40, 60) == []
    assert silences() == []


def test_a_hole_is_filled_with_as_much_silence_as_it_is_long() -> None:
    assert silences(0, 20, 1040, 1060) == [16_000]


def test_a_recording_that_begins_late_has_no_hole_before_its_first_sound() -> None:
    assert silences(5000, 5020) == []


def test_what_a_clock_rounds_or_repeats_is_no_hole() -> None:
    assert silences(0, 21, 39, 61, 50, 110) == []


def test_a_slow_clock_s_small_steps_add_up_to_one() -> None:
    assert sum(silences(*(n * 21 for n in range(400)))) == pytest.approx(400 * 16, abs=16 * 100)


def test_a_time_beyond_the_declared_end_is_a_broken_clock() -> None:
    assert silences(0, 20_000, end=10.0) == []
    assert silences(0, 9_020, end=10.0) == [9_000 * 16]


def test_without_a_declared_end_a_hole_of_minutes_is_believed_and_one_of_hours_is_not() -> None:
    assert silences(0, 60_020) == [60_000 * 16]
    assert silences(0, 7_200_000) == []


def test_frames_without_times_and_silences_of_others_are_handed_on() -> None:
    sounds: Any = [Frame(None), 160, Frame(0), 1600, Frame(120)]
    assert list(Gaps(16_000, None).filled(sounds)) == sounds


def test_a_hole_between_two_batches_is_found_too() -> None:
    gaps = Gaps(16_000, None)
    batches: list[Any] = [[Frame(0), Frame(20)], [Frame(1040)], [Frame(1060)]]
    assert [[s for s in gaps.filled(batch) if isinstance(s, int)] for batch in batches] == [[], [16_000], []]


def with_a_hole(path: Path, codec: str, rate: int, hole: float) -> bytes:
    """Twelve seconds of a tone, with a hole after the sixth."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        assert isinstance(stream, AudioStream)
        size = stream.codec_context.frame_size or rate // 50
        resampler = av.AudioResampler(stream.codec_context.format.name, "mono", rate, frame_size=size)
        tone = (np.sin(np.arange(size) * 2 * np.pi * 440 / rate) * 8000).astype("<i2").reshape(1, -1)
        packets = []
        for number in range(12 * rate // size):
            frame = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
            frame.sample_rate, frame.pts = rate, number * size
            packets += [packet for ready in resampler.resample(frame) for packet in stream.encode(ready)]
        for packet in [*packets, *stream.encode(None)]:
            assert packet.pts is not None and packet.dts is not None
            if packet.pts * packet.time_base >= 6:
                late = int(hole / packet.time_base)
                packet.pts, packet.dts = packet.pts + late, packet.dts + late
            container.mux(packet)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("a.webm", "libopus", 48_000),
        ("a.mkv", "pcm_s16le", 16_000),
        ("a.mp4", "aac", 48_000),
        ("a.ogg", "libopus", 48_000),
        ("a.ts", "aac", 48_000),
        ("a.flv", "aac", 44_100),
    ],
)
def test_what_comes_after_a_hole_keeps_its_time(tmp_path: Path, make: Any, name: str, codec: str, rate: int) -> None:
    data = with_a_hole(tmp_path / name, codec, rate, hole=5.0)
    with open_recording(make.file(data), rate=16_000) as recording:
        pcm = np.frombuffer(b"".join(recording.blocks()), "<i2")
    assert len(pcm) / 16_000 == pytest.approx(17.0, abs=0.1)
    loud = np.flatnonzero(np.abs(pcm[7 * 16_000 :]) > 1000)[0] / 16_000 + 7
    assert loud == pytest.approx(11.0, abs=0.15)
    assert not pcm[round(6.5 * 16_000) : round(10.5 * 16_000)].any()
