"""More and more real-time streams on one core, until they are late: what each number of them costs.

A worker keeps its streams and gets more of them; what is no worker gets a new process for each number.
"""

import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

from bench.rig import SIZE, Rig, Subject, Worker
from bench.window import Window
from emulator.stack import NotReady
from worker.sizing import with_spare

LATEST_MS = 50.0
"""A stream is real-time if 99 of 100 frames are at most that late."""

COMPLETE = 0.97
"""The part of the audio that must arrive while it is spoken; less, and they fall behind."""

SDK, BARE, THREADS, GEVENT, PREFORK = "SDK", "bare", "threads", "gevent", "prefork"
PROGRAMS = {SDK: "bench.official", BARE: "bench.bare"}
"""Ways that are no worker: the official SDK, and the least that Python needs."""

STARTS_PER_SECOND = 20.0
"""As many as an account may start (the service's rate limit)."""

CONNECTIONS = "DASHSCOPE_CONNECTION_POOL_SIZE"
START_TIMEOUT = 30.0
RECORDING_SECONDS = 1200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a number of streams is measured: seconds until they have settled, windows, seconds of each."""

    settle: float = 2.0
    windows: int = 3
    seconds: float = 4.0
    long_seconds: float = 8.0
    """For few streams, whose cost is little beside the clock's tick."""

    def of(self, streams: int) -> float:
        return self.long_seconds if streams < 200 else self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """What so many streams cost by one way."""

    way: str
    scheme: str
    streams: int
    windows: tuple[Window, ...]
    pss_mb: tuple[float, ...]
    """Of the main process and of each child."""

    @property
    def core_us(self) -> float:
        """Microseconds of the core for a second of audio; median."""
        return statistics.median(window.core_us for window in self.windows)

    @property
    def spread(self) -> float:
        """How far the windows lie apart, as a part of their median."""
        found = [window.core_us for window in self.windows]
        return (max(found) - min(found)) / self.core_us

    @property
    def holds(self) -> bool:
        """Whether they are real-time, by the median of the windows."""
        whole = min(window.audio_seconds / window.seconds for window in self.windows) >= COMPLETE * self.streams
        return whole and self.figure("late_ms_p99") <= LATEST_MS and not self.figure("errors")

    def figure(self, name: str) -> float:
        """One of the load server's figures; median."""
        return statistics.median(window.figures[name] for window in self.windows)

    def median(self, name: str) -> float:
        """One of the windows' own figures; median."""
        return float(statistics.median(getattr(window, name) for window in self.windows))


class Crowd(Protocol):
    """Streams that can become more."""

    @property
    def subject(self) -> Subject: ...

    def grow(self, streams: int) -> None: ...


class OurCrowd:
    """Jobs in a worker."""

    def __init__(self, worker: Worker, kind: str, recording: str) -> None:
        self.subject = worker
        self._worker = worker
        self._kind = kind
        self._recording = recording
        self._sent = 0

    def grow(self, streams: int) -> None:
        """Send the missing jobs, and wait until they stream. Raises `NotReady`."""
        if self._kind != PREFORK:
            self._worker.keep(with_spare(streams))
        more = streams - self._sent
        self._worker.send(more, self._recording, over=more / STARTS_PER_SECOND)
        self._sent = streams
        self._worker.wait_streams(streams, START_TIMEOUT)


class ProgramCrowd:
    """Streams of a program of its own."""

    subject: Subject

    def __init__(self, it: Rig, stack: ExitStack, module: str) -> None:
        self._rig = it
        self._stack = stack
        self._module = module

    def grow(self, streams: int) -> None:
        """End the process, start one with so many, and wait until they stream. Raises `NotReady`."""
        self._stack.close()
        over = f"{streams / STARTS_PER_SECOND:g}"
        process = self._rig.subject("program", "-m", self._module, self._rig.url, str(streams), "--over", over)
        self.subject = self._stack.enter_context(process)
        self.subject.wait_streams(streams, START_TIMEOUT + streams / STARTS_PER_SECOND)


def climb(it: Rig, way: str, sizes: Sequence[int], pace: Pace) -> list[Level]:
    """Measure each number of streams in turn, up to the first that is not real-time; that one is the last."""
    levels: list[Level] = []
    with _crowd(it, way, sizes) as crowd:
        for streams in sizes:
            scheme = it.url.split(":")[0]
            print(f"{way}, {scheme}, {streams} streams ...", file=sys.stderr)
            try:
                crowd.grow(streams)
                levels.append(_level(crowd.subject, way, scheme, streams, pace))
            except NotReady as error:  # so many it cannot even start
                print(str(error), file=sys.stderr)
                break
            if not levels[-1].holds:
                break
    return levels


def _level(subject: Subject, way: str, scheme: str, streams: int, pace: Pace) -> Level:
    subject.window(pace.settle)
    windows = tuple(subject.window(pace.of(streams)) for _ in range(pace.windows))
    return Level(way=way, scheme=scheme, streams=streams, windows=windows, pss_mb=tuple(subject.pss_mb()))


@contextmanager
def _crowd(it: Rig, way: str, sizes: Sequence[int]) -> Iterator[Crowd]:
    with ExitStack() as stack:
        if way in PROGRAMS:
            yield ProgramCrowd(it, stack, PROGRAMS[way])
            return
        few, most = min(sizes), max(sizes)
        # Told to keep more as there are more streams, or the first would pay for the connections of the last.
        grown = {} if way == PREFORK else {SIZE: str(with_spare(few)), CONNECTIONS: str(with_spare(most))}
        worker = stack.enter_context(it.worker(way, most, **grown))
        yield OurCrowd(worker, way, it.recording(RECORDING_SECONDS))
