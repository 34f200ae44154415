"""python -m bench.start: many jobs that start in one moment, and the time to the first result of each.

A warm pool, a connection for each job, and the official SDK, in the same run against the same load server.
"""

import argparse
import itertools
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

from bench.pin import Cores
from bench.rig import Rig, rig
from bench.span import answer
from bench.table import Table, milliseconds, quantile

JOBS, QUICK_JOBS = 200, 50
ROUNDS, QUICK_ROUNDS = 5, 1
TIMEOUT = 600.0
ROUND_TRIPS = (0.0, 20.0)
COLUMNS = ("scheme", "audio", "RTT ms", "jobs", "warm ms", "fresh ms", "SDK ms", "fresh/warm", "SDK/warm", "lost")
NOTES = (
    "From the moment at which all jobs start to each one's first result: the median of its jobs, and in brackets the "
    "95th percentile; both are medians of {rounds} rounds. Each round runs each way once.",
    "Audio: all there at once; or live, a tenth of a second each tenth of a second, for two seconds. The load server "
    "says its first result to the first of them.",
    "warm: lease a recogniser of a pool with one for each job, and transcribe. fresh: connect, transcribe. SDK: "
    "`dashscope` 2.0.2, `Recognition.start`, frames, `stop`. A thread for each job; no Celery. Ratios: of the medians, "
    "and in brackets of the 95th percentiles. lost: jobs that failed; they are missing in the times.",
    "RTT: a proxy delays every byte, as over a real distance.",
)


@contextmanager
def distant(it: Rig, round_trip_ms: float) -> Iterator[str]:
    """A URL that leads over a distance to a load server that says its first result to the first frame."""
    secured = [option for name in it.folder.glob("*.pem") for option in ("--certificate", str(name))]
    with _running(it, "bench.load", "--first-after", "0.1", *secured) as near:
        port = str(urlsplit(near.rstrip(",")).port)
        with _running(it, "bench.proxy", "--to", port, "--round-trip-ms", f"{round_trip_ms:g}") as far:
            yield urlsplit(it.url)._replace(netloc=far).geturl()


@contextmanager
def _running(it: Rig, module: str, *options: str) -> Iterator[str]:
    """Where it listens."""
    process = it.run(module, "-m", module, *options)
    try:
        process.wait_until(lambda found: "listening on " in found.output and found.output.endswith("\n"))
        yield process.output.split("listening on ")[1].split()[0]
    finally:
        process.stop(timeout=2.0)


def row(it: Rig, scheme: str, live: bool, round_trip_ms: float, jobs: int, rounds: int) -> tuple[str, ...]:
    """The figures under COLUMNS."""
    audio = "live" if live else "at once"
    print(f"{scheme}, {audio}, {round_trip_ms:g} ms ...", file=sys.stderr)
    with distant(it, round_trip_ms) as url:
        command = ["-m", "bench.sprint", url, "--jobs", str(jobs), "--rounds", str(rounds)]
        command += ["--live"] if live else []
        times: dict[str, list[list[float]]] = answer(it.run("sprint", *command, measured=True), TIMEOUT)
    middle = {name: statistics.median(map(statistics.median, laps)) for name, laps in times.items()}
    late = {name: statistics.median(quantile(lap, 0.95) for lap in laps) for name, laps in times.items()}
    lost = {name: sum(jobs - len(lap) for lap in laps) for name, laps in times.items()}
    return (
        scheme,
        audio,
        f"{round_trip_ms:g}",
        str(jobs),
        *(f"{milliseconds(middle[name])} ({milliseconds(late[name])})" for name in times),
        *(f"{middle[name] / middle['warm']:.1f} ({late[name] / late['warm']:.1f})" for name in ("fresh", "sdk")),
        ", ".join(f"{name} {count}" for name, count in lost.items() if count) or "-",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and unless it was a quick look, store."""
    parser = argparse.ArgumentParser(prog="python -m bench.start", description="Time to the first result of many jobs.")
    parser.add_argument("--quick", action="store_true", help="few jobs, one round, and nothing stored")
    options = parser.parse_args(argv)
    jobs, rounds = (QUICK_JOBS, QUICK_ROUNDS) if options.quick else (JOBS, ROUNDS)
    table = Table(title="Many starts at once", command="python -m bench.start", columns=COLUMNS)
    try:
        for scheme in ("wss", "ws"):
            with rig(secure=scheme == "wss") as it:
                ways = itertools.product((False, True), ROUND_TRIPS)
                table.rows.extend(row(it, scheme, live, round_trip, jobs, rounds) for live, round_trip in ways)
    except KeyboardInterrupt:
        return 130
    table.notes.extend(note.format(rounds=rounds) for note in NOTES)
    table.notes.append(Cores.of_this_process().note())
    table.show()
    if not options.quick:
        table.store("start")
    return 0


if __name__ == "__main__":
    sys.exit(main())
