"""Recordings to transcribe as fast as possible: half an hour of something like speech, in three forms."""

import wave
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

SECONDS = 60  # made once, and repeated
FORMANTS = (120, 240, 480, 1100, 2300)  # Hz

Samples = NDArray[np.int16]


def babble(rate: int, channels: int) -> Samples:
    """A minute of syllables: tones and noise that swell four times a second, with a pause now and then."""
    time = np.arange(SECONDS * rate) / rate
    chance = np.random.default_rng(4)
    tones = sum(np.sin(2 * np.pi * tone * time + chance.random()) / (1 + at) for at, tone in enumerate(FORMANTS))
    swell = np.clip(np.sin(2 * np.pi * 4 * time), 0, 1) * (np.sin(2 * np.pi * time / 7) > -0.8)
    mixed = (tones + 0.3 * chance.standard_normal(time.size)) * swell
    return np.repeat((6000 * mixed).astype(np.int16)[:, None], channels, axis=1)


def write_wav(path: Path, minutes: int) -> Path:
    """16 kHz mono PCM."""
    minute = babble(16000, 1).tobytes()
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, 16000, 0, "NONE", ""))
        for _ in range(minutes):
            out.writeframes(minute)
    return path


def write_mp3(path: Path, minutes: int, rate: int, channels: int, kbits: int) -> Path:
    """The minute is encoded once, and its packets are written again and again."""
    with av.open(str(path), "w", format="mp3") as out:
        stream = out.add_stream("libmp3lame", rate=rate)
        assert isinstance(stream, av.AudioStream)
        stream.bit_rate, stream.layout = 1000 * kbits, "stereo" if channels == 2 else "mono"
        packets = [bytes(packet) for packet in _encoded(stream, babble(rate, channels), rate)]
        size = 1152 if rate >= 32000 else 576  # samples of a packet: MPEG-1 or MPEG-2
        for number in range(minutes * len(packets)):
            packet = av.Packet(packets[number % len(packets)])
            packet.stream, packet.time_base = stream, stream.codec_context.time_base
            packet.pts = packet.dts = number * size
            packet.duration = size
            out.mux(packet)
    return path


def _encoded(stream: av.AudioStream, samples: Samples, rate: int) -> Iterator["av.Packet[av.AudioStream]"]:
    flat = np.ascontiguousarray(samples.reshape(1, -1))
    frame = av.AudioFrame.from_ndarray(flat, format="s16", layout=stream.layout.name)
    frame.sample_rate = rate
    resampler = av.AudioResampler(format=stream.format, layout=stream.layout, rate=rate)
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        yield from stream.encode(part)
    yield from stream.encode(None)
