"""python -m bench.trips: how often a worker goes to Redis: by itself, for a job, for a final, for a stream at work.

A round trip is a read of the server's (`total_reads_processed`): commands that came together are one.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import redis
from celery import Celery

from bench.pin import Cores
from bench.rig import Rig, Worker, rig
from bench.table import Table
from config.queues import PLAIN_QUEUE

AT_ONCE, QUICK_AT_ONCE = 50, 10
SECONDS, QUICK_SECONDS = 20.0, 10.0
TIMEOUT = 120.0
PARKED = "parked"
FINALS = 10
FINAL_SECONDS = 3  # between the load server's finals
PACE = 10.0
SLOW = 0.05
"""Times as fast as real time: so slow that no final comes while streams are watched."""

SHOWN = 5
COLUMNS = ("what", "round trips", "commands", "most of them")
NOTES = (
    "A round trip is a read of Valkey's: commands that came together are one. Commands within scripts are counted too. "
    "What the benchmark itself asks is taken off.",
    "idle: a worker of {at_once} threads with nothing to do. job: {at_once} at once with one final each, from the "
    "queue to their end, without what the idle worker does in that time; final: each of {finals} more, without what "
    "the longer job does by the clock.",
    "streams: all that a worker does in which {at_once} are at work while nothing happens: heartbeats. One that is "
    "full asks for no jobs, so this can be less than idle.",
)


@dataclass(frozen=True, slots=True)
class Count:
    """What came to Redis within `seconds`."""

    seconds: float
    trips: float
    commands: dict[str, float]

    def without(self, other: "Count", times: float) -> "Count":
        """What is left when so many times the other is taken off."""
        names = self.commands.keys() | other.commands.keys()
        left = {name: self.commands.get(name, 0) - times * other.commands.get(name, 0) for name in names}
        return Count(self.seconds, self.trips - times * other.trips, left)

    def beyond(self, idle: "Count") -> "Count":
        """What is left when the idle worker's part of the time is taken off."""
        return self.without(idle, self.seconds / idle.seconds)

    def row(self, what: str, share: float) -> tuple[str, ...]:
        """Each divided by `share`."""
        common = sorted(self.commands.items(), key=lambda item: -item[1])[:SHOWN]
        which = ", ".join(f"{name} {count / share:.2g}" for name, count in common if count / share >= 0.05)
        return what, f"{self.trips / share:.2f}", f"{sum(self.commands.values()) / share:.2f}", which


class Meter:
    """Counts what others ask of Redis; knows what it asked itself."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(url)
        self._app = Celery("bench", broker=url, set_as_current=False)
        self._own = 0
        self._own_commands: dict[str, float] = {}

    def park(self, count: int, reference: str, pace: float) -> None:
        """Put jobs where no worker sees them, so that their sending is not counted."""
        for _ in range(count):
            self._app.send_task("tasks.transcribe", args=[reference], kwargs={"pace": pace}, queue=PARKED)

    def release(self) -> None:
        """Let the worker have them."""
        self._ask(("RENAME", PARKED, PLAIN_QUEUE))

    def is_done(self) -> bool:
        """Whether no message waits or is at work."""
        return not any(self._ask(("LLEN", PLAIN_QUEUE), ("HLEN", "unacked")))

    def count(self, act: Callable[[], object]) -> Count:
        """What others asked while the act lasted."""
        began, before = time.monotonic(), self._state()
        act()
        found = self._state().without(before, 1)
        return Count(time.monotonic() - began, found.trips, found.commands)

    def close(self) -> None:
        self._redis.close()
        self._app.close()

    def _state(self) -> Count:
        """What others have asked so far."""
        stats, commands = self._ask(("INFO", "stats"), ("INFO", "commandstats"))
        asked = {name.removeprefix("cmdstat_"): float(found["calls"]) for name, found in commands.items()}
        mine = Count(0.0, self._own, self._own_commands)
        return Count(0.0, float(stats["total_reads_processed"]), asked).without(mine, 1)

    def _ask(self, *commands: tuple[str, ...]) -> list[Any]:
        self._own += 1
        for name, *_ in commands:
            self._own_commands[name.lower()] = self._own_commands.get(name.lower(), 0) + 1
        with self._redis.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
            return list(pipeline.execute())


def jobs(it: Rig, worker: Worker, meter: Meter, count: int, seconds: float) -> Count:
    """So many jobs of so much audio at once, from the queue to their end."""
    it.load.reset()
    meter.park(count, it.recording(seconds), PACE)

    def act() -> None:
        meter.release()
        worker.wait_until(lambda: it.load.figures()["tasks_finished"] >= count, TIMEOUT)
        worker.wait_until(meter.is_done, TIMEOUT)

    return meter.count(act)


def at_work(it: Rig, worker: Worker, meter: Meter, count: int, seconds: float) -> Count:
    """So many streams that are at work while nothing happens."""
    meter.park(count, it.recording(60), SLOW)
    meter.release()
    worker.wait_streams(count, TIMEOUT)
    time.sleep(1)  # what begins a job is not to be counted
    return meter.count(lambda: time.sleep(seconds))


def measure(it: Rig, at_once: int, seconds: float) -> list[tuple[str, ...]]:
    """The rows."""
    with it.worker("threads", at_once) as worker, closing(Meter(it.redis_url)) as meter:
        jobs(it, worker, meter, at_once, FINAL_SECONDS)  # the first ones load scripts, and connect
        idle = meter.count(lambda: time.sleep(seconds))
        short = jobs(it, worker, meter, at_once, FINAL_SECONDS).beyond(idle)
        long = jobs(it, worker, meter, at_once, FINAL_SECONDS * (1 + FINALS)).beyond(idle)
        busy = at_work(it, worker, meter, at_once, seconds)
    longer = long.seconds - short.seconds
    more = long.without(short, 1).without(busy.beyond(idle), longer / busy.seconds)
    return [
        idle.row("idle, a second", idle.seconds),
        short.row("job with one final", at_once),
        more.row("each further final", FINALS * at_once),
        busy.row(f"{at_once} streams, a second", busy.seconds),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and unless it was a quick look, store."""
    parser = argparse.ArgumentParser(prog="python -m bench.trips", description="Round trips to Redis.")
    parser.add_argument("--quick", action="store_true", help="few jobs, a short time, and nothing stored")
    options = parser.parse_args(argv)
    at_once, seconds = (QUICK_AT_ONCE, QUICK_SECONDS) if options.quick else (AT_ONCE, SECONDS)
    table = Table(title="Round trips to Redis", command="python -m bench.trips", columns=COLUMNS)
    try:
        with rig() as it:
            table.rows.extend(measure(it, at_once, seconds))
    except KeyboardInterrupt:
        return 130
    table.notes.extend(note.format(at_once=at_once, finals=FINALS) for note in NOTES)
    table.notes.append(Cores.of_this_process().note())
    table.show()
    if not options.quick:
        table.store("trips")
    return 0


if __name__ == "__main__":
    sys.exit(main())
