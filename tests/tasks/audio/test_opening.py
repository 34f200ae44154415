"""Channels and parts, of plain and of decoded recordings alike."""

from typing import Any

import numpy as np
import pytest

from tasks.audio.opening import open_recording
from tasks.audio.plain import PlainRecording
from tasks.errors import BadInput
from tests.tasks.audio.test_decode import FORMATS, heard, pitch


def part(file: Any, start_ms: int, end_ms: int | None, **how: Any) -> bytes:
    with open_recording(file, rate=16_000, **how) as recording:
        return b"".join(recording.blocks(start_ms, end_ms))


def interleaved(*channels: bytes) -> bytes:
    return np.stack([np.frombuffer(channel, "<i2") for channel in channels], axis=1).tobytes()


# -- channels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seekable", [True, False])
@pytest.mark.parametrize("count", [2, 3, 6, 8])
def test_each_channel_comes_alone_and_bit_for_bit(make: Any, count: int, seekable: bool) -> None:
    channels = [np.full(20_000, 1000 * (number + 1), "<i2").tobytes() for number in range(count)]
    data = make.wav(channels=count, pcm=interleaved(*channels))
    for number, channel in enumerate(channels):
        with open_recording(make.file(data, seekable=seekable), rate=16_000, channel=number) as recording:
            assert recording.channels == count
            assert b"".join(recording.blocks()) == channel


@pytest.mark.parametrize(
    ("name", "codec", "rate", "layout", "count"),
    [
        ("a.mp3", "mp3", 44_100, "stereo", 2),
        ("a.m4a", "aac", 48_000, "5.1", 6),
        ("a.flac", "flac", 48_000, "stereo", 2),
        ("a.ogg", "libopus", 48_000, "stereo", 2),
        ("a.wav", "pcm_f32le", 22_050, "7.1", 8),
        ("a.wav", "pcm_mulaw", 8000, "stereo", 2),
        ("a.mp3", "mp3", 8000, "mono", 1),
    ],
)
def test_how_many_channels_there_are_is_known_of_every_format(
    make: Any, name: str, codec: str, rate: int, layout: str, count: int
) -> None:
    data = make.encoded(name, codec, rate, 1, layout)
    for channel in (None, 0, count - 1):
        with open_recording(make.file(data), rate=16_000, channel=channel) as recording:
            assert recording.channels == count


def test_a_channel_is_brought_to_another_rate(make: Any) -> None:
    silent, loud = bytes(2 * 44_100), make.tone(44_100, 1).tobytes()
    data = make.wav(44_100, 2, pcm=interleaved(silent, loud))
    assert not np.frombuffer(heard_of(make, data, 0), "<i2").any()
    assert pitch(heard_of(make, data, 1)) == pytest.approx(440, abs=1)


def heard_of(make: Any, data: bytes, channel: int) -> bytes:
    return part(make.file(data), 0, None, channel=channel)


def test_of_a_mono_file_the_only_channel_is_as_plain_as_the_mix(make: Any) -> None:
    with open_recording(make.file(make.wav()), rate=16_000, channel=0) as recording:
        assert isinstance(recording, PlainRecording)
        assert (recording.channels, b"".join(recording.blocks())) == (1, make.counter(16_000))


@pytest.mark.parametrize(("channels", "rate"), [(1, 16_000), (1, 8000), (2, 16_000), (6, 48_000)])
def test_a_channel_that_is_not_there_is_named(make: Any, channels: int, rate: int) -> None:
    data = make.wav(rate, channels)
    with (
        pytest.raises(BadInput) as caught,
        open_recording(make.file(data), rate=16_000, channel=channels),
    ):
        pass
    assert caught.value.code == "no_such_channel"
    assert f"there is no channel {channels}" in caught.value.sentence
    assert "https://host/call" in caught.value.sentence


def test_a_channel_that_is_lost_midway_is_silent_from_there(make: Any) -> None:
    first = make.encoded("a.aac", "aac", 48_000, 2, "stereo")
    second = make.encoded("b.aac", "aac", 48_000, 3, "mono")
    right = np.frombuffer(part(make.file(first + second, seekable=False), 0, None, channel=1), "<i2")
    left = np.frombuffer(part(make.file(first + second, seekable=False), 0, None, channel=0), "<i2")
    assert len(right) == pytest.approx(len(left), abs=1000)
    assert len(left) / 16_000 == pytest.approx(5, abs=0.1)
    assert right[16_000:30_000].any() and not right[34_000:].any()
    assert left[34_000:].any()


# -- parts -------------------------------------------------------------------------------------------------------------

PLACES = [(0, 1), (0, 1000), (250, 251), (333, 1777), (999, 5001), (1234, 9999), (4000, 10_000), (4000, 60_000)]


@pytest.mark.parametrize("seekable", [True, False])
@pytest.mark.parametrize(("start_ms", "end_ms"), PLACES)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_part_of_a_wav_is_exact_to_the_sample(
    make: Any, start_ms: int, end_ms: int, channels: int, seekable: bool
) -> None:
    pcm = make.counter(160_000)
    data = make.wav(channels=channels, pcm=pcm if channels == 1 else interleaved(pcm, pcm))
    found = part(make.file(data, seekable=seekable), start_ms, end_ms, channel=0)
    assert found == pcm[start_ms * 32 : end_ms * 32]


@pytest.mark.parametrize("end_ms", [0, 1500, 2000])
@pytest.mark.parametrize("rate", [16_000, 8000])
def test_of_a_part_that_ends_where_it_begins_there_is_nothing(make: Any, rate: int, end_ms: int) -> None:
    assert part(make.file(make.wav(rate, seconds=3)), 2000, end_ms) == b""


@pytest.mark.parametrize(("name", "codec", "rate"), FORMATS)
def test_a_part_of_any_format_is_a_part_of_the_whole(make: Any, name: str, codec: str, rate: int) -> None:
    data = make.encoded(name, codec, rate, 5)
    whole, found = heard(make.file(data)), part(make.file(data), 0, 2345)
    assert found == whole[: 2345 * 32]
    assert len(part(make.file(data), 1234, 3456)) == (3456 - 1234) * 32


@pytest.mark.parametrize("seekable", [True, False])
@pytest.mark.parametrize(("channels", "rate"), [(1, 16_000), (2, 44_100)])
def test_what_lies_beyond_the_end_is_not_read(make: Any, channels: int, rate: int, seekable: bool) -> None:
    file = make.file(make.wav(rate, channels, seconds=60), seekable=seekable)
    with open_recording(file, rate=16_000) as recording:
        furthest = 0
        for _ in recording.blocks(0, 2000):
            furthest = max(furthest, file.tell())
    assert max(furthest, file.tell()) <= 3 * rate * 2 * channels


def test_what_is_at_hand_of_a_plain_recording_ends_with_the_part(make: Any) -> None:
    with open_recording(make.file(make.wav(seconds=3)), rate=16_000) as recording:
        blocks = recording.blocks(500, 1777)
        taken = b""
        while block := recording.ready():
            taken += block
        assert taken == make.counter(48_000)[500 * 32 : 1777 * 32]
        assert list(blocks) == [] and recording.ready() == b""


def test_sound_that_begins_after_the_part_leaves_it_silent(make: Any) -> None:
    film = make.video("a.mp4", 3, late=1.0)
    assert part(make.file(film), 0, 500) == bytes(500 * 32)
    assert part(make.file(film), 250, 750) == bytes(500 * 32)
    assert len(part(make.file(film), 500, 1500)) == 1000 * 32


def test_a_loss_behind_the_part_is_no_loss_and_one_within_it_is(make: Any) -> None:
    data = make.encoded("a.mka", "flac", 16_000, 20)
    cut = make.file(data[: len(data) // 2], seekable=False)
    assert len(part(cut, 0, 5000)) == 5000 * 32
    with pytest.raises(BadInput) as caught:
        part(make.file(data[: len(data) // 2], seekable=False), 0, 15_000)
    assert caught.value.code == "truncated_audio"


def test_a_file_that_shrinks_behind_the_part_is_whole_enough(make: Any) -> None:
    data = make.wav(seconds=10)
    for end_ms, lost in ((5000, False), (8000, True)):
        file = make.file(data[: 6 * 32_000], size=len(data))
        if lost:
            with pytest.raises(BadInput) as caught:
                part(file, 0, end_ms)
            assert caught.value.code == "truncated_audio"
        else:
            assert part(file, 0, end_ms) == make.counter(160_000)[: end_ms * 32]
