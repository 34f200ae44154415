"""What each process tells of its recognisers: a hash in Redis, renewed every few seconds, gone when the process stops.

It is statistics: nothing waits for it, and nothing fails with it.
"""

import itertools
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.limits import Watch, cure, limits, most_leased, number

REPORT_EVERY = 5.0
"""Seconds between two reports."""

EAGER, EAGER_EVERY = 5, 1.0
"""So many reports at first, and the seconds between them: the pool is warming, and somebody is looking on."""

TTL = 20
"""Seconds that a report stays, if its process dies without a word."""

PATIENCE = 1.0
"""Seconds for connecting, and for each answer of Redis."""

PREFIX = "stenopool:pool:"
TEXTS = frozenset({"worker", "host", "pool", "limits", "last_error"})
SINGULAR = frozenset({"pid", "reported_at", "age"})

log = logging.getLogger("worker.report")

Report = dict[str, str | int | float]
"""Flat: the pool's figures and the load's, which process it is, and what limits it."""


class Pool(Protocol):
    """What a report asks of a pool."""

    @property
    def last_error(self) -> str: ...

    def stats(self) -> dict[str, int | float]: ...


class Load(Protocol):
    """What a report asks of a process's load."""

    def figures(self) -> dict[str, float]: ...

    def limits(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """A process that runs jobs: the node that it belongs to, the kind of its execution pool, its jobs at once."""

    worker: str
    pool: str
    streams: int
    pid: int = field(default_factory=os.getpid)
    host: str = field(default_factory=socket.gethostname)

    @property
    def name(self) -> str:
        return process_name(self.worker, self.pid)


def process_name(worker: str, pid: int) -> str:
    """How a process is called, by its node and its number."""
    return f"{worker}:{pid}"


class Reports:
    """The reports of all processes, in Redis. Raises redis.RedisError, soon; never tries twice."""

    def __init__(self, connection: redis.Redis) -> None:
        self._redis = connection

    @classmethod
    def at(cls, url: str, patience: float = PATIENCE) -> "Reports":
        """Over a connection of its own, which is made when it is needed."""
        times = {"socket_timeout": patience, "socket_connect_timeout": patience}
        return cls(redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), **times))

    def post(self, name: str, report: Report) -> None:
        """Write a report, for the next TTL seconds."""
        with self._redis.pipeline() as pipeline:
            pipeline.hset(_key(name), mapping=dict(report.items()))
            pipeline.expire(_key(name), TTL)
            pipeline.execute()

    def remove(self, name: str) -> None:
        self._redis.delete(_key(name))

    def names(self) -> list[str]:
        """The processes that have reported. Walks over all keys, in small steps."""
        keys: Iterable[bytes] = self._redis.scan_iter(f"{PREFIX}*", count=1000, _type="hash")
        return sorted({key.decode().removeprefix(f"{PREFIX}{{").removesuffix("}") for key in keys})

    def read(self, names: Iterable[str]) -> dict[str, Report]:
        """The reports of those of the processes that have one, with `age`: the seconds since it was written.

        Told by Redis, because the clocks of two machines differ.
        """
        asked = list(names)
        with self._redis.pipeline(transaction=False) as pipeline:
            for name in asked:
                pipeline.hgetall(_key(name))
                pipeline.pttl(_key(name))
            answers: list[Any] = pipeline.execute()
        pairs = zip(asked, answers[::2], answers[1::2], strict=True)
        return {
            name: _typed(fields) | {"age": round(max(0.0, TTL - left / 1000), 1)}
            for name, fields, left in pairs
            if fields
        }

    def close(self) -> None:
        self._redis.close()


def together(reports: Collection[Report]) -> Report:
    """The reports of several processes as one: figures are summed, of times and shares the worst is kept."""
    names = {name for report in reports for name, value in report.items() if not isinstance(value, str)}
    whole: Report = {}
    for name in names - SINGULAR:
        values = [number(report, name) for report in reports]
        whole[name] = max(values) if name.endswith(("_max", "_p50", "_p95", "_share")) else sum(values)
    named = itertools.chain.from_iterable(str(report.get("limits", "")).split(",") for report in reports)
    most = sum(most_leased(report) for report in reports)
    return whole | {"limits": ",".join(dict.fromkeys(filter(None, named))), "most_leased": most}


class Reporter:
    """Writes one process's report until it is stopped, in a thread of its own, and tells the log what limits it."""

    def __init__(self, process: Process, pool: Pool, load: Load, reports: Reports) -> None:
        self.process = process
        self._pool = pool
        self._load = load
        self._reports = reports
        self._watch = Watch()
        self._heard = True
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="report", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Withdraw the report, in the background, and report no more."""
        self._stopped.set()

    def join(self, timeout: float) -> None:
        """Wait until it has stopped. If Redis is slow the process goes without it: what is left expires."""
        self._thread.join(timeout)

    def report(self) -> Report:
        """What there is to tell now."""
        figures, load = self._pool.stats(), self._load.figures()
        error = self._pool.last_error
        return {
            **{name: round(value, 6) for name, value in {**figures, **load}.items()},
            "worker": self.process.worker,
            "pid": self.process.pid,
            "host": self.process.host,
            "pool": self.process.pool,
            "streams": self.process.streams,
            "limits": ",".join(limits(figures, error, self._load.limits())),
            "last_error": error,
            "reported_at": round(time.time(), 3),
        }

    def _run(self) -> None:
        for written in itertools.count(1):
            self._safely(self._look)
            if self._stopped.wait(EAGER_EVERY if written < EAGER else REPORT_EVERY):
                break
        if self._heard:  # else it has been away: it would only hold up the stop
            self._safely(lambda: self._reports.remove(self.process.name))
        self._reports.close()

    def _look(self) -> None:
        report = self.report()
        self._tell(report)
        self._reports.post(self.process.name, report)

    def _tell(self, report: Report) -> None:
        come, gone = self._watch.look(filter(None, str(report["limits"]).split(",")), time.monotonic())
        for limit in come:
            log.warning("limited by %s: %s", limit, cure(limit, report))
        for limit in gone:
            log.info("no longer limited by %s", limit)

    def _safely(self, act: Callable[[], object]) -> None:
        """Whatever goes wrong is told once; the thread goes on."""
        try:
            act()
        except Exception as error:
            if self._heard:
                log.warning("the pool's report cannot be written (%s); trying on", type(error).__name__)
            self._heard = False
        else:
            if not self._heard:
                log.info("the pool's report is written again")
            self._heard = True


def _key(name: str) -> str:
    return f"{PREFIX}{{{name}}}"


def _typed(fields: dict[bytes, bytes]) -> Report:
    texts = {name.decode(): value.decode() for name, value in fields.items()}
    return {name: value if name in TEXTS else _number(value) for name, value in texts.items()}


def _number(text: str) -> str | int | float:
    try:
        return int(text) if text.lstrip("-").isdecimal() else float(text)
    except ValueError:
        return text
