"""python -m bench.http_reuse: what kept connections save when text models are asked, over TLS, as the distance grows.

Kept against fresh ones, blocking and in an event loop, in the same run against the same emulator.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from bench.certificate import write_certificate
from bench.stage import Stage, stage
from bench.table import Table, milliseconds, quantile

REQUESTS, AT_ONCE, ROUNDS, QUICK_ROUNDS = 200, 8, 5, 1
TIMEOUT = 600.0
DISTANCES = (0.0, 10.0, 50.0)
COLUMNS = ("RTT ms", "way", "kept ms", "fresh ms", "ratio", "kept /s", "fresh /s", "kept made", "fresh made")
NOTES = (
    "{requests} requests a round, {at_once} at a time, rounds: {rounds}, in each of them every way once; over TLS 1.3.",
    "ms: of one request, median, and in brackets the 95th percentile; the ratio is of medians. /s: requests a second. "
    "made: connections. Both are medians of the rounds.",
    "sync kept: the worker's blocking client. sync fresh: the same with a pool for each request. async kept: the "
    "worker's client in its event loop. async fresh: a session of aiohttp for each request. All share one TLS context.",
    "The model answers at once: what is measured is the way there and back. RTT is added by a proxy.",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and unless it was a quick look, store."""
    parser = argparse.ArgumentParser(prog="python -m bench.http_reuse", description="Kept and fresh connections.")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} round, and nothing stored")
    options = parser.parse_args(argv)
    try:
        with stage() as it:
            table = measure(it, QUICK_ROUNDS if options.quick else ROUNDS)
    except KeyboardInterrupt:
        return 130
    table.show()
    if not options.quick:
        table.store("http_reuse")
    return 0


def measure(it: Stage, rounds: int) -> Table:
    """The whole table."""
    table = Table(title="Connections to text models", command="python -m bench.http_reuse", columns=COLUMNS)
    certificate = str(write_certificate(it.folder / "both.pem"))
    service = f"https://{urlsplit(it.emulator('--certificate', certificate)).netloc}"
    for round_trip_ms in DISTANCES:
        print(f"{round_trip_ms:g} ms ...", file=sys.stderr)
        table.rows.extend(_rows(round_trip_ms, _race(it, service, round_trip_ms, rounds, certificate)))
    table.notes.extend(note.format(requests=REQUESTS, at_once=AT_ONCE, rounds=rounds) for note in NOTES)
    return table


def _race(it: Stage, service: str, round_trip_ms: float, rounds: int, certificate: str) -> dict[str, Any]:
    with it.proxy(service, round_trip_ms, "line") as far:
        found: dict[str, Any] = it.ask(
            "bench.asks",
            f"{far}/api/v1",
            *("--book", service, "--rounds", str(rounds), "--requests", str(REQUESTS), "--at-once", str(AT_ONCE)),
            timeout=TIMEOUT,
            SSL_CERT_FILE=certificate,
        )
    return found


def _rows(round_trip_ms: float, laps: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    for way in ("sync", "async"):
        kept, fresh = laps[f"{way} kept"], laps[f"{way} fresh"]
        cells = [_times(kept), _times(fresh)]
        ratio = _median(fresh) / _median(kept)
        rates = [f"{statistics.median(REQUESTS / lap['seconds'] for lap in lapped):.0f}" for lapped in (kept, fresh)]
        seen = [f"{statistics.median(lap['connections'] for lap in lapped):.0f}" for lapped in (kept, fresh)]
        rows.append((f"{round_trip_ms:g}", way, *cells, f"{ratio:.1f}", *rates, *seen))
    return rows


def _all(laps: list[dict[str, Any]]) -> list[float]:
    return [seconds for lap in laps for seconds in lap["times"]]


def _median(laps: list[dict[str, Any]]) -> float:
    return statistics.median(_all(laps))


def _times(laps: list[dict[str, Any]]) -> str:
    return f"{milliseconds(_median(laps))} ({milliseconds(quantile(_all(laps), 0.95))})"


if __name__ == "__main__":
    sys.exit(main())
