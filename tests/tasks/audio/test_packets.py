import random

import pytest

from tasks.audio.packets import MOST_SAMPLES, is_crammed


@pytest.mark.parametrize(
    ("blocks", "crammed"), [(0, False), (1, False), (MOST_SAMPLES, False), (MOST_SAMPLES + 1, True)]
)
def test_monkey_s_audio_says_how_much_a_packet_becomes(blocks: int, crammed: bool) -> None:
    assert is_crammed("ape", blocks.to_bytes(4, "little") + bytes(8)) is crammed


# Headers of real frames: of 65 535 samples; of 4096 samples, the 200th; of a rate and a number of samples in full.
HEADERS = ["fff8790800fffe42", "fff8c908c38881", "fff97d18000fff1f40b2"]


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize(("frames", "crammed"), [(0, False), (1, False), (2, False), (16, False), (17, True)])
def test_a_packet_of_flac_has_few_places_where_a_frame_begins(header: str, frames: int, crammed: bool) -> None:
    assert is_crammed("flac", (bytes.fromhex(header) + bytes(9)) * frames) is crammed
    assert is_crammed("flac", b"\xff\xf8\x79" + (bytes.fromhex(header) + b"\xff") * frames) is crammed


def test_what_only_looks_like_a_start_is_none() -> None:
    faint = bytes.fromhex("fff8790800fffe43")
    assert not is_crammed("flac", (faint + bytes(32)) * 1000)
    assert not is_crammed("flac", (b"\xff\xf9\x11\x11" + bytes(32)) * 1000)
    assert not is_crammed("flac", bytes.fromhex("fff87908"))  # and ends there


def test_nobody_looks_at_more_starts_than_any_sound_has() -> None:
    look = bytes.fromhex("fff8790800fffe43")
    assert not is_crammed("flac", look * 64)
    assert is_crammed("flac", look * 1000)


def test_chance_makes_no_starts() -> None:
    assert not is_crammed("flac", random.Random(7).randbytes(2 * 1024 * 1024))
    assert is_crammed("flac", bytes(2 * 1024 * 1024 + 1))


@pytest.mark.parametrize("codec", ["aac", "mp3float", "ac3", "libopus", "amrnb", "gsm_ms", "adpcm_ms", "unheard-of"])
def test_small_frames_make_small_packets(codec: str) -> None:
    assert not is_crammed(codec, b"")
    assert not is_crammed(codec, bytes(64 * 1024))
    assert is_crammed(codec, bytes(64 * 1024 + 1))


@pytest.mark.parametrize("codec", ["pcm_s16le", "alac", "tta", "wavpack", "dsd_lsbf"])
def test_a_large_packet_may_be_one_frame(codec: str) -> None:
    assert not is_crammed(codec, bytes(1024 * 1024))
