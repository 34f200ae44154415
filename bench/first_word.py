"""python -m bench.first_word: the time from a job's start to its first result, as the distance grows.

A warm pool, a connection for each job, and the official SDK, in the same run against the same emulator.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence

from bench.certificate import write_certificate
from bench.cost import proxy_cost
from bench.stage import Stage, stage
from bench.table import Table, milliseconds, quantile

ROUNDS, QUICK_ROUNDS = 15, 3
RACE_TIMEOUT = 300.0
# Without a distance it does not matter what is far away.
DISTANCES = (("-", 0.0), ("handshake", 50.0), ("handshake", 150.0), ("line", 50.0), ("line", 150.0))
COLUMNS = ("scheme", "delay on", "RTT ms", "warm ms", "fresh ms", "SDK ms", "fresh/warm", "SDK/warm")
NOTES = (
    "From the job's start to its first result: median, and in brackets the 95th percentile, of {rounds} rounds. Each "
    "round runs each way once. All audio is there at once.",
    "warm: lease a recogniser of the pool and transcribe. fresh: connect, transcribe. SDK: `dashscope` 2.0.2, "
    "`Recognition.start`, frames, `stop`. Ratios are of medians.",
    "handshake: only TCP's, TLS's and the upgrade's round trips are delayed. line: every byte is, as over a real "
    "distance; then a warm job still needs two round trips, one to task-started and one to the result.",
    "The proxy by itself adds {none:.2f} ms to a round trip of 0, {some:.2f} ms to one of 50 ms.",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and unless it was a quick look, store."""
    options = _parser().parse_args(argv)
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    try:
        with stage() as it:
            table = measure(it, rounds)
    except KeyboardInterrupt:
        return 130
    table.show()
    if not options.quick:
        table.store("first_word")
    return 0


def measure(it: Stage, rounds: int) -> Table:
    """The whole table."""
    table = Table(title="First word", command=f"python -m bench.first_word --rounds {rounds}", columns=COLUMNS)
    certificate = str(write_certificate(it.folder / "both.pem"))
    plain = it.emulator("--sentence-ms", "100")
    secured = it.emulator("--sentence-ms", "100", "--certificate", certificate)
    for url in (plain, secured):
        for on, round_trip_ms in DISTANCES:
            print(f"{url.split(':')[0]}, {round_trip_ms:g} ms on {on} ...", file=sys.stderr)
            times = _race(it, url, on, round_trip_ms, rounds, certificate)
            table.rows.append((url.split(":")[0], on, f"{round_trip_ms:g}", *_cells(times)))
    added = {"none": proxy_cost(it, 0.0), "some": proxy_cost(it, 50.0)}
    table.notes.extend(note.format(rounds=rounds, **added) for note in NOTES)
    return table


def _race(it: Stage, url: str, on: str, round_trip_ms: float, rounds: int, certificate: str) -> dict[str, list[float]]:
    with it.proxy(url, round_trip_ms, on if round_trip_ms else "line") as far:
        found: dict[str, list[float]] = it.ask(
            "bench.race",
            far,
            "--rounds",
            str(rounds),
            timeout=RACE_TIMEOUT,
            SSL_CERT_FILE=certificate,
            NO_PROXY="127.0.0.1",  # the SDK would use a proxy of the environment
        )
    return found


def _cells(times: dict[str, list[float]]) -> list[str]:
    middle = {name: statistics.median(values) for name, values in times.items()}
    shown = [f"{milliseconds(middle[name])} ({milliseconds(quantile(times[name], 0.95))})" for name in times]
    return [*shown, *(f"{middle[name] / middle['warm']:.1f}" for name in ("fresh", "sdk"))]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.first_word", description="Time to the first result.")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds, and nothing stored")
    parser.add_argument("--rounds", type=int, help=f"of each way for each line of the table ({ROUNDS})")
    return parser


if __name__ == "__main__":
    sys.exit(main())
