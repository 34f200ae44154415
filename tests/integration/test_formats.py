"""The same speech in many containers and codecs, as people and machines send it, is understood as well as plainly."""

import shutil
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import jiwer
import numpy as np
import pytest
from av.audio.stream import AudioStream
from av.packet import Packet
from av.video.stream import VideoStream
from moonshine_voice import get_assets_path

from emulator import BackgroundEmulator
from emulator.engines import EngineStream
from emulator.engines.endpoint import Stretch
from emulator.engines.moonshine import MoonshineEngine, MoonshineStream
from emulator.stack import Stack
from tests.integration.test_speech import PLAIN, SAID, error_rate
from tests.sites import Launch, ending

SPEECH = Path(get_assets_path()) / "beckett.wav"
TIMEOUT = 100.0

WORST = 0.2
"""Word error rate: two of the twelve words."""

NARROW = 11_025
"""Samples per second up to which speech has lost half of its sounds' range or so: to this small model "fail" is then
"there", and one word more may be wrong.
"""
WORST_NARROW = 0.3


@dataclass(frozen=True, slots=True)
class Kind:
    """How the speech is written. `pictures` is the codec of a picture that moves with it."""

    ending: str
    codec: str
    rate: int
    layout: str = "mono"
    pictures: str = ""

    @property
    def name(self) -> str:
        return ".".join(filter(None, (self.codec, self.pictures, str(self.rate), self.layout, self.ending)))


KINDS = [
    Kind("mp3", "mp3", 44_100, "stereo"),
    Kind("m4a", "aac", 48_000, "stereo"),
    Kind("aac", "aac", 7350),
    Kind("ogg", "libopus", 48_000),
    Kind("webm", "libopus", 48_000, "stereo"),
    Kind("ogg", "vorbis", 44_100, "stereo"),
    Kind("flac", "flac", 96_000, "stereo"),
    Kind("wav", "pcm_mulaw", 8000),
    Kind("wav", "pcm_alaw", 8000, "stereo"),
    Kind("wav", "pcm_s24le", 48_000, "5.1"),
    Kind("wav", "pcm_f32le", 22_050),
    Kind("wav", "adpcm_ms", 11_025, "stereo"),
    Kind("g722", "g722", 16_000),
    Kind("caf", "pcm_s32be", 192_000),
    Kind("wma", "wmav2", 44_100, "stereo"),
    Kind("3gp", "libopencore_amrnb", 8000, pictures="h263"),
    Kind("ts", "mp2", 48_000, pictures="mpeg2video"),
    Kind("mp4", "aac", 44_100, pictures="mpeg4"),
    Kind("mkv", "ac3", 48_000, "5.1", pictures="libx264"),
    Kind("flv", "mp3", 22_050, pictures="flv1"),
]


class Finals(MoonshineEngine):
    """Reads each sentence once, when it has ended: partials are most of the work, and nobody asks for them here."""

    def open(self, sample_rate: int) -> EngineStream:
        return FinalStream(self, sample_rate)


class FinalStream(MoonshineStream):
    def _is_due(self, stretch: Stretch) -> bool:
        return False


@pytest.fixture(scope="module")
def heard(stack: Stack, databases: list[int]) -> dict[str, dict[str, Any]]:
    """All of them, transcribed at once by one worker; and, without a name, the recording that they were made of."""
    with BackgroundEmulator(Finals()) as emulator, ending(stack, databases) as start:
        site = start("threads", emulator, Launch(concurrency=8))
        plain = Path(shutil.copy(SPEECH, site.folder))
        paths = [plain, *(written(site.folder, kind) for kind in KINDS)]
        jobs = [site.send(path.as_uri(), pace=0) for path in paths]
        results = [job.get(timeout=TIMEOUT) for job in jobs]
        del jobs  # they look at their Redis a last time when they go
    return dict(zip(["", *(kind.name for kind in KINDS)], results, strict=True))


@pytest.mark.timeout(150)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_speech_is_understood_in_every_format(heard: dict[str, dict[str, Any]], kind: Kind) -> None:
    plain, found = heard[""], heard[kind.name]
    error = jiwer.wer(plain["text"], found["text"], reference_transform=PLAIN, hypothesis_transform=PLAIN)
    assert error <= (WORST_NARROW if kind.rate <= NARROW else WORST), found["text"]
    assert found["duration_ms"] == pytest.approx(plain["duration_ms"], abs=300)


@pytest.mark.timeout(150)
def test_what_they_are_measured_by_is_the_speech(heard: dict[str, dict[str, Any]]) -> None:
    assert error_rate(SAID["beckett.wav"], heard[""]["text"]) <= WORST


# -- how they are made -------------------------------------------------------------------------------------------------


def written(folder: Path, kind: Kind) -> Path:
    """The speech as a file of this kind."""
    with wave.open(str(SPEECH)) as file:
        rate, sound = file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), "<i2")
    path = folder / kind.name
    with av.open(str(path), "w") as container:
        # Pictures first: once the first packet is written no stream can be added.
        pictures = container.add_stream(kind.pictures, rate=25) if kind.pictures else None
        stream = container.add_stream(kind.codec, rate=kind.rate, layout=kind.layout)
        assert isinstance(stream, AudioStream)
        stream.bit_rate = 12_200 if kind.codec == "libopencore_amrnb" else 64_000
        if kind.codec == "flac":
            stream.codec_context.format = "s32"  # 24 bits of them
        if kind.codec == "vorbis":
            stream.codec_context.options = {"strict": "-2"}  # FFmpeg's own encoder calls itself an experiment
        if isinstance(pictures, VideoStream):
            for drawn in film(pictures, len(sound) / rate):
                container.mux(drawn)
        for packets in encoded(stream, sound, rate):
            container.mux(packets)
    return path


def encoded(stream: AudioStream, sound: np.ndarray, rate: int) -> "Iterator[list[Packet[Any]]]":
    """The sound as the stream wants it: rate, channels, samples."""
    to = stream.codec_context
    fit = av.AudioResampler(to.format.name, to.layout.name, to.sample_rate, to.frame_size or 1024)
    for begin in range(0, len(sound), 1024):
        frame = av.AudioFrame.from_ndarray(sound[begin : begin + 1024].reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts = rate, begin
        yield from map(stream.encode, fit.resample(frame))
    yield from map(stream.encode, fit.resample(None))
    yield stream.encode(None)


def film(pictures: VideoStream, seconds: float) -> "Iterator[list[Packet[Any]]]":
    """A small picture whose brightness changes."""
    pictures.width, pictures.height, pictures.pix_fmt = 176, 144, "yuv420p"
    for number in range(int(seconds * 25)):
        frame = av.VideoFrame.from_ndarray(np.full((216, 176), number % 200, np.uint8), format="yuv420p")
        frame.pts = number
        yield pictures.encode(frame)
    yield pictures.encode(None)
