"""python -m bench.quota_cost: what an account's quota costs Redis, for each job, with few workers and with many.

The workers are simulated: each has its mailbox, its heartbeat and its threads that ask, as a process has, and runs no
streams. All the time more jobs wait than may run.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from bench.table import Table
from emulator.stack import Stack
from worker.beat import Beat, impatient
from worker.quota import Allowance, Ledger, Mailbox, NoQuota, Quota, Wish
from worker.quota.ledger import lane_key, slots_key
from worker.quota.scripts import RENEW
from worker.runtime import mail_client, redis_client
from worker.stops import Stop

WORKERS = (2, 8, 32)
JOBS = 64
"""Jobs at once of all workers together."""
STREAMS = 12
STARTS = 100.0
JOB_SECONDS = 0.3
SECONDS, QUICK_SECONDS = 20.0, 3.0
PATIENCE = 5.0
COLUMNS = ("workers", "waiting", "jobs/s", "of most", "round trips", "Redis µs", "beats/s", "µs/beat")
NOTES = (
    f"A job holds one of {STREAMS} slots for {JOB_SECONDS:g} s; {JOBS} jobs at once ask, in all workers together, so "
    "that `waiting` stand in line. of most: against slots that are never empty.",
    "round trips, Redis µs: for each job, to ask, to be told, to give back, and to look after the line; heartbeats are "
    "taken off. beats: signs of life of all workers, one a second each, whatever their number of jobs; they ride on a "
    "round trip that each process makes anyway.",
    "Redis µs: its own time in the scripts, by its own count (`INFO commandstats`).",
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What Redis has done so far."""

    trips: float
    microseconds: float


class Simulated:
    """One worker's share."""

    def __init__(self, url: str, jobs: int, done: list[float], over: threading.Event) -> None:
        self._client = redis_client(url)
        allowance = Allowance(streams=STREAMS, starts_per_second=STARTS, opens_per_second=STARTS)
        self._mailbox = Mailbox(mail_client(url))
        self.quota = Quota(
            Ledger(self._client, "bench", allowance),
            self._mailbox,
            tenants={},
            patience=PATIENCE,
            redis_patience=PATIENCE,
        )
        self._beat = Beat(impatient(url))
        self._beat.carry(self.quota)
        self._done = done
        self._over = over
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(jobs)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        for thread in self._threads:
            thread.join(2 * PATIENCE)
        self._beat.stop()
        self._mailbox.close()
        self._client.close()

    def _work(self) -> None:
        while not self._over.is_set():
            with suppress(NoQuota):
                self._run()
                self._done.append(time.monotonic())

    def _run(self) -> None:
        stop = Stop()
        with self.quota.slot(Wish(model="m", queue="transcribe"), stop, lambda: None) as slot:
            slot.await_start(stop)
            time.sleep(JOB_SECONDS)
            slot.ended(well=True)


def cost(client: "redis.Redis") -> Cost:
    """Its own counts."""
    info: Any = client.info("all")
    return Cost(float(info["total_reads_processed"]), info.get("cmdstat_evalsha", {"usec": 0})["usec"])


def row(url: str, workers: int, seconds: float) -> tuple[str, ...]:
    """The figures under COLUMNS."""
    print(f"{workers} workers ...", file=sys.stderr)
    client = redis.Redis.from_url(url)
    client.flushdb()
    done: list[float] = []
    over = threading.Event()
    with ExitStack() as ends:
        made = [Simulated(url, JOBS // workers, done, over) for _ in range(workers)]
        for one in made:
            ends.callback(one.close)
        ends.callback(over.set)
        time.sleep(2.0)  # all ask, all are in line
        before, jobs_before, began = cost(client), len(done), time.monotonic()
        waiting = sum(int(one.quota.figures()["quota_waiting"]) for one in made)
        time.sleep(seconds)
        after, jobs, took = cost(client), len(done) - jobs_before, time.monotonic() - began
    each = beat_cost(client)
    beats = workers * took
    client.close()
    return (
        str(workers),
        str(waiting),
        f"{jobs / took:.1f}",
        f"{100 * jobs / took * JOB_SECONDS / STREAMS:.0f}%",
        f"{(after.trips - before.trips - beats) / jobs:.2f}",
        f"{(after.microseconds - before.microseconds - beats * each) / jobs:.0f}",
        f"{workers:.0f}",
        f"{each:.0f}",
    )


def beat_cost(client: "redis.Redis") -> float:
    """Microseconds of Redis for a sign of life of a worker that has its share of the slots."""
    times = 500
    call = RENEW.call([lane_key("bench", "m"), slots_key("bench", "m")], 2, "a.1", "a.2")
    call.run(client)
    before = cost(client)
    for _ in range(times):
        call.run(client)
    return (cost(client).microseconds - before.microseconds) / times


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and unless it was a quick look, store."""
    parser = argparse.ArgumentParser(prog="python -m bench.quota_cost", description="What a quota costs Redis.")
    parser.add_argument("--quick", action="store_true", help="a short time, and nothing stored")
    options = parser.parse_args(argv)
    table = Table(title="What the quota costs Redis", command="python -m bench.quota_cost", columns=COLUMNS)
    try:
        with tempfile.TemporaryDirectory(prefix="stenopool-bench-") as folder, Stack(Path(folder)) as stack:
            seconds = QUICK_SECONDS if options.quick else SECONDS
            table.rows.extend(row(stack.redis_url, workers, seconds) for workers in WORKERS)
    except KeyboardInterrupt:
        return 130
    table.notes.extend(NOTES)
    table.show()
    if not options.quick:
        table.store("quota_cost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
