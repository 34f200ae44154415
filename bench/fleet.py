"""Several workers, one account: what a fleet asks of an emulator that punishes who crosses its limits."""

import itertools
import os
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import redis
from celery import Celery

from bench.silence import silence
from config.queues import CLASSES, QUEUES
from emulator import BackgroundEmulator, Limits
from emulator.logbook import Logbook, TaskRecord
from emulator.stack import Process, Stack, is_ready
from tasks.job.request import DEFAULT_MODEL
from worker.quota.ledger import line_key

STREAMS, STARTS, OPENS = 12, 20, 20
"""What the emulated account may do: streams at once, starts and opens in a second."""

PENALTY = 1.0
"""Seconds for which whoever crossed a rate is refused everything."""

AT_ONCE = 8
"""Jobs that each worker runs at once: more than its share, so that there are always some that wait."""

LOOK_EVERY = 0.25
TIMEOUT = 600.0
ENDED = {b"succeeded", b"failed", b"cancelled"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a run. `used_streams` and `used_starts` are the shares of what is allowed, while jobs waited."""

    states: Counter[str]
    spent: int
    """Attempts beyond the first, of all jobs."""
    seconds: float
    starts: int
    refused: int
    streams_max: int
    used_streams: float
    used_starts: float
    per_second: dict[str, list[int]]

    @property
    def refused_share(self) -> float:
        return self.refused / max(1, self.starts + self.refused)


class Fleet:
    """Workers that share one account's quota, or each have the whole of it for themselves, as they think."""

    def __init__(self, stack: Stack, database: int, *, shares: bool, pool: str = "threads") -> None:
        self.book = Logbook()
        self.workers: list[Process] = []
        self.jobs: list[str] = []
        self._accounts = {"default"} if shares else set[str]()
        self._looks: list[tuple[float, bool]] = []
        self._stack = stack
        self._shares = shares
        self._pool = pool
        self._url = stack.redis_url.rsplit("/", 1)[0] + f"/{database}"
        self._redis = redis.Redis.from_url(self._url)
        self._client = Celery("bench", broker=self._url, backend=self._url, set_as_current=False)
        self._emulator = self._new_emulator(0)
        self._emulator.start()

    def start(self, count: int) -> list[Process]:
        """So many workers more, and wait until they take jobs."""
        started = [self._start() for _ in range(count)]
        for worker in started:
            worker.wait_until(is_ready)
        return started

    def send(self, count: int, seconds: float) -> None:
        """So many jobs of so many seconds, in real time."""
        path = silence(self._stack.folder, seconds)
        for _ in range(count):
            self.jobs.append(str(self._client.send_task("tasks.transcribe", args=[path.as_uri()]).id))

    def kill(self, worker: Process) -> None:
        """As a machine that loses power."""
        os.killpg(worker.pid, signal.SIGKILL)

    def turn_off(self) -> None:
        """The service is away."""
        self._emulator.stop()

    def turn_on(self) -> None:
        """It is back, where it was."""
        self._emulator = self._new_emulator(self._emulator.port)
        self._emulator.start()

    def wait(self, until: Callable[[int], bool] | None = None) -> None:
        """Until so many jobs have ended as is said; by default all. Raises TimeoutError."""
        deadline = time.monotonic() + TIMEOUT
        while not (until or len(self.jobs).__le__)(sum(state in ENDED for state in self._fields("state"))):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not all jobs have ended after {TIMEOUT:g} s")
            self.look()
            time.sleep(LOOK_EVERY)

    def look(self) -> None:
        """Note whether jobs wait now, in a queue or in a line."""
        with self._redis.pipeline(transaction=False) as pipeline:
            for queue in QUEUES:
                pipeline.llen(queue)
            for account, name in itertools.product(self._accounts, CLASSES):
                pipeline.zcard(line_key(account, DEFAULT_MODEL, name))
            self._looks.append((time.monotonic(), any(pipeline.execute())))

    def outcome(self, began: float) -> Outcome:
        """What has become of the jobs and the starts since then."""
        tasks = self.book.tasks
        let_in = [task for task in tasks if not (task.code or "").startswith("Throttling")]
        summary = self.book.summary()
        spans = self._spans(let_in)
        waited = sum(end - begin for begin, end in spans) or 1.0
        return Outcome(
            states=Counter((state or b"").decode() for state in self._fields("state")),
            spent=sum(max(0, int(attempts or 1) - 1) for attempts in self._fields("attempts")),
            seconds=time.monotonic() - began,
            starts=len(let_in),
            refused=summary["refused"],
            streams_max=summary["streams_max"],
            used_streams=_busy(let_in, spans) / (STREAMS * waited),
            used_starts=_begun(let_in, spans) / (STARTS * waited),
            per_second=summary["per_second"],
        )

    def _spans(self, tasks: Sequence[TaskRecord]) -> list[tuple[float, float]]:
        """When jobs waited, from the moment at which all streams could be taken."""
        full = sorted(task.began for task in tasks)[STREAMS - 1]
        return [
            (now, then)
            for (now, waits), (then, wait_too) in pairwise(self._looks)
            if waits and wait_too and now >= full
        ]

    def close(self) -> None:
        for worker in self.workers:
            worker.stop(timeout=0.0)
        self._emulator.stop()
        self._client.close()
        self._redis.flushdb()
        self._redis.close()

    def _new_emulator(self, port: int) -> BackgroundEmulator:
        limits = Limits(max_streams=STREAMS, starts_per_second=STARTS, opens_per_second=OPENS, penalty_seconds=PENALTY)
        return BackgroundEmulator(limits=limits, port=port, logbook=self.book)

    def _start(self) -> Process:
        name = f"{'shared' if self._shares else 'alone'}{len(self.workers)}-{uuid.uuid4().hex[:4]}"
        env = {
            "STENOPOOL_REDIS_URL": self._url,
            "DASHSCOPE_WEBSOCKET_BASE_URL": self._emulator.url,
            "STENOPOOL_AUDIO_ROOTS": str(self._stack.folder),
            "STENOPOOL_QUOTA_STREAMS": str(STREAMS),
            "STENOPOOL_QUOTA_STARTS_PER_SECOND": str(STARTS),
            "STENOPOOL_QUOTA_OPENS_PER_SECOND": str(OPENS),
            "STENOPOOL_ACCOUNT": "default" if self._shares else name,
        }
        self._accounts.add(env["STENOPOOL_ACCOUNT"])
        self.workers.append(self._stack.start_worker(self._pool, AT_ONCE, name, **env))
        return self.workers[-1]

    def _fields(self, name: str) -> list[bytes | None]:
        with self._redis.pipeline(transaction=False) as pipeline:
            for job in self.jobs:
                pipeline.hget(f"stenopool:job:{{{job}}}", name)
            answers: list[Any] = pipeline.execute()
        return answers


@contextmanager
def fleet(stack: Stack, database: int, *, shares: bool, workers: int = 4, pool: str = "threads") -> Iterator[Fleet]:
    """A fleet of so many workers, which ends with the block."""
    made = Fleet(stack, database, shares=shares, pool=pool)
    try:
        made.start(workers)
        yield made
    finally:
        made.close()


def _busy(tasks: Sequence[TaskRecord], spans: Sequence[tuple[float, float]]) -> float:
    """Seconds that all streams together lasted within these spans of time."""
    return sum(max(0.0, min(task.ended or end, end) - max(task.began, begin)) for task in tasks for begin, end in spans)


def _begun(tasks: Sequence[TaskRecord], spans: Sequence[tuple[float, float]]) -> int:
    """How many began within these spans."""
    return sum(begin <= task.began < end for task in tasks for begin, end in spans)
