"""python -m bench.growth: whether a stream costs the same when there are many, and when a recording is long."""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.climb import THREADS, Level, Pace, climb
from bench.pin import Cores
from bench.plot import Line, Panel, draw
from bench.rig import Rig, Worker, rig
from bench.table import Table
from bench.window import Window

SIZES, QUICK_SIZES = (50, 200, 800, 2000), (20, 100)
PACE, QUICK_PACE = Pace(), Pace(settle=1.0, windows=1, seconds=3.0, long_seconds=3.0)
HOURS, QUICK_HOURS = 6.0, 3.0
JOBS = 8
"""Long recordings at once; what grows with a recording then grows eightfold."""

LOOK_EVERY = 0.5
PARTS = ("start", "middle", "end")
LONG_TIMEOUT = 240.0
COLUMNS = ("what", "", "core µs", "own µs", "PSS MB", "p99 ms")
NOTES = (
    "core µs, own µs: microseconds of the core, and of the worker, for a second of audio. PSS: memory of the whole "
    "worker; threads, `ws:`.",
    "A stream more takes {slope:.0f} KB of PSS, between {few:,} and {most:,} streams.",
    "Long: {jobs} recordings of {hours:g} h at once, at full speed, in thirds of their audio; PSS at the "
    "third's end. Beside the first third the last costs {cost:+.0f} % of CPU for the same audio; {grown:+.2f} MB of "
    "PSS for each recording, which holds its transcript: {events:,.0f} events came.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Third:
    """A part of the long recordings' way."""

    audio_seconds: float
    core_seconds: float
    process_seconds: float
    events: float
    pss_mb: float

    @classmethod
    def of(cls, looks: Sequence[tuple[Window, float]]) -> "Third":
        """Sums; of memory the last."""
        windows = [window for window, _ in looks]
        return cls(
            audio_seconds=sum(window.audio_seconds for window in windows),
            core_seconds=sum(window.core_seconds for window in windows),
            process_seconds=sum(window.process_seconds for window in windows),
            events=sum(window.figures["events"] for window in windows),
            pss_mb=looks[-1][1],
        )

    @property
    def core_us(self) -> float:
        return 1e6 * self.core_seconds / self.audio_seconds

    @property
    def process_us(self) -> float:
        return 1e6 * self.process_seconds / self.audio_seconds


def thirds(looks: Sequence[tuple[Window, float]]) -> list[Third]:
    """The looks by how much of all the audio had been sent before them. Raises ValueError when there are too few."""
    whole = sum(window.audio_seconds for window, _ in looks)
    parts: list[list[tuple[Window, float]]] = [[], [], []]
    sent = 0.0
    for look in looks:
        parts[min(2, int(3 * sent / whole))].append(look)
        sent += look[0].audio_seconds
    if not all(parts):
        raise ValueError("the recordings were over too soon; take longer ones")
    return [Third.of(part) for part in parts]


def long_jobs(worker: Worker, recording: str) -> list[Third]:
    """Transcribe it several times at once, at full speed, and look on. Raises `NotReady` when it takes too long."""
    until = time.monotonic() + LONG_TIMEOUT
    ids = worker.send(JOBS, recording, pace=0)
    worker.wait_streams(JOBS, 30)
    looks: list[tuple[Window, float]] = []
    while (seen := worker.window(LOOK_EVERY)).figures["streams"] and time.monotonic() < until:
        looks.append((seen, sum(worker.pss_mb())))
    worker.wait(ids, max(1.0, until - time.monotonic()))
    return thirds(looks)


def measure(it: Rig, quick: bool) -> tuple[list[Level], list[Third]]:
    """More and more streams; then long ones."""
    levels = climb(it, THREADS, QUICK_SIZES if quick else SIZES, QUICK_PACE if quick else PACE)
    hours = QUICK_HOURS if quick else HOURS
    print(f"{JOBS} recordings of {hours:g} h ...", file=sys.stderr)
    with it.worker(THREADS, JOBS) as worker:
        return levels, long_jobs(worker, it.recording(3600 * hours))


def table_of(levels: Sequence[Level], long: Sequence[Third], hours: float) -> Table:
    """Streams, then thirds."""
    table = Table(title="Growth", command="python -m bench.growth", columns=COLUMNS)
    for level in levels:
        own, late = f"{level.median('process_us'):,.0f}", f"{level.figure('late_ms_p99'):.0f}"
        cost = f"{level.core_us:,.0f} ±{50 * level.spread:.0f}%"
        table.rows.append(("streams", f"{level.streams:,}", cost, own, f"{sum(level.pss_mb):.0f}", late))
    for name, third in zip(PARTS, long, strict=True):
        table.rows.append(
            ("long", name, f"{third.core_us:,.0f}", f"{third.process_us:,.0f}", f"{third.pss_mb:.0f}", "-")
        )
    facts: dict[str, float] = {
        "slope": slope_kb(levels),
        "few": levels[0].streams,
        "most": levels[-1].streams,
        "jobs": JOBS,
        "hours": hours,
        "cost": 100 * (long[-1].process_us / long[0].process_us - 1),
        "grown": (long[-1].pss_mb - long[0].pss_mb) / JOBS,
        "events": sum(third.events for third in long) / JOBS,
    }
    table.notes.extend(note.format(**facts) for note in NOTES)
    return table


def slope_kb(levels: Sequence[Level]) -> float:
    """Memory of a stream more, from the first number of streams to the last."""
    few, most = levels[0], levels[-1]
    more = most.streams - few.streams
    return 1024 * (sum(most.pss_mb) - sum(few.pss_mb)) / more if more else float("nan")


def picture(levels: Sequence[Level], long: Sequence[Third]) -> None:
    """Cost and memory over the number of streams, and over the length of a recording."""
    sizes = [level.streams for level in levels]
    cost = list(zip(sizes, (level.core_us for level in levels), strict=True))
    memory = list(zip(sizes, (sum(level.pss_mb) for level in levels), strict=True))
    spoken = [sum(third.audio_seconds for third in long[: at + 1]) / JOBS / 3600 for at in range(len(long))]
    over = [(hours, third.process_us) for hours, third in zip(spoken, long, strict=True)]
    held = [(hours, third.pss_mb) for hours, third in zip(spoken, long, strict=True)]
    panels = [
        Panel(title="Cost of a stream", x="streams", y="µs of core per second of audio", lines=[_line(cost)]),
        Panel(title="Memory of the worker", x="streams", y="MB PSS", lines=[_line(memory)]),
        Panel(title="Cost of a long job", x="hours of audio", y="µs per second of audio", lines=[_line(over)]),
        Panel(title=f"Memory with {JOBS} long jobs", x="hours of audio", y="MB PSS", lines=[_line(held)]),
    ]
    draw("Growth with streams and with length", panels, "growth")


def _line(points: Sequence[tuple[float, float]]) -> Line:
    return Line(label="threads ws", points=points)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and unless it was a quick look, store."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description="Cost and memory as things grow.")
    parser.add_argument("--quick", action="store_true", help="few streams, short recordings, and nothing stored")
    options = parser.parse_args(argv)
    cores = Cores.of_this_process()
    try:
        with rig() as it:
            levels, long = measure(it, options.quick)
    except KeyboardInterrupt:
        return 130
    table = table_of(levels, long, QUICK_HOURS if options.quick else HOURS)
    table.notes.append(cores.note())
    table.show()
    if not options.quick:
        picture(levels, long)
        table.notes.append("![Cost and memory](growth.png)")
        table.store("growth")
    return 0


if __name__ == "__main__":
    sys.exit(main())
