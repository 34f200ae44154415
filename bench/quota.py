"""python -m bench.quota: a fleet at the limits of its account, which punishes who crosses them.

With a shared quota, and as workers that know nothing of each other, in the same run: many short jobs; the same while a
worker is killed and another joins; and a service that is away for a minute.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.fleet import AT_ONCE, OPENS, PENALTY, STARTS, STREAMS, Fleet, Outcome, fleet
from bench.plot import Line, Panel, draw
from bench.table import Table
from emulator.stack import Stack

JOBS, QUICK_JOBS = 500, 60
SECONDS = 1.0
"""Of a job whose streams are short of room: twelve of them at once are fewer than may begin in a second."""

SHORTER = 0.3
"""Seconds of a job whose starts are short."""

LONGER = 3.0
"""Seconds of a job of the outage, so that some are cut in their midst."""

OUTAGE_JOBS = 120
BEFORE, AWAY, QUICK_AWAY = 8.0, 60.0, 6.0
SHARED, ALONE = "shared", "each for itself"
COLUMNS = (
    "what",
    "quota",
    "jobs",
    "succeeded",
    "tries lost",
    "seconds",
    "starts",
    "refused",
    "refused %",
    "streams max",
    "streams used %",
    "starts used %",
    "starts/s max",
    "opens/s max",
)
NOTES = (
    f"4 workers, threads, {AT_ONCE} jobs at once each. The emulator allows {STREAMS} streams at once, {STARTS} starts "
    f"and {OPENS} opens in a second, and refuses everything for {PENALTY:g} s to who crosses a rate.",
    "each for itself: the same workers, each of which believes that it has the account alone.",
    f"used: of the {STREAMS} streams, and of the {STARTS} starts a second, while jobs waited, from the moment at which "
    "all streams could be taken; one of the two is what jobs wait for. tries lost: attempts beyond the first of each "
    "job; those of a killed worker's jobs are made again, when their messages come back after "
    "STENOPOOL_VISIBILITY_TIMEOUT (30 s).",
    "opens: connections asked for, those that were refused included.",
)


def steady(it: Fleet) -> None:
    it.wait()


def killed(it: Fleet) -> None:
    """A worker is lost, another comes."""
    third = len(it.jobs) // 3
    it.wait(lambda ended: ended >= third)
    it.kill(it.workers[1])
    it.start(1)
    it.wait()


def outage(away: float) -> Callable[[Fleet], None]:
    """The service goes away, and comes back."""

    def play(it: Fleet) -> None:
        began = time.monotonic()
        it.wait(lambda _: time.monotonic() - began >= BEFORE)
        it.turn_off()
        it.wait(lambda _: time.monotonic() - began >= BEFORE + away)
        it.turn_on()
        it.wait()

    return play


def run(stack: Stack, database: int, shares: bool, jobs: int, seconds: float, play: Callable[[Fleet], None]) -> Outcome:
    """So many jobs, and what happens meanwhile."""
    with fleet(stack, database, shares=shares) as it:
        began = time.monotonic()
        it.send(jobs, seconds)
        play(it)
        return it.outcome(began)


def row(what: str, quota: str, found: Outcome) -> tuple[str, ...]:
    """The figures under COLUMNS."""
    return (
        what,
        quota,
        str(found.states.total()),
        str(found.states["succeeded"]),
        str(found.spent),
        f"{found.seconds:.0f}",
        str(found.starts),
        str(found.refused),
        f"{100 * found.refused_share:.1f}",
        str(found.streams_max),
        f"{100 * found.used_streams:.1f}" if what != "outage" else "-",
        f"{100 * found.used_starts:.1f}" if what != "outage" else "-",
        str(max(found.per_second["starts"])),
        str(max(found.per_second["upgrades"])),
    )


def picture(found: dict[str, Outcome], away: float) -> None:
    """Opens and starts of each second around the outage."""
    panels = [
        Panel(
            title=title,
            x=f"seconds; the service is away from about {BEFORE:g} to {BEFORE + away:g}",
            y="in a second",
            lines=[
                Line(label=quota, points=list(enumerate(outcome.per_second[kind])), colour=number)
                for number, (quota, outcome) in enumerate(found.items())
            ],
            limit=limit,
        )
        for kind, title, limit in (
            ("upgrades", "Connections asked for", (float(OPENS), "allowed")),
            ("starts", "Recognitions begun", (float(STARTS), "allowed")),
        )
    ]
    draw("A minute without the service: 4 workers of one account", panels, "quota")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and unless it was a quick look, store."""
    parser = argparse.ArgumentParser(prog="python -m bench.quota", description="A fleet at its account's limits.")
    parser.add_argument("--quick", action="store_true", help="few jobs, a short outage, and nothing stored")
    options = parser.parse_args(argv)
    jobs, away = (QUICK_JOBS, QUICK_AWAY) if options.quick else (JOBS, AWAY)
    cases = {
        f"{jobs} jobs of {SECONDS:g} s": (jobs, SECONDS, steady),
        f"{jobs} jobs of {SHORTER:g} s": (jobs, SHORTER, steady),
        "worker killed": (jobs, SECONDS, killed),
        "outage": (OUTAGE_JOBS if not options.quick else jobs, LONGER, outage(away)),
    }
    table = Table(title="A fleet at its account's limits", command="python -m bench.quota", columns=COLUMNS)
    found: dict[str, Outcome] = {}
    try:
        with tempfile.TemporaryDirectory(prefix="stenopool-bench-") as folder, Stack(Path(folder)) as stack:
            database = 0
            for what, case in cases.items():
                for quota in (SHARED, ALONE):
                    print(f"{what}, {quota} ...", file=sys.stderr)
                    database += 1
                    found[quota] = run(stack, database, quota == SHARED, *case)
                    table.rows.append(row(what, quota, found[quota]))
    except KeyboardInterrupt:
        return 130
    table.notes.extend(NOTES)
    table.show()
    if not options.quick:
        table.store("quota")
        picture(found, away)
    return 0


if __name__ == "__main__":
    sys.exit(main())
