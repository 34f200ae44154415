"""python -m bench.jobs: how many one-second jobs a worker on one core completes, and what a job costs beside its audio.

Full path, real time; against a task that does nothing, in the same worker.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing

import redis
from celery import Celery

from bench.pin import Cores
from bench.rig import Rig, Worker, rig
from bench.span import middle, span
from bench.table import Table
from bench.window import Window
from config.queues import PLAIN_QUEUE
from emulator.stack import NotReady

WAYS = (("threads", 50), ("threads", 200), ("gevent", 50), ("gevent", 200), ("prefork", 4))
JOB_SECONDS = 0.9
"""What a job lasts if nothing takes time: the last tenth of its audio is due then."""

NOTHING = "celery.accumulate"
"""A task of Celery's own that returns what it is given."""

WINDOWS, QUICK_WINDOWS = 3, 1
SECONDS, QUICK_SECONDS = 8.0, 3.0
NOTHINGS, QUICK_NOTHINGS = 2000, 300
TIMEOUT = 120.0
COLUMNS = (
    "pool",
    "at once",
    "jobs/s",
    "±",
    "of most",
    "core",
    "others",
    "ms/job",
    "p99 ms",
    "server",
    "no-ops/s",
    "ms/no-op",
)
NOTES = (
    "jobs/s: jobs of 1 s of audio, in real time, that ended in a second; median of {windows} windows, ± half of their "
    "spread. There is always a queue. of most: against jobs that last 0.9 s, until the last of their audio is due.",
    "ms/job: the measured core's busy time, the kernel's loopback included, for each job: all of it, its second of "
    "audio too. core: how busy it was; others: the part of it that our processes are not charged for. p99 ms: how late "
    "the frames came, by the load server's clock. server: how busy that server was.",
    "no-op: Celery's own task `celery.accumulate`, in the same worker with the same settings.",
)


class Queue:
    """Fills and watches the worker's queue, beside the rig's own client."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(url)
        self._app = Celery("bench", broker=url, set_as_current=False)

    def put(self, count: int, name: str) -> None:
        """So many messages for a task that needs no arguments."""
        for _ in range(count):
            self._app.send_task(name, queue=PLAIN_QUEUE, ignore_result=True)

    def is_done(self) -> bool:
        """Whether nothing waits or is at work."""
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.llen(PLAIN_QUEUE)
            pipeline.hlen("unacked")
            return not any(pipeline.execute())

    def close(self) -> None:
        self._redis.close()
        self._app.close()


def windows(it: Rig, worker: Worker, at_once: int, options: argparse.Namespace) -> Iterator[Window]:
    """Windows of a worker that always has jobs to do. Raises `NotReady` when it has not."""
    # Not all in step; and more of them than can end until the last window does.
    worker.send(at_once, it.recording(1), over=1.0)
    worker.send(round(at_once * (1 + options.windows) * (options.seconds + 1)), it.recording(1))
    worker.wait_until(lambda: it.load.figures()["tasks_finished"] >= at_once, TIMEOUT, every=0.2)
    for _ in range(options.windows):
        yield worker.window(options.seconds)
    if not it.load.figures()["streams"]:
        raise NotReady("there were too few jobs")


def nothings(it: Rig, worker: Worker, count: int) -> Window:
    """So many tasks that do nothing."""
    with closing(Queue(it.redis_url)) as queue:
        worker.wait_until(queue.is_done, TIMEOUT, every=0.2)

        def act() -> None:
            queue.put(count, NOTHING)
            worker.wait_until(queue.is_done, TIMEOUT, every=0.02)

        return span(it, worker, act)


def row(it: Rig, kind: str, at_once: int, options: argparse.Namespace) -> tuple[str, ...]:
    """The figures under COLUMNS."""
    print(f"{kind}, {at_once} at once ...", file=sys.stderr)
    with it.worker(kind, at_once) as worker:
        empty = nothings(it, worker, options.nothings)
        found = list(windows(it, worker, at_once, options))
    rates, spread = middle([window.figures["tasks_finished"] / window.seconds for window in found])
    costs = [window.core_seconds / window.figures["tasks_finished"] for window in found]
    return (
        kind,
        str(at_once),
        f"{rates:.1f}",
        f"{100 * spread:.0f}%",
        f"{100 * rates * JOB_SECONDS / at_once:.0f}%",
        f"{100 * middle([window.core_share for window in found])[0]:.0f}%",
        f"{100 * middle([window.noise for window in found])[0]:.0f}%",
        f"{1000 * middle(costs)[0]:.1f}",
        f"{middle([window.figures['late_ms_p99'] for window in found])[0]:.0f}",
        f"{100 * middle([window.load_share for window in found])[0]:.0f}%",
        f"{options.nothings / empty.seconds:.0f}",
        f"{1000 * empty.core_seconds / options.nothings:.1f}",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and unless it was a quick look, store."""
    options = _parser().parse_args(argv)
    options.windows, options.seconds, options.nothings = (
        (QUICK_WINDOWS, QUICK_SECONDS, QUICK_NOTHINGS) if options.quick else (WINDOWS, SECONDS, NOTHINGS)
    )
    table = Table(title="Jobs", command="python -m bench.jobs", columns=COLUMNS)
    try:
        with rig() as it:
            ways = [way for way in WAYS if not options.only or way[0] in options.only]
            table.rows.extend(row(it, kind, at_once, options) for kind, at_once in ways)
    except KeyboardInterrupt:
        return 130
    table.notes.extend([*(note.format(windows=options.windows) for note in NOTES), Cores.of_this_process().note()])
    table.show()
    if not options.quick and not options.only:
        table.store("jobs")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.jobs", description="Jobs of a second.")
    parser.add_argument("--quick", action="store_true", help="one short window each, and nothing stored")
    parser.add_argument("--only", choices=sorted({kind for kind, _ in WAYS}), nargs="+", help="and nothing stored")
    return parser


if __name__ == "__main__":
    sys.exit(main())
