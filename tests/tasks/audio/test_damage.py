"""Files damaged in every way give sound or one clear sentence, and soon."""

import random
import time
from typing import Any

import pytest

from tasks.audio.limits import AudioLimits
from tasks.audio.opening import open_recording
from tasks.errors import BadInput
from tests.tasks.audio.test_decode import FORMATS, heard, seconds

CODES = {
    "audio_too_long",
    "damaged_audio",
    "empty_audio",
    "no_audio_stream",
    "not_audio",
    "not_streamable",
    "truncated_audio",
    "unsupported_codec",
}
NUMBERS = [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4), b"\0\0\0\1", b"\1\0\0\0"]


def cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 10, 300])):
        data[chance.randrange(len(data))] = chance.randrange(256)


def blank(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data))
    end = min(len(data), at + chance.choice([100, 4096, 40_000]))
    data[at:end] = bytes(end - at)


def misstate(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(min(len(data), 800))
    data[at : at + 4] = chance.choice(NUMBERS)


def repeat(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data))
    data[at:at] = data[at : at + chance.randrange(1, 20_000)] * 2


def litter(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data))
    data[at:at] = chance.randbytes(chance.choice([1, 7, 1000, 30_000]))


@pytest.mark.parametrize("harm", [cut, flip, blank, misstate, repeat, litter])
@pytest.mark.parametrize(("name", "codec", "rate"), FORMATS)
def test_a_damaged_file_ends_in_sound_or_in_a_sentence(make: Any, name: str, codec: str, rate: int, harm: Any) -> None:
    whole = make.encoded(name, codec, rate, 2)
    chance = random.Random(f"{name} {harm.__name__}")
    for number in range(6):
        data = bytearray(whole)
        harm(data, chance)
        began = time.thread_time()
        try:
            file = make.file(bytes(data), seekable=number % 2 == 0)
            with open_recording(file, rate=16_000, limits=AudioLimits(max_seconds=600)) as recording:
                assert sum(map(len, recording.blocks(number // 3 * 700))) % 2 == 0
        except BadInput as error:
            assert error.code in CODES and "https://host/call" in error.sentence
        assert time.thread_time() - began < 2


def test_pictures_that_appear_midway_do_not_harm_the_sound(make: Any) -> None:
    sound = make.encoded("a.flv", "mp3", 44_100, 3)
    # A tag of pictures long after the sound began, which no probing has seen: PyAV stumbles over it at the end.
    picture = b"\x22" + bytes(200)
    tag = b"\x09" + len(picture).to_bytes(3, "big") + bytes(7) + picture + (len(picture) + 11).to_bytes(4, "big")
    sounds = sound[13:]
    assert seconds(heard(make.file(sound[:13] + sounds * 60 + tag))) > 3
    assert seconds(heard(make.file(sound[:13] + sounds * 60 + tag, seekable=False))) > 3
