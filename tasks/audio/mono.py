"""Decoded frames of any kind to mono 16-bit PCM at one rate."""

from collections.abc import Iterator

import av
from av.audio.frame import AudioFrame
from av.filter import Graph

__all__ = ["Mono"]


class Mono:
    """Mixes and resamples; hands on mono 16-bit frames at the right rate untouched, bit for bit.

    PyAV's AudioResampler is not used because its filter graph starts a thread per core for every recording, and
    because it refuses a stream whose rate or channels change midway, as chained Ogg and AAC with late SBR do.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._kind: tuple[str, str, int] | None = None
        self._graph: Graph | None = None

    def convert(self, frame: AudioFrame) -> Iterator[bytes]:
        """The PCM that this frame makes available, as a few blocks or none."""
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind != self._kind:
            yield from self.flush()
            self._kind, self._graph = kind, None if self._is_ready(frame) else self._build(*kind)
        if self._graph is None:
            yield _bytes(frame)
            return
        frame.pts = None  # times are counted in samples here; gaps in the container's would only trouble the filter
        self._graph.push(frame)
        yield from self._pull()

    def flush(self) -> Iterator[bytes]:
        """What the resampler still holds. The next frame starts anew."""
        if self._graph is not None:
            self._graph.push(None)
            yield from self._pull()
        self._kind = self._graph = None

    def _is_ready(self, frame: AudioFrame) -> bool:
        return frame.format.packed.name == "s16" and frame.layout.nb_channels == 1 and frame.sample_rate == self._rate

    def _pull(self) -> Iterator[bytes]:
        assert self._graph is not None
        while True:
            try:
                frame = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            assert isinstance(frame, AudioFrame)
            yield _bytes(frame)

    def _build(self, sample_format: str, layout: str, rate: int) -> Graph:
        graph = Graph()
        graph.threads = 1
        nodes = [
            graph.add(
                "abuffer",
                sample_rate=str(rate),
                sample_fmt=sample_format,
                channel_layout=layout,
                time_base=f"1/{rate}",
            )
        ]
        if layout.endswith("channels"):  # nobody said which is which, as in most WAV files: all count the same
            count = int(layout.split()[0])
            mix = "+".join(f"{1 / count:.9f}*c{channel}" for channel in range(count))
            nodes.append(graph.add("pan", f"mono|c0={mix}"))
        nodes.append(graph.add("aformat", sample_rates=str(self._rate), sample_fmts="s16", channel_layouts="mono"))
        nodes.append(graph.add("abuffersink"))
        graph.link_nodes(*nodes).configure()
        return graph


def _bytes(frame: AudioFrame) -> bytes:
    return bytes(frame.planes[0])[: frame.samples * 2]  # a plane may be longer than its samples
