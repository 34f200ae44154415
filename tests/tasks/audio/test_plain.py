"""The plain way against the decoder, on the same files: whatever one says, the other has to say too."""

import itertools
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.audio import AudioReference, open_audio
from tasks.audio.limits import AudioLimits
from tasks.audio.opening import open_decoded, open_recording
from tasks.audio.plain import PlainRecording
from tasks.audio.tap import Tap
from tasks.errors import BadInput, JobError, Unavailable
from tests.tasks.audio.test_riff import FMT, UNUSUAL, chunk, extensible, wave
from worker.http import HttpPool

Answer = tuple[str, int | None, bytes]


def answer(file: Any, start_ms: int = 0, limits: AudioLimits | None = None, *, decoded: bool = False) -> Answer:
    """The error's code, or nothing; the duration; the sound."""
    way = open_decoded(Tap(file), file, rate=16000, limits=limits) if decoded else None
    try:
        with way or open_recording(file, rate=16000, limits=limits) as recording:
            return "", recording.duration_ms, b"".join(recording.blocks(start_ms))
    except JobError as error:
        return error.code, None, b""


def is_plain(file: Any) -> bool:
    with open_recording(file, rate=16000) as recording:
        return isinstance(recording, PlainRecording)


def pcm(samples: int) -> bytes:
    return b"".join((n % 60000 - 30000).to_bytes(2, "little", signed=True) for n in range(samples))


SHAPES = {
    "as the standard library writes it": lambda sound: wave(chunk(b"fmt ", FMT), chunk(b"data", sound)),
    "as FFmpeg writes it": lambda sound: wave(
        chunk(b"fmt ", FMT), chunk(b"LIST", b"INFOISFT\x0e\0\0\0Lavf62.12.102\0"), chunk(b"data", sound)
    ),
    "extensible": lambda sound: wave(
        chunk(b"fmt ", extensible()), chunk(b"fact", (len(sound) // 2).to_bytes(4, "little")), chunk(b"data", sound)
    ),
    "with a wrong count": lambda sound: wave(
        chunk(b"fmt ", FMT + b"\0\0"), chunk(b"fact", b"\1\0\0\0"), chunk(b"data", sound)
    ),
    "of a broadcaster": lambda sound: wave(chunk(b"bext", bytes(602)), chunk(b"fmt ", FMT), chunk(b"data", sound)),
    "padded to a page": lambda sound: wave(
        chunk(b"JUNK", bytes(28)), chunk(b"fmt ", FMT), chunk(b"FLLR", bytes(4044)), chunk(b"data", sound)
    ),
    "with notes behind": lambda sound: wave(
        chunk(b"fmt ", FMT), chunk(b"data", sound), chunk(b"LIST", b"INFO"), chunk(b"cue ", bytes(4))
    ),
    "with an odd byte behind": lambda sound: wave(chunk(b"fmt ", FMT), chunk(b"data", sound)) + b"\0",
}


@pytest.mark.parametrize("samples", [1, 2, 1599, 12_800, 12_801, 100_000])
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("seekable", [True, False])
def test_the_plain_way_says_what_the_decoder_says(make: Any, name: str, samples: int, seekable: bool) -> None:
    data = SHAPES[name](pcm(samples))
    found = answer(make.file(data, seekable=seekable))
    assert found == answer(make.file(data, seekable=seekable), decoded=True)
    assert found[0] == "" and found[2] == pcm(samples)


@pytest.mark.parametrize("name", SHAPES)
def test_all_of_these_are_plain(make: Any, name: str) -> None:
    assert is_plain(make.file(SHAPES[name](pcm(1600))))


@pytest.mark.parametrize("start_ms", [0, 1, 333, 1001, 6249, 6250, 6251, 90_000])
@pytest.mark.parametrize("seekable", [True, False])
def test_it_goes_on_at_the_same_sample(make: Any, start_ms: int, seekable: bool) -> None:
    data = SHAPES["as FFmpeg writes it"](pcm(100_000))
    found = answer(make.file(data, seekable=seekable), start_ms)
    assert found == answer(make.file(data, seekable=seekable), start_ms, decoded=True)
    assert found[2] == pcm(100_000)[start_ms * 32 :]


@pytest.mark.parametrize("name", UNUSUAL)
@pytest.mark.parametrize("seekable", [True, False])
def test_unusual_files_get_the_decoder_s_answer(make: Any, name: str, seekable: bool) -> None:
    found, expected = (answer(make.file(UNUSUAL[name], seekable=seekable), decoded=way) for way in (False, True))
    assert found == expected


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    at=st.integers(0, 60),
    change=st.integers(0, 255),
    cut=st.integers(0, 40_000),
    seekable=st.booleans(),
    data=st.data(),
)
def test_a_damaged_header_gets_the_same_answer(
    make: Any, at: int, change: int, cut: int, seekable: bool, data: st.DataObject
) -> None:
    file = bytearray(SHAPES[data.draw(st.sampled_from(sorted(SHAPES)))](pcm(20_000)))
    file[at] = change
    whole = bytes(file[: len(file) - cut if data.draw(st.booleans()) else len(file)])
    assert answer(make.file(whole, seekable=seekable)) == answer(make.file(whole, seekable=seekable), decoded=True)


@pytest.mark.parametrize("allowed", [0.5, 1, 2])
@pytest.mark.parametrize("seekable", [True, False])
def test_too_long_is_too_long_either_way(make: Any, allowed: float, seekable: bool) -> None:
    data, limits = SHAPES["as the standard library writes it"](pcm(16_000)), AudioLimits(max_seconds=allowed)
    found = answer(make.file(data, seekable=seekable), limits=limits)
    assert found == answer(make.file(data, seekable=seekable), limits=limits, decoded=True)
    assert (found[0] == "audio_too_long") == (allowed < 1)


def test_too_long_is_said_at_opening_where_it_is_declared(make: Any) -> None:
    file = make.file(make.wav(seconds=3))
    with pytest.raises(BadInput) as caught, open_recording(file, rate=16000, limits=AudioLimits(max_seconds=2)):
        pass
    assert caught.value.code == "audio_too_long"


class Drips:
    """A source that gives a few bytes at a time, as a network does, and may end before it should."""

    shown = "https://host/call"

    def __init__(self, data: bytes, *, size: int | None = None, most: int = 333, seekable: bool = True) -> None:
        self.size: int | None = len(data) if size is None else size
        self._data, self._at, self._most, self._seekable = data, 0, most, seekable

    def read(self, size: int, /) -> bytes:
        data = self._data[self._at : self._at + min(size, self._most)]
        self._at += len(data)
        return data

    ready = read

    def seek(self, offset: int, whence: int = 0, /) -> int:
        assert whence == 0
        self._at = offset
        return offset

    def tell(self) -> int:
        return self._at

    def seekable(self) -> bool:
        return self._seekable


@pytest.mark.parametrize("most", [1, 2, 333, 25_601])
@pytest.mark.parametrize("seekable", [True, False])
@pytest.mark.parametrize("start_ms", [0, 77])
def test_a_block_never_ends_within_a_sample(make: Any, most: int, seekable: bool, start_ms: int) -> None:
    with open_recording(Drips(make.wav(pcm=pcm(8000)), most=most, seekable=seekable), rate=16000) as recording:
        assert isinstance(recording, PlainRecording)
        blocks = list(recording.blocks(start_ms))
    assert b"".join(blocks) == pcm(8000)[start_ms * 32 :]
    assert not any(len(block) % 2 for block in blocks)
    # Those on the way to the place are empty, and no others.
    assert all(itertools.dropwhile(lambda block: not block, blocks)) and (start_ms or all(blocks))


@pytest.mark.parametrize(("lost", "code"), [(30_000, ""), (33_000, "truncated_audio")])
def test_a_file_that_shrinks_while_it_is_read_is_cut(make: Any, lost: int, code: str) -> None:
    data = make.wav(seconds=5)
    file = Drips(data[:-lost], size=len(data), most=50_000)
    assert answer(file)[0] == code
    assert answer(Drips(data[:-lost], size=len(data), most=50_000), decoded=True)[0] == code


def test_blocks_are_aligned_so_that_chunks_need_not_be_joined(make: Any) -> None:
    with open_recording(make.file(make.wav(seconds=5)), rate=16000) as recording:
        blocks = list(recording.blocks())
    ends = [sum(map(len, blocks[: n + 1])) for n in range(len(blocks) - 1)]
    assert max(map(len, blocks)) == 12_800
    assert [end % 12_800 for end in ends[1:]] == [0] * len(ends[1:])


@pytest.mark.parametrize("failure", [Unavailable("audio_interrupted", "x"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("fails_at", [0, 4096, 60_000])
def test_what_the_source_raises_comes_through(make: Any, failure: BaseException, fails_at: int) -> None:
    file = make.file(make.wav(seconds=5))
    file.fails_at, file.failure = fails_at, failure
    with pytest.raises(type(failure)) as caught, open_recording(file, rate=16000) as recording:
        list(recording.blocks())
    assert caught.value is failure


def test_a_plain_recording_looks_like_any_other(make: Any) -> None:
    with open_recording(make.file(make.wav()), rate=16000) as recording:
        assert repr(recording) == "<Recording wav, pcm_s16le, 1000 ms>"


def test_an_open_plain_recording_costs_one_descriptor_and_no_decoder(tmp_path: Path, make: Any) -> None:
    (tmp_path / "a.wav").write_bytes(make.wav())
    before = len(os.listdir("/proc/self/fd"))
    reference = AudioReference.parse(f"file://{tmp_path}/a.wav")
    with open_audio(reference, rate=16000, roots=[tmp_path], http=HttpPool()) as recording:
        assert isinstance(recording, PlainRecording)
        assert len(os.listdir("/proc/self/fd")) == before + 1
        next(recording.blocks())
    assert len(os.listdir("/proc/self/fd")) == before


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(most=st.sampled_from([1, 2, 333, 5000]), start_ms=st.sampled_from([0, 77]), pattern=st.lists(st.booleans()))
def test_whoever_takes_the_next_block_nothing_is_lost(make: Any, most: int, start_ms: int, pattern: list[bool]) -> None:
    sound, taken = pcm(4000), b""
    with open_recording(Drips(make.wav(pcm=sound), most=most), rate=16000) as recording:
        blocks = recording.blocks(start_ms)
        for at_hand in pattern:
            taken += recording.ready() if at_hand else next(blocks, b"")
        taken += b"".join(blocks)
        assert recording.ready() == b""
    assert taken == sound[start_ms * 32 :]


def test_of_a_source_that_fails_nothing_is_ready_and_its_reader_learns_why(make: Any) -> None:
    file = make.file(make.wav(seconds=3))
    with open_recording(file, rate=16000) as recording:
        blocks = recording.blocks()
        assert recording.ready()
        file.fails_at, file.failure = 50_000, Unavailable("audio_interrupted", "gone")
        while recording.ready():
            pass
        with pytest.raises(Unavailable):
            list(blocks)
        assert recording.ready() == b""


def test_of_a_decoded_recording_nothing_is_ready(make: Any) -> None:
    file = make.file(make.wav(seconds=1))
    with open_decoded(Tap(file), file, rate=16000) as recording:
        assert recording.ready() == b""
