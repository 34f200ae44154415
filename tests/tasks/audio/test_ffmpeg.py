"""What of FFmpeg is let in, and how far it may go."""

import resource
import struct
import time
from typing import Any

import numpy as np
import pytest

from tasks.audio.limits import AudioLimits
from tasks.errors import BadInput
from tests.tasks.audio.test_decode import heard, pitch, refusal, seconds

# -- telephone systems' files ------------------------------------------------------------------------------------------

BARE = [
    ("ulaw", "pcm_mulaw", 8000, "mulaw"),
    ("UL", "pcm_mulaw", 8000, "mulaw"),
    ("al", "pcm_alaw", 8000, "alaw"),
    ("sln", "pcm_s16le", 8000, "s16le"),
    ("sln16", "pcm_s16le", 16_000, "s16le"),
    ("sln48", "pcm_s16le", 48_000, "s16le"),
    ("g722", "g722", 16_000, "g722"),
]


@pytest.mark.parametrize("seekable", [True, False])
@pytest.mark.parametrize(("ending", "codec", "rate", "container"), BARE)
def test_samples_without_a_header_are_known_by_their_name(
    make: Any, ending: str, codec: str, rate: int, container: str, seekable: bool
) -> None:
    file = make.file(make.encoded(f"a.{ending}", codec, rate, 3, container=container), seekable=seekable)
    assert refusal(file).code == "not_audio"
    file.shown = f"https://host/monitor/call.{ending}"
    file.seek(0)
    pcm = heard(file)
    assert seconds(pcm) == pytest.approx(3, abs=0.01)
    assert pitch(pcm) == pytest.approx(440, abs=1)


def test_a_name_does_not_make_a_header_sound(make: Any) -> None:
    file = make.file(make.wav(seconds=1))
    file.shown = "https://host/call.ulaw"
    assert seconds(heard(file)) == 1


GSM_SILENCE = bytes.fromhex("d820a2e15a" + "5000492492492450" * 3 + "50004924924924")[:33]


@pytest.mark.parametrize("frames", [50, 150])
def test_gsm_is_known_by_its_frames(make: Any, frames: int) -> None:
    assert len(GSM_SILENCE) == 33
    assert seconds(heard(make.file(GSM_SILENCE * frames))) == pytest.approx(frames / 50, abs=0.01)


def test_g729_is_read_at_eight_kilobits(make: Any) -> None:
    file = make.file(bytes(10) * 100)
    file.shown = "https://host/call.g729"
    assert seconds(heard(file)) == pytest.approx(1, abs=0.05)


# -- less common ones --------------------------------------------------------------------------------------------------

RARE = [
    ("a.rm", "ac3", 48_000, "rm"),
    ("a.latm", "aac", 44_100, "latm"),
    ("a.au", "pcm_mulaw", 8000, None),
    ("a.tta", "tta", 44_100, None),
    ("a.wv", "wavpack", 44_100, None),
    ("a.voc", "pcm_u8", 11_025, None),
    ("a.ac3", "ac3", 48_000, None),
    ("a.mp2", "mp2", 44_100, None),
    ("rf64.wav", "pcm_s16le", 16_000, "rf64"),
    ("a.caf", "alac", 44_100, None),
    ("a.mov", "adpcm_ima_qt", 44_100, None),
    ("a.flv", "nellymoser", 22_050, None),
    ("a.wav", "g726", 8000, None),
    ("a.wav", "pcm_u8", 11_025, None),
    ("a.wav", "pcm_s32le", 192_000, None),
    ("a.wav", "pcm_f64le", 96_000, None),
    ("a.aac", "aac", 7350, None),
    ("a.opus", "libopus", 8000, None),
    ("a.wma", "wmav1", 22_050, None),
]


@pytest.mark.parametrize(("name", "codec", "rate", "container"), RARE)
def test_a_rarer_format_is_read_whole(make: Any, name: str, codec: str, rate: int, container: str | None) -> None:
    options = {"rf64": "always"} if container == "rf64" else {}
    named = None if container == "rf64" else container
    pcm = heard(make.file(make.encoded(name, codec, rate, 3, container=named, **options)))
    assert seconds(pcm) == pytest.approx(3, abs=0.25)
    assert pitch(pcm) == pytest.approx(440, abs=2)


def test_a_corpus_of_speech_comes_in_sphere_files(make: Any) -> None:
    pcm = make.counter(16_000)
    fields = "sample_count -i 16000\nsample_n_bytes -i 2\nchannel_count -i 1\nsample_byte_format -s2 01\n"
    head = f"NIST_1A\n   1024\n{fields}sample_rate -i 16000\nsample_coding -s3 pcm\nend_head\n"
    assert heard(make.file(head.encode().ljust(1024, b" ") + pcm)) == pcm


def test_a_caf_whose_table_comes_last_needs_a_source_that_can_seek(make: Any) -> None:
    data = make.encoded("a.caf", "alac", 44_100, 3)
    error = refusal(make.file(data, seekable=False))
    assert (error.code, "https://host/call" in error.sentence) == ("not_streamable", True)


# -- what is made to hurt ----------------------------------------------------------------------------------------------


def box(name: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", len(body) + 8) + name + body


def full(name: bytes, *numbers: int) -> bytes:
    return box(name, struct.pack(f">I{len(numbers)}I", 0, *numbers))


def film(samples: int, tracks: int = 1) -> bytes:
    """An MP4 of about a thousand bytes whose tracks claim to have so many samples of one byte."""
    head = box(b"ftyp", b"isom", bytes(4), b"isom")
    entry = box(b"sowt", bytes(6), struct.pack(">HHIHHHHI", 1, 0, 0, 1, 16, 0, 0, 16_000 << 16), bytes(4))[:-4]
    entry = struct.pack(">I", len(entry)) + entry[4:]
    table = box(
        b"stbl",
        box(b"stsd", struct.pack(">II", 0, 1), entry),
        full(b"stts", 1, samples, 2),
        full(b"stsc", 1, 1, samples, 1),
        full(b"stsz", 1, samples),
        full(b"stco", 1, len(head) + 8),
    )
    media = box(
        b"mdia",
        full(b"mdhd", 0, 0, 16_000, 160_000, 0),
        box(b"hdlr", bytes(8), b"soun", bytes(13)),
        box(b"minf", full(b"smhd", 0), table),
    )
    track = box(b"trak", box(b"tkhd", struct.pack(">IIIIII", 7, 0, 0, 1, 0, 10_000), bytes(60)), media)
    movie = full(b"mvhd", 0, 0, 1000, 10_000, *[0] * 20)
    return head + box(b"mdat", bytes(1000)) + box(b"moov", movie, track * tracks)


def highest() -> int:
    """KiB of memory that this process has had at its highest."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize("samples", [10_000_000, 89_000_000, 170_000_000])
def test_a_small_file_that_claims_a_huge_index_is_refused_before_it_takes_memory(make: Any, samples: int) -> None:
    before, began = highest(), time.thread_time()
    assert refusal(make.file(film(samples))).code in ("damaged_audio", "not_audio", "truncated_audio")
    assert highest() - before < 160 * 1024
    assert time.thread_time() - began < 1


def test_a_file_of_a_thousand_tracks_is_cut_down(make: Any) -> None:
    before = highest()
    assert refusal(make.file(film(1000, tracks=1000))).code in ("damaged_audio", "truncated_audio", "not_audio")
    assert highest() - before < 160 * 1024


def monkey(blocks: int, bits: int) -> bytes:
    """Monkey's Audio of one frame that says to be so much silence."""
    frame = struct.pack("<II", 1 << 31, 3) + bytes(16)
    head = b"MAC " + struct.pack("<HHIIIIIII", 3990, 0, 52, 24, 4, 0, len(frame), 0, 0) + bytes(16)
    return head + struct.pack("<HHIIIHHII", 1000, 0, blocks, blocks, 1, bits, 2, 44_100, 80) + frame


def element(name: str, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return bytes.fromhex(name) + (len(body) | 1 << 56).to_bytes(8, "big") + body


def matroska(codec: bytes, packet: bytes, private: bytes = b"") -> bytes:
    """A Matroska file whose sound is in one packet."""
    shape = element("e1", element("b5", struct.pack(">d", 44_100)), element("9f", b"\1"))
    named = element("d7", b"\1") + element("83", b"\2") + element("86", codec)
    track = element("ae", named, element("63a2", private) if private else b"", shape)
    cluster = element("1f43b675", element("e7", b"\0"), element("a3", b"\x81\0\0\x80", packet))
    return element("1a45dfa3", element("4282", b"matroska")) + element("18538067", element("1654ae6b", track), cluster)


FLAC_HEAD = b"fLaC\x80\0\0\x22" + struct.pack(">HHIHQ", 65_535, 65_535, 0, 0, 44_100 << 44 | 15 << 36) + bytes(16)
ALAW = struct.pack("<HHIIHHH", 6, 1, 44_100, 44_100, 1, 8, 0)
FLAC_SILENCE = bytes.fromhex("fff8790800fffe420000006fa6")  # 65 535 samples in 13 bytes


def silent_aac(make: Any) -> bytes:
    """A frame of silence, in a dozen bytes."""
    data: bytes = make.encoded("a.aac", "aac", 44_100, 1, loud=0)
    return data[data.rindex(data[:3]) :]


@pytest.mark.parametrize("bits", [16, 24])
def test_a_small_file_that_claims_hours_in_one_frame_is_refused_before_it_takes_memory(make: Any, bits: int) -> None:
    assert len(heard(make.file(monkey(44_100, bits)))) == 32_000
    before = highest()
    assert refusal(make.file(monkey(260_000_000, bits))).code == "damaged_audio"
    assert highest() - before < 64 * 1024


def test_a_packet_crammed_with_frames_is_refused_before_it_takes_memory(make: Any) -> None:
    aac = silent_aac(make)
    assert len(aac) < 16
    assert seconds(heard(make.file(matroska(b"A_AAC", aac * 100)))) > 2
    assert seconds(heard(make.file(matroska(b"A_FLAC", FLAC_SILENCE * 10, FLAC_HEAD)))) > 14
    before = highest()
    assert refusal(make.file(matroska(b"A_AAC", aac * 50_000))).code == "damaged_audio"
    assert refusal(make.file(matroska(b"A_FLAC", FLAC_SILENCE * 5000, FLAC_HEAD))).code == "damaged_audio"
    assert highest() - before < 64 * 1024


def test_a_frame_of_more_samples_than_any_real_one_is_damage(make: Any) -> None:
    packet = b"\xd5" * (4 * 1_179_648)
    assert seconds(heard(make.file(matroska(b"A_MS/ACM", packet, ALAW)))) == pytest.approx(107, abs=0.1)
    assert refusal(make.file(matroska(b"A_MS/ACM", packet + b"\xd5", ALAW))).code in ("damaged_audio", "empty_audio")


@pytest.mark.parametrize("rate", [1, 999, 3_000_000, 0x7FFFFFFF])
@pytest.mark.parametrize("codec", [1, 7])  # PCM and the telephone's
def test_a_rate_that_no_sound_has_is_damage(make: Any, rate: int, codec: int) -> None:
    data = bytearray(make.wav(channels=2))
    data[20:28] = struct.pack("<HHI", codec, 2, rate)
    began = time.thread_time()
    assert refusal(make.file(bytes(data))).code == "damaged_audio"
    assert time.thread_time() - began < 1


@pytest.mark.parametrize("rate", [1000, 2_999_999])
def test_a_rate_that_is_only_odd_is_sound(make: Any, rate: int) -> None:
    assert seconds(heard(make.file(make.wav(rate, channels=2, seconds=0.5)))) == pytest.approx(0.5, abs=0.01)


def test_a_file_that_costs_much_and_gives_little_is_given_up(make: Any) -> None:
    sound = make.encoded("a.ts", "mp2", 48_000, 0.3)
    rubbish = np.random.default_rng(3).bytes(20_000_000)  # FFmpeg looks for the next packet all the way
    began = time.thread_time()
    with pytest.raises(BadInput) as caught:
        heard(make.file(sound + rubbish), limits=AudioLimits(decode_seconds=0.05))
    assert caught.value.code == "audio_too_slow"
    assert time.thread_time() - began < 1
    assert len(heard(make.file(sound), limits=AudioLimits(decode_seconds=0.05))) > 0


def test_a_far_place_in_an_honest_file_is_no_such_effort(make: Any) -> None:
    data = make.encoded("a.mp3", "mp3", 44_100, 1, write_xing="0", id3v2_version="0") * 300
    rest = heard(make.file(data), start_ms=299_000, limits=AudioLimits(decode_seconds=0.05))
    assert 0 < seconds(rest) < 20
