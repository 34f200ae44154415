import os
import re
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest

from tasks.audio.ffmpeg import _refuse
from tasks.audio.limits import AudioLimits
from tasks.audio.opening import open_recording
from tasks.errors import BadInput, Unavailable


def heard(file: Any, rate: int = 16000, start_ms: int = 0, limits: AudioLimits | None = None) -> bytes:
    with open_recording(file, rate=rate, limits=limits) as recording:
        return b"".join(recording.blocks(start_ms))


def refusal(file: Any, limits: AudioLimits | None = None) -> BadInput:
    """What opening says: nothing may be sent of a recording that it refuses."""
    with pytest.raises(BadInput) as caught, open_recording(file, rate=16000, limits=limits):
        pass
    return caught.value


def seconds(pcm: bytes, rate: int = 16000) -> float:
    return len(pcm) / 2 / rate


def pitch(pcm: bytes, rate: int = 16000) -> float:
    """The strongest frequency in Hz."""
    samples = np.frombuffer(pcm, "<i2")
    return float(np.argmax(np.abs(np.fft.rfft(samples))) * rate / len(samples))


@pytest.mark.parametrize("seekable", [True, False])
@pytest.mark.parametrize("samples", [1, 2, 1599, 1600, 160_001])
def test_a_wav_at_the_right_rate_comes_out_bit_for_bit(make: Any, samples: int, seekable: bool) -> None:
    pcm = make.counter(samples)
    assert heard(make.file(make.wav(pcm=pcm), seekable=seekable)) == pcm


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_any_rate_and_number_of_channels_comes_out_complete(make: Any, rate: int, channels: int) -> None:
    pcm = np.repeat(make.tone(rate, 2), channels).tobytes()
    out = heard(make.file(make.wav(rate, channels, pcm=pcm)))
    assert len(out) // 2 == pytest.approx(32000, abs=2)
    assert pitch(out) == pytest.approx(440, abs=1)
    assert np.abs(np.frombuffer(out, "<i2")).max() == pytest.approx(8000, rel=0.05)


def test_every_channel_without_a_name_counts_the_same(make: Any) -> None:
    frames = np.zeros((1600, 4), "<i2")
    frames[:, 3] = 8000
    out = np.frombuffer(heard(make.file(make.wav(channels=4, pcm=frames.tobytes()))), "<i2")
    assert set(out) == {2000}


FORMATS = [
    ("a.mp3", "mp3", 44100),
    ("a.m4a", "aac", 44100),
    ("a.aac", "aac", 44100),
    ("a.ogg", "libopus", 48000),
    ("a.webm", "libopus", 48000),
    ("a.flac", "flac", 16000),
    ("a.aiff", "pcm_s16be", 16000),
    ("a.caf", "pcm_s16le", 16000),
    ("a.w64", "pcm_s16le", 16000),
    ("a.wav", "pcm_mulaw", 8000),
    ("a.amr", "libopencore_amrnb", 8000),
    ("a.ts", "aac", 44100),
    ("a.avi", "mp3", 44100),
    ("a.mka", "flac", 48000),
]


@pytest.mark.parametrize(("name", "codec", "rate"), FORMATS)
def test_a_format_is_read_whole(make: Any, name: str, codec: str, rate: int) -> None:
    with open_recording(make.file(make.encoded(name, codec, rate, 3)), rate=16000) as recording:
        out = b"".join(recording.blocks())
    assert seconds(out) == pytest.approx(3, abs=0.1)
    assert pitch(out) == pytest.approx(440, abs=1)
    assert recording.duration_ms == pytest.approx(3000, abs=100)


@pytest.mark.parametrize(("name", "codec", "rate"), [f for f in FORMATS if f[0] != "a.m4a"])
def test_a_format_is_read_from_a_source_that_cannot_seek(make: Any, name: str, codec: str, rate: int) -> None:
    out = heard(make.file(make.encoded(name, codec, rate, 3), seekable=False))
    assert seconds(out) == pytest.approx(3, abs=0.1)
    assert pitch(out) == pytest.approx(440, abs=1)


def test_a_fragmented_mp4_is_read_as_it_comes(make: Any) -> None:
    data = make.encoded("a.mp4", "aac", 44100, 3, movflags="frag_keyframe+empty_moov", frag_duration="500000")
    assert seconds(heard(make.file(data, seekable=False, size=None))) == pytest.approx(3, abs=0.1)


def test_stereo_flac_is_mixed_and_brought_to_another_rate(make: Any) -> None:
    out = heard(make.file(make.encoded("a.flac", "flac", 48000, 2, "stereo")), rate=8000)
    assert seconds(out, 8000) == pytest.approx(2, abs=0.001)
    assert pitch(out, 8000) == pytest.approx(440, abs=1)


def test_a_film_gives_its_sound(make: Any) -> None:
    out = heard(make.file(make.video("a.mp4", 2)))
    assert seconds(out) == pytest.approx(2, abs=0.1)
    assert pitch(out) == pytest.approx(440, abs=1)


@pytest.mark.parametrize("start_ms", [0, 250, 1500])
def test_sound_that_begins_after_the_pictures_keeps_its_time(make: Any, start_ms: int) -> None:
    out = np.frombuffer(heard(make.file(make.video("a.mp4", 3, late=1.0)), start_ms=start_ms), "<i2")
    quiet = max(0, 16000 - start_ms * 16)
    assert len(out) / 16000 == pytest.approx(3 - start_ms / 1000, abs=0.1)
    assert not out[: max(0, quiet - 1600)].any()
    assert out[quiet + 1600 :].any()


def restarted(data: bytes, audio_at: int) -> bytes:
    """An MPEG-TS whose pictures begin at 0 of its clock, and whose sound a little before or after that."""
    written = bytearray(data)
    for mark, begins in ((b"\0\0\1\xe0", 0), (b"\0\0\1\xc0", audio_at)):
        places = [found.start() + 9 for found in re.finditer(re.escape(mark), data)]
        first = stamp(data[places[0] : places[0] + 5])
        for place in places:
            count = 2 if data[place - 2] >> 6 == 3 else 1  # when to show it, and when to decode it
            for at in range(place, place + 5 * count, 5):
                written[at : at + 5] = stamped(data[at] >> 4, stamp(data[at : at + 5]) - first + begins)
    return bytes(written)


def stamp(field: bytes) -> int:
    high, middle, low = field[0] >> 1 & 7, int.from_bytes(field[1:3], "big") >> 1, int.from_bytes(field[3:], "big") >> 1
    return high << 30 | middle << 15 | low


def stamped(kind: int, time: int) -> bytes:
    time %= 1 << 33
    middle, low = time >> 15 & 0x7FFF, time & 0x7FFF
    return (
        bytes([kind << 4 | time >> 30 << 1 | 1])
        + (middle << 1 | 1).to_bytes(2, "big")
        + (low << 1 | 1).to_bytes(2, "big")
    )


@pytest.mark.parametrize("audio_at", [-1920, 0, 1920])
@pytest.mark.parametrize("seekable", [True, False])
def test_sound_that_begins_just_before_the_clock_s_zero_is_not_a_day_late(
    make: Any, audio_at: int, seekable: bool
) -> None:
    data = restarted(make.video("a.ts", 4, late=0.1), audio_at)
    assert seconds(heard(make.file(data, seekable=seekable))) == pytest.approx(3.9, abs=0.1)


@pytest.mark.parametrize("seekable", [True, False])
def test_sound_that_begins_after_the_clock_s_zero_keeps_its_time(make: Any, seekable: bool) -> None:
    data = restarted(make.video("a.ts", 4, late=0.1), 90_000)
    assert seconds(heard(make.file(data, seekable=seekable))) == pytest.approx(4.9, abs=0.1)


def test_silence_is_a_recording_too(make: Any) -> None:
    assert heard(make.file(make.wav(pcm=bytes(32000)))) == bytes(32000)


@pytest.mark.parametrize("start_ms", [1, 100, 999, 1001, 5000, 9999])
@pytest.mark.parametrize("seekable", [True, False])
def test_a_wav_goes_on_at_the_very_sample(make: Any, start_ms: int, seekable: bool) -> None:
    pcm = make.counter(160_000)
    assert heard(make.file(make.wav(pcm=pcm), seekable=seekable), start_ms=start_ms) == pcm[start_ms * 32 :]


@pytest.mark.parametrize(("name", "codec", "rate"), [f for f in FORMATS if f[0] != "a.ts"])
def test_a_format_goes_on_where_it_stopped(make: Any, name: str, codec: str, rate: int) -> None:
    data = make.encoded(name, codec, rate, 5)
    whole, rest = heard(make.file(data)), heard(make.file(data), start_ms=3210)
    assert len(whole) - len(rest) == pytest.approx(3210 * 32, abs=64)
    expected, found = (np.frombuffer(part, "<i2").astype(int) for part in (whole[3210 * 32 :][:16000], rest[:16000]))
    assert np.abs(expected - found).max() < 1500  # of 8000; a sample's shift makes 1380


@pytest.mark.parametrize(
    ("name", "codec"), [("a.wav", "adpcm_ima_wav"), ("a.wav", "adpcm_ms"), ("a.w64", "adpcm_ima_wav")]
)
def test_blocks_of_samples_go_on_where_they_stopped(make: Any, name: str, codec: str) -> None:
    data = make.encoded(name, codec, 8000, 60)
    whole, rest = heard(make.file(data)), heard(make.file(data), start_ms=50_137)
    assert len(whole) - len(rest) == 50_137 * 32


@pytest.mark.parametrize("codec", ["adpcm_ima_wav", "adpcm_ms"])
def test_an_avi_s_blocks_are_not_taken_for_samples(make: Any, codec: str) -> None:
    """By which it would be longer than anybody may send."""
    data = make.encoded("a.avi", codec, 16000, 90)
    assert len(heard(make.file(data))) == pytest.approx(90 * 32_000, rel=0.002)


@pytest.mark.parametrize("speed", [1, 44_100, 88_200, 352_800])
def test_a_wav_that_says_a_wrong_speed_goes_on_at_the_very_sample(make: Any, speed: int) -> None:
    data = bytearray(make.wav(16_000, channels=2, pcm=make.counter(480_000, 2)))
    data[28:32] = speed.to_bytes(4, "little")
    assert heard(make.file(bytes(data)), start_ms=20_137) == make.counter(480_000)[20_137 * 32 :]


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_s24le", "pcm_u8", "pcm_f32le", "pcm_mulaw", "pcm_alaw"])
@pytest.mark.parametrize("name", ["a.wav", "a.w64"])
def test_a_far_place_in_a_wav_is_jumped_to(make: Any, name: str, codec: str) -> None:
    file = make.file(make.encoded(name, codec, 8000, 600))
    with open_recording(file, rate=16_000) as recording:
        assert seconds(b"".join(recording.blocks(590_000))) == pytest.approx(10, abs=0.001)
    assert file.taken < len(file.getvalue()) / 4


def test_beyond_the_end_there_is_nothing(make: Any) -> None:
    assert heard(make.file(make.wav(seconds=3)), start_ms=3000) == b""
    assert heard(make.file(make.wav(seconds=3)), start_ms=60_000) == b""


@pytest.mark.parametrize("size", ["00000000", "ffffffff", "ffffff7f"])
@pytest.mark.parametrize("seekable", [True, False])
def test_a_wav_whose_recorder_left_the_length_open_is_read_to_its_end(make: Any, size: str, seekable: bool) -> None:
    pcm = make.counter(48_000)
    data = bytearray(make.wav(pcm=pcm))
    data[40:44] = bytes.fromhex(size)
    assert heard(make.file(bytes(data), seekable=seekable)) == pcm


# -- what is refused -----------------------------------------------------------------------------------------------


TRAPS = [
    b"This is a letter and no recording.\n" * 200,
    b"x",
    bytes(5000),
    b"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
    b"ffconcat version 1.0\nfile '/etc/passwd'\n",
    b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 5004 RTP/AVP 0\r\n",
    b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period></Period></MPD>',
    b"\x89PNG\r\n\x1a\n" + bytes(200),
    b"1\n00:00:01,000 --> 00:00:02,000\nHello\n\n" * 10,
    b"RIFF\x10\x00\x00\x00WAVE",
]


@pytest.mark.parametrize("data", TRAPS, ids=range(len(TRAPS)))
def test_what_is_no_recording_is_refused_and_opens_nothing(make: Any, data: bytes) -> None:
    opened = len(os.listdir("/proc/self/fd"))
    error = refusal(make.file(data))
    assert (error.code, "https://host/call" in error.sentence) == ("not_audio", True)
    assert len(os.listdir("/proc/self/fd")) == opened


def test_an_endless_text_is_refused_after_a_part_of_it(make: Any) -> None:
    file = make.file(b"no recording\n" * 2_000_000)
    assert refusal(file).code == "not_audio"
    assert file.tell() < 8 * 1024 * 1024


def test_a_film_without_sound_is_refused(make: Any) -> None:
    assert refusal(make.file(make.video("a.mp4", 1, sound=False))).code == "no_audio_stream"


def test_a_sound_without_a_decoder_is_refused(make: Any) -> None:
    data = bytearray(make.wav())
    data[20:22] = (0x1234).to_bytes(2, "little")
    assert refusal(make.file(bytes(data))).code == "unsupported_codec"


def test_a_wav_without_a_sample_is_refused(make: Any) -> None:
    assert refusal(make.file(make.wav(seconds=0))).code == "empty_audio"


CUT = [
    ("a.wav", "pcm_s16le", {}),
    ("a.aiff", "pcm_s16be", {}),
    ("a.caf", "pcm_s16le", {}),
    ("a.flac", "flac", {}),
    ("a.m4a", "aac", {}),
    ("a.mp4", "aac", {"movflags": "faststart"}),
    ("a.w64", "pcm_s16le", {}),
    ("a.wma", "wmav2", {}),
    ("a.avi", "pcm_s16le", {}),
]


@pytest.mark.parametrize("part", [0.3, 0.5, 0.9])
@pytest.mark.parametrize(("name", "codec", "options"), CUT)
def test_a_cut_recording_is_refused_before_anything_is_sent(
    make: Any, name: str, codec: str, options: dict[str, str], part: float
) -> None:
    data = make.encoded(name, codec, 16000, 20, **options)
    error = refusal(make.file(data[: int(len(data) * part)]))
    assert (error.code, "https://host/call" in error.sentence) == ("truncated_audio", True)


@pytest.mark.parametrize("name", ["a.w64", "a.wma", "a.avi"])
def test_a_cut_is_told_before_also_where_nobody_can_seek_but_a_size_is_said(make: Any, name: str) -> None:
    data = make.encoded(name, next(codec for known, codec, _ in CUT if known == name), 16000, 20)
    assert seconds(heard(make.file(data, seekable=False))) == pytest.approx(20, abs=0.1)
    assert refusal(make.file(data[: len(data) // 2], seekable=False)).code == "truncated_audio"


@pytest.mark.parametrize("seekable", [True, False])
@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mka", "flac"), ("a.au", "pcm_s16be"), ("a.tta", "tta"), ("a.flv", "nellymoser")],
)
def test_a_cut_that_only_a_count_can_tell_is_told_at_the_end(make: Any, name: str, codec: str, seekable: bool) -> None:
    data = make.encoded(name, codec, 16000, 20)
    assert seconds(heard(make.file(data, seekable=seekable))) == pytest.approx(20, abs=0.1)
    told_at_the_end(make.file(data[: len(data) // 2], seekable=seekable), 10)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.flac", "flac"),
        ("a.wav", "pcm_s16le"),
        ("a.wav", "pcm_mulaw"),
        ("a.w64", "pcm_s16le"),
        ("a.wma", "wmav2"),
        ("a.mp3", "mp3"),
    ],
)
def test_a_cut_in_a_download_of_no_said_size_is_told_at_the_end(make: Any, name: str, codec: str) -> None:
    data = make.encoded(name, codec, 16000, 40)
    assert seconds(heard(make.file(data, seekable=False, size=None))) == pytest.approx(40, abs=0.1)
    told_at_the_end(make.file(data[: len(data) // 2], seekable=False, size=None), 20)


def told_at_the_end(file: Any, about: float) -> None:
    with open_recording(file, rate=16000) as recording:
        sent = bytearray()
        with pytest.raises(BadInput) as caught:
            for block in recording.blocks():
                sent += block
    assert caught.value.code == "truncated_audio"
    assert seconds(bytes(sent)) == pytest.approx(about, abs=1)


@pytest.mark.parametrize("seekable", [True, False])
@pytest.mark.parametrize(("name", "codec"), [("a.wmv", "wmav2"), ("a.avi", "mp3")])
def test_sound_that_ends_before_the_pictures_is_whole(make: Any, name: str, codec: str, seekable: bool) -> None:
    data = make.video(name, 10, rate=44_100, codec=codec, short=4.0)
    assert seconds(heard(make.file(data, seekable=seekable))) == pytest.approx(6, abs=0.1)


def test_a_stream_that_ran_before_it_was_recorded_is_whole(make: Any) -> None:
    data = bytearray(make.encoded("a.flv", "mp3", 44_100, 10))
    place, first = data.index(b"duration") + 9, 13
    data[place : place + 8] = struct.pack(">d", struct.unpack_from(">d", data, place)[0] + 60)
    while first < len(data):  # all its times are a minute later
        size, time = (int.from_bytes(data[first + at : first + at + 3], "big") for at in (1, 4))
        if data[first] == 8:
            data[first + 4 : first + 7] = (time + 60_000).to_bytes(3, "big")
        first += size + 15
    assert seconds(heard(make.file(bytes(data)))) == pytest.approx(10, abs=0.1)


@pytest.mark.parametrize("name", ["a.mp3", "a.aac", "a.ogg", "a.amr", "a.ts"])
def test_a_cut_stream_that_declares_nothing_gives_what_it_has(make: Any, name: str) -> None:
    codec, rate = next((codec, rate) for known, codec, rate in FORMATS if known == name)
    silent = {"write_xing": "0"} if name == "a.mp3" else {}
    data = make.encoded(name, codec, rate, 10, **silent)
    assert seconds(heard(make.file(data[: len(data) // 2]))) == pytest.approx(5, abs=0.3)


@pytest.mark.parametrize("tagged", [True, False])
def test_a_cut_mp3_whose_first_frame_counts_its_bytes_is_refused_at_opening(make: Any, tagged: bool) -> None:
    data = make.encoded("a.mp3", "mp3", 44100, 10)
    assert data.startswith(b"ID3")
    data = data if tagged else data[data.index(b"\xff\xfb") :]
    assert seconds(heard(make.file(data))) == pytest.approx(10, abs=0.1)
    assert refusal(make.file(data[: len(data) // 2])).code == "truncated_audio"


def test_a_moment_missing_at_the_end_is_forgiven(make: Any) -> None:
    pcm = make.counter(160_000)
    assert heard(make.file(make.wav(pcm=pcm)[:-10_000])) == pcm[:-10_000]


def test_leftovers_behind_the_sound_are_nobodys_business(make: Any) -> None:
    pcm = make.counter(16_000)
    assert heard(make.file(make.wav(pcm=pcm) + b"ID3 \xff\xff\xff\x7fmore"))[: len(pcm)] == pcm


def test_an_mp4_with_its_index_at_the_end_needs_a_source_that_can_seek(make: Any) -> None:
    error = refusal(make.file(make.encoded("a.mp4", "aac", 44100, 20), seekable=False))
    assert (error.code, "faststart" in error.sentence) == ("not_streamable", True)


def test_a_scratch_is_bridged_and_later_sound_keeps_its_time(make: Any) -> None:
    data = bytearray(make.encoded("a.mka", "flac", 16000, 10))
    middle = len(data) // 2
    data[middle : middle + 300] = os.urandom(300)
    assert seconds(heard(make.file(bytes(data)))) == pytest.approx(10, abs=0.5)


@pytest.mark.parametrize("seekable", [True, False])
def test_a_ruin_is_refused(make: Any, seekable: bool) -> None:
    data = bytearray(make.encoded("a.mp4", "flac", 16000, 20, movflags="faststart", strict="-2"))
    begin = data.index(b"mdat") + 4
    data[begin:] = bytes(len(data) - begin)
    assert refusal(make.file(bytes(data), seekable=seekable)).code == "damaged_audio"


def test_too_long_is_said_at_opening_when_it_is_declared(make: Any) -> None:
    limits = AudioLimits(max_seconds=2)
    assert refusal(make.file(make.wav(seconds=2.1)), limits).code == "audio_too_long"
    assert len(heard(make.file(make.wav(seconds=2)), limits=limits)) == 64000


def test_too_long_is_said_while_decoding_when_nothing_is_declared(make: Any) -> None:
    file = make.file(make.wav(seconds=3), seekable=False, size=None)
    with open_recording(file, rate=16000, limits=AudioLimits(max_seconds=2)) as recording:
        with pytest.raises(BadInput) as caught:
            list(recording.blocks())
    assert caught.value.code == "audio_too_long"


@pytest.mark.parametrize("seekable", [True, False])
def test_an_mp4_that_ends_before_its_index_is_cut(make: Any, seekable: bool) -> None:
    data = make.encoded("a.mp4", "aac", 44100, 5, movflags="faststart")
    assert refusal(make.file(data[: data.index(b"moov") + 40], seekable=seekable)).code == "truncated_audio"


@pytest.mark.parametrize(
    "data",
    [
        b"FORM\x00\x00\x00\x00AIFF",
        b"caff\x00\x01\x00\x00" + b"desc" + bytes(7) + b"\x20" + bytes(10),
        b"caff\x00\x01\x00\x00" + b"free" * 900,
        b"RIFF\x00\x00\x00\x00WAVE" + b"junk\x02\x00\x00\x00ab" * 300,
        b"caff\x00\x01\x00\x00" + (b"free" + bytes(8)) * 300,
        b"\x00\x00\x00\x08free" * 300,
        b"\x00\x00\x00\x01free" + bytes(7) + b"\x10" + bytes(8),
    ],
    ids=range(7),
)
def test_a_container_of_nothing_but_chunks_is_refused(make: Any, data: bytes) -> None:
    assert refusal(make.file(data)).code in ("not_audio", "truncated_audio", "damaged_audio")


def test_what_other_files_a_recording_asks_for_stay_closed() -> None:
    with pytest.raises(PermissionError):
        _refuse("file:///etc/passwd", 1, {})


# -- the source ----------------------------------------------------------------------------------------------------


class Stop(BaseException):
    """What a greenlet's end looks like."""


FAILURES = [Unavailable("audio_interrupted", "x"), BadInput("audio_timeout", "x"), OSError("disk"), Stop()]


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
@pytest.mark.parametrize("seekable", [True, False])
@pytest.mark.parametrize(
    ("name", "codec"), [("a.wav", "pcm_s16le"), ("a.flac", "flac"), ("a.mp3", "mp3"), ("a.ogg", "libopus")]
)
def test_what_the_source_raises_comes_through_as_itself(
    make: Any, failure: BaseException, seekable: bool, name: str, codec: str
) -> None:
    rate = 48000 if codec == "libopus" else 16000
    data = make.encoded(name, codec, rate, 20)
    for fails_at in (0, 4096, len(data) // 2):
        file = make.file(data, seekable=seekable)
        file.fails_at, file.failure = fails_at, failure
        with pytest.raises(type(failure)) as caught:
            heard(file)
        assert caught.value is failure


def test_a_live_source_is_read_in_small_pieces(make: Any) -> None:
    file = make.file(make.wav(seconds=60), seekable=False, size=None)
    with open_recording(file, rate=16000) as recording:
        next(recording.blocks())
        assert file.tell() < 256 * 1024
    assert file.largest <= 32 * 1024


class Endless:
    """A WAV of any length that is made while it is read."""

    shown = "https://host/long"
    size: int | None = None

    def __init__(self, header: bytes, seconds: int) -> None:
        self._rest = header
        self._left = seconds * 32000

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        return 0

    def seek(self, offset: int, whence: int = 0, /) -> int:
        raise AssertionError("must not seek")

    def read(self, size: int, /) -> bytes:
        if self._rest:
            data, self._rest = self._rest, b""
            return data
        count = min(size, self._left)
        self._left -= count
        return bytes(count)

    ready = read


def test_memory_stays_flat_over_an_hour(make: Any) -> None:
    header = bytearray(make.wav(seconds=0))
    header[40:44] = b"\xff" * 4
    with open_recording(Endless(bytes(header), 3600), rate=8000) as recording:
        blocks = recording.blocks()
        total = len(next(blocks))
        tracemalloc.start()
        try:
            for block in blocks:
                total += len(block)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert seconds(bytes(2), 8000) * total / 2 == pytest.approx(3600, abs=0.01)
    assert peak < 1024 * 1024


@pytest.mark.parametrize(
    ("name", "codec", "rate", "layout"),
    [("a.mp3", "mp3", 16000, "mono"), ("a.mp3", "mp3", 44100, "stereo"), ("a.wav", "pcm_s16le", 44100, "stereo")],
)
def test_a_step_is_short_and_its_block_small(make: Any, name: str, codec: str, rate: int, layout: str) -> None:
    data = make.encoded(name, codec, rate, 10, layout)
    with open_recording(make.file(data), rate=16000) as recording:
        assert max(map(len, recording.blocks())) <= 12_800


def test_no_threads_are_left_running_per_recording(make: Any) -> None:
    before = len(os.listdir("/proc/self/task"))
    with open_recording(make.file(make.encoded("a.flac", "flac", 48000, 3, "stereo")), rate=16000) as recording:
        list(recording.blocks())
        assert len(os.listdir("/proc/self/task")) == before


def test_ffmpeg_writes_nothing_to_the_terminal(make: Any, capfd: pytest.CaptureFixture[str]) -> None:
    refusal(make.file(TRAPS[0]))
    heard(make.file(make.encoded("a.mp3", "mp3", 44100, 1)[:5000]))
    assert capfd.readouterr() == ("", "")


def test_a_recording_names_its_container_and_not_its_source(make: Any) -> None:
    with open_recording(make.file(make.wav(8000)), rate=16000) as recording:
        assert repr(recording) == "<Recording wav, pcm_s16le, 1000 ms>"
