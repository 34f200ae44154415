"""Decoded frames of any kind to mono 16-bit PCM at one rate."""

from collections.abc import Iterable, Iterator
from typing import Final

import av
from av.audio.frame import AudioFrame
from av.filter import Graph
from av.filter.context import FilterContext

from tasks.audio.recording import silence

__all__ = ["Mono", "RATES", "STEP"]

RATES: Final = range(1000, 3_000_000)
"""Samples per second that are taken: from below any telephone to above any studio. A header that is damaged, or made
for it, names others: then a frame would become gigabytes, or the resampler's table, after seconds.
"""

STEP: Final = 0.4
"""Seconds of sound that are converted at once: what a file's chunk holds at 16 kHz, and four of a speaker's."""


class Mono:
    """Mixes all channels, or takes one of them (counted from 0), and resamples; hands on mono 16-bit frames at the
    right rate untouched, bit for bit.

    PyAV's AudioResampler is not used because its filter graph starts a thread per core for every recording, and
    because it refuses a stream whose rate or channels change midway, as chained Ogg and AAC with late SBR do.
    """

    def __init__(self, rate: int, channel: int | None = None) -> None:
        self._rate, self._channel = rate, channel
        self._kind: tuple[str, str, int] | None = None
        self._graph: _Resampler | None = None

    def convert(self, sounds: Iterable[AudioFrame | int]) -> Iterator[bytes]:
        """The PCM that these frames, and numbers of samples of silence, make available: a few blocks or none."""
        for sound in map(self._heard, sounds):
            if isinstance(sound, int):
                yield from self.flush()  # what came before the silence
                yield from silence(sound)
                continue
            kind = (sound.format.name, sound.layout.name, sound.sample_rate)
            if kind != self._kind:
                yield from self.flush()
                self._kind, self._graph = (
                    kind,
                    None if self._is_ready(sound) else _Resampler(*kind, self._rate, self._channel),
                )
            if self._graph is None:
                yield _bytes(sound)
            else:
                self._graph.push(sound)
        if self._graph is not None:
            yield from self._graph.pull()

    def flush(self) -> Iterator[bytes]:
        """What the resampler still holds. The next frame starts anew."""
        graph, self._kind, self._graph = self._graph, None, None
        if graph is not None:
            graph.end()
            yield from graph.pull()

    def _heard(self, sound: AudioFrame | int) -> AudioFrame | int:
        """The sound, or silence where the channel is missing: a stream may lose channels midway."""
        if isinstance(sound, int) or self._channel is None or self._channel < sound.layout.nb_channels:
            return sound
        return sound.samples * self._rate // sound.sample_rate

    def _is_ready(self, frame: AudioFrame) -> bool:
        return frame.format.packed.name == "s16" and frame.layout.nb_channels == 1 and frame.sample_rate == self._rate


class _Resampler:
    """A filter graph for one kind of frames. It gives blocks of STEP, since each costs about as much as a frame."""

    def __init__(self, sample_format: str, layout: str, rate: int, wanted: int, channel: int | None) -> None:
        self._graph = graph = Graph()  # must outlive its ends
        graph.threads = 1
        source = graph.add(
            "abuffer", sample_rate=str(rate), sample_fmt=sample_format, channel_layout=layout, time_base=f"1/{rate}"
        )
        nodes: list[FilterContext] = [source]
        if channel is not None:
            nodes.append(graph.add("pan", f"mono|c0=c{channel}"))
        elif layout.endswith("channels"):  # nobody said which is which, as in most WAV files: all count the same
            count = int(layout.split()[0])
            mix = "+".join(f"{1 / count:.9f}*c{channel}" for channel in range(count))
            nodes.append(graph.add("pan", f"mono|c0={mix}"))
        nodes.append(graph.add("aformat", sample_rates=str(wanted), sample_fmts="s16", channel_layouts="mono"))
        nodes.append(graph.add("asetnsamples", n=str(int(wanted * STEP)), p="0"))  # p: the last is not padded
        sink = graph.add("abuffersink")
        graph.link_nodes(*nodes, sink).configure()
        self._source, self._sink = source, sink

    def push(self, frame: AudioFrame) -> None:
        frame.pts = None  # times are counted in samples here; gaps in the container's would only trouble the filter
        self._source.push(frame)

    def end(self) -> None:
        self._source.push(None)

    def pull(self) -> Iterator[bytes]:
        while True:
            try:
                frame = self._sink.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            assert isinstance(frame, AudioFrame)
            yield _bytes(frame)


def _bytes(frame: AudioFrame) -> bytes:
    plane = memoryview(frame.planes[0])  # may be longer than its samples
    return plane[: frame.samples * 2].tobytes()
