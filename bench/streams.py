"""python -m bench.streams: what a real-time stream costs, and how many one core holds, against the official SDK.

Full path: jobs through Celery and Redis, in a worker held to one core. Lateness is judged by the load server.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from statistics import fmean

from bench.climb import BARE, GEVENT, LATEST_MS, PREFORK, SDK, THREADS, Level, Pace, climb
from bench.pin import Cores
from bench.plot import Line, Panel, draw
from bench.rig import rig
from bench.table import Table
from bench.window import busy_share
from worker.recognition import reactor

LIKE = 80
"""Streams at which all ways are compared; the SDK still holds them."""

SIZES: dict[str, dict[str, tuple[int, ...]]] = {
    "ws": {
        SDK: (LIKE, 120, 160),
        BARE: (LIKE, 1000),
        THREADS: (LIKE, 1000, 1500, 2000, 2500, 3000),
        GEVENT: (LIKE, 500, 1000, 1500),
        PREFORK: (20, LIKE, 100),
    },
    "wss": {
        SDK: (LIKE, 120),
        BARE: (LIKE, 1000),
        THREADS: (LIKE, 1000, 1500, 2000),
        GEVENT: (LIKE, 500, 1000, 1500),
        PREFORK: (20, LIKE, 100),
    },
}
QUICK_LIKE = 40
QUICK_SIZES: dict[str, dict[str, tuple[int, ...]]] = {
    "ws": {SDK: (20, 40), THREADS: (40, 300), GEVENT: (40, 300), PREFORK: (10, 40)},
    "wss": {SDK: (40,), THREADS: (40, 300)},
}
QUICK_PACE = Pace(settle=1.0, windows=1, seconds=3.0, long_seconds=3.0)
NOISE_SECONDS = 3.0
COLUMNS = ("way", "streams", "core µs", "own µs", "core", "p50 ms", "p99 ms", "PSS", "server", "SDK/this")
NOTES = (
    "core µs: microseconds of the core for a second of audio (10 frames, 4 events): all that the core did, the "
    "kernel's loopback and other people's processes included. Median of {windows} windows, ± half of their range. own "
    "µs: what our processes are charged for. core: how busy it was.",
    "p50, p99: how late the frames came, by the load server's clock; medians. server: how busy that server was; its "
    "own lateness counts against what is measured.",
    "bare: the least Python that can stream (`bench/bare.py`): no pool, queue, file, deadline or transcript; a bound.",
    "PSS: memory for each stream more than on the way's first line; for prefork, of each child: it serves one stream.",
    "SDK/this: how many times more the official SDK (`dashscope` 2.0.2) takes at {like} streams over the same scheme, "
    "measured before and after all others (the last rows; the mean counts, as the machine drifts): by core µs, and in "
    "brackets by own µs: where they differ, other people's processes were at work.",
)


@dataclass(slots=True)
class Report:
    """All that was measured."""

    like: int
    windows: int
    levels: list[Level] = field(default_factory=list)
    again: list[Level] = field(default_factory=list)
    """The official SDK once more, after all others: the machine may have become faster or slower meanwhile."""
    noise: list[float] = field(default_factory=list)
    """How busy the measured core was before and after, while nothing of ours ran."""

    def ways(self) -> Iterable[list[Level]]:
        """The levels of each way and scheme."""
        for _, levels in groupby(self.levels, key=lambda level: (level.way, level.scheme)):
            yield list(levels)

    def ratio(self, level: Level) -> str:
        """How many times more the official SDK takes at like load, of the core and by itself; if it was measured."""
        like = (SDK, level.scheme, self.like)
        found = [one for one in (*self.levels, *self.again) if (one.way, one.scheme, one.streams) == like]
        if not found:
            return "-"
        core = fmean(one.core_us for one in found) / level.core_us
        own = fmean(one.median("process_us") for one in found) / level.median("process_us")
        return f"{core:.1f} ({own:.1f})"

    def rows(self) -> list[tuple[str, ...]]:
        """The figures under COLUMNS."""
        rows = [self._row(level, levels[0]) for levels in self.ways() for level in levels]
        return rows + [self._row(level, level) for level in self.again]

    def notes(self) -> list[str]:
        """What the figures are, and what follows from them."""
        told = [note.format(windows=self.windows, like=self.like) for note in NOTES]
        held = [self._held(levels) for levels in self.ways()]
        before, after = (f"{100 * share:.1f} %" for share in (self.noise[0], self.noise[-1]))
        plain = reactor.__file__.endswith(".py")
        ours = f"Our modules on a chunk's way: {'plain Python' if plain else 'compiled'}."
        calm = f"Noise: with nothing of ours running, the core was busy {before} before and {after} after."
        return [*told, f"Largest number with p99 ≤ {LATEST_MS:g} ms: {'; '.join(held)}.", ours, calm]

    def _held(self, levels: Sequence[Level]) -> str:
        most = max((level.streams for level in levels if level.holds), default=0)
        late = [level.streams for level in levels if not level.holds]
        end = f"not {late[0]:,}" if late else "no more was tried, or could be started"
        return f"{levels[0].way} `{levels[0].scheme}:` **{most:,}** ({end})"

    def _row(self, level: Level, first: Level) -> tuple[str, ...]:
        return (
            f"{level.way} {level.scheme}",
            f"{level.streams:,}",
            f"{level.core_us:,.0f} ±{50 * level.spread:.0f}%",
            f"{level.median('process_us'):,.0f}",
            f"{100 * level.median('core_share'):.0f}%",
            f"{level.figure('late_ms_p50'):.0f}",
            f"{level.figure('late_ms_p99'):.0f}" + ("" if level.holds else " late"),
            memory(level, first),
            f"{100 * level.median('load_share'):.0f}%",
            self.ratio(level),
        )


def memory(level: Level, first: Level) -> str:
    """Of a stream, or of a prefork child."""
    if level.way == PREFORK:
        children = level.pss_mb[1:]
        return f"{sum(children) / len(children):.1f} MB" if children else "-"
    more = level.streams - first.streams
    return f"{1024 * (sum(level.pss_mb) - sum(first.pss_mb)) / more:.0f} KB" if more else "-"


def measure(quick: bool, only: set[str]) -> Report:
    """Each way over each scheme, the official SDK first; with the machine's noise before and after."""
    pace = QUICK_PACE if quick else Pace()
    report = Report(QUICK_LIKE if quick else LIKE, pace.windows)
    core = Cores.of_this_process().measured
    report.noise.append(busy_share(core, NOISE_SECONDS))
    for scheme, ways in (QUICK_SIZES if quick else SIZES).items():
        chosen = {way: sizes for way, sizes in ways.items() if not only or way.lower() in only}
        if scheme in only or not only & SIZES.keys():
            with rig(secure=scheme == "wss") as it:
                for way, sizes in chosen.items():
                    report.levels.extend(climb(it, way, sizes, pace))
                if SDK in chosen:
                    report.again.extend(climb(it, SDK, [report.like], pace))
    report.noise.append(busy_share(core, NOISE_SECONDS))
    return report


def picture(report: Report, name: str) -> None:
    """Core use and lateness over the number of streams."""
    names = [SDK, THREADS, GEVENT, PREFORK, BARE]

    def lines(part: str) -> list[Line]:
        return [
            Line(
                label=f"{levels[0].way} {levels[0].scheme}",
                points=[(level.streams, _height(level, part)) for level in levels],
                colour=names.index(levels[0].way),
                dashed=levels[0].scheme == "wss",
            )
            for levels in report.ways()
        ]

    limit = (LATEST_MS, f"real-time: {LATEST_MS:g} ms")
    core = Panel(
        title="Use of one core",
        x="real-time streams",
        y="percent",
        lines=lines("core"),
        limit=(100, "all of it"),
        log=True,
    )
    late = Panel(
        title="Lateness, 99th percentile", x="real-time streams", y="ms", lines=lines("late"), limit=limit, log=True
    )
    draw("Real-time streams on one core", [core, late], name)


def _height(level: Level, part: str) -> float:
    # A logarithm has no zero; the load server's clock has whole milliseconds.
    return 100 * level.median("core_share") if part == "core" else max(1.0, level.figure("late_ms_p99"))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and unless it was a quick look, store: of a part under a name of its own."""
    parser = argparse.ArgumentParser(prog="python -m bench.streams", description="Real-time streams on one core.")
    parser.add_argument("--quick", action="store_true", help="few streams, short windows, and nothing stored")
    parser.add_argument(
        "--only", default="", metavar="NAMES", help="of sdk, bare, threads, gevent, prefork, ws, wss: a,b,c"
    )
    options = parser.parse_args(argv)
    only = {name.lower() for name in options.only.split(",") if name}
    if strange := only - {SDK.lower(), BARE, THREADS, GEVENT, PREFORK, *SIZES}:
        parser.error(f"--only does not know {', '.join(sorted(strange))}")
    try:
        report = measure(options.quick, only)
    except KeyboardInterrupt:
        return 130
    command = "python -m bench.streams" + (f" --only {','.join(sorted(only))}" if only else "")
    table = Table(title="Streams", command=command, columns=COLUMNS, rows=report.rows())
    table.notes.extend([*report.notes(), Cores.of_this_process().note()])
    table.show()
    if not options.quick:
        name = "_".join(["streams", *sorted(only)])
        picture(report, name)
        table.notes.append(f"![Core use and lateness over streams]({name}.png)")
        table.store(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
