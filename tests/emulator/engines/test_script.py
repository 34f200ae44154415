import struct
import zlib

import pytest

from emulator.engines import Result, Word
from emulator.engines.script import ScriptEngine
from tests.emulator.client import counter


def hear(data: bytes, size: int, sentence_ms: int = 1000, rate: int = 16000) -> list[Result]:
    stream = ScriptEngine(sentence_ms).open(rate)
    results = [result for at in range(0, len(data), size) for result in stream.feed(data[at : at + size])]
    return results + stream.finish()


@pytest.mark.parametrize("size", [2, 3200, 12800, 10**6])
def test_the_same_audio_says_the_same_however_it_is_cut(size):
    finals = [(it.begin_ms, it.end_ms, it.text) for it in hear(counter(40000), size) if it.is_final]
    assert finals == [(0, 1000, "1-16000"), (1000, 2000, "16001-32000"), (2000, 2500, "32001-40000")]


def test_a_partial_comes_at_half_and_before_its_final():
    assert [(it.text, it.end_ms) for it in hear(counter(16000), 10**6)] == [("1-8000", None), ("1-16000", 1000)]


def test_the_counter_goes_round():
    (final,) = hear(counter(10, first=65530), 100)
    assert final.text == "65530-3"


def test_other_audio_is_its_checksum():
    data = struct.pack("<3h", 5, 5, 5)
    (final,) = hear(data, 100)
    assert final == Result(0, 1, f"{zlib.crc32(data):08x}", (Word(0, 1, f"{zlib.crc32(data):08x}"),))


def test_a_stretch_of_zeros_says_nothing_and_keeps_its_time():
    results = hear(bytes(32000) + counter(16000), 3200)
    assert [(it.begin_ms, it.text) for it in results] == [(1000, "1-8000"), (1000, "1-16000")]


def test_nothing_says_nothing():
    assert hear(b"", 1) == []


def test_words_divide_the_time_without_gaps():
    final = hear(counter(8000), 100, sentence_ms=1000, rate=8000)[-1]
    assert final.words == (Word(0, 500, "1"), Word(500, 1000, "8000"))


@pytest.mark.parametrize("sentence_ms", [0, 1])
def test_a_sentence_has_a_half(sentence_ms):
    with pytest.raises(ValueError, match="sentence_ms"):
        ScriptEngine(sentence_ms)
