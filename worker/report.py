"""What each process tells of its recognisers: a hash in Redis, renewed every few seconds, gone when the process stops.

It is statistics: nothing waits for it, and nothing fails with it.
"""

import itertools
import logging
import os
import socket
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import redis

from worker.beat import PATIENCE, impatient
from worker.figures import merged
from worker.limits import Watch, cure, limits, most_leased
from worker.script import Call, Script

REPORT_EVERY = 5.0
"""Seconds between two reports."""

EAGER = 5
"""So many reports at first, one with each heartbeat: the pool is warming, and somebody is looking on."""

TTL = 20
"""Seconds that a report stays, if its process dies without a word."""

PREFIX = "stenopool:pool:"
TEXTS = frozenset({"worker", "host", "pool", "limits", "last_error"})
SINGULAR = frozenset({"pid", "reported_at", "age"})

POST = Script("redis.call('HSET', KEYS[1], unpack(ARGV, 2)) redis.call('EXPIRE', KEYS[1], ARGV[1])")
"""Writes a report, which expires: two commands could be cut in between, and leave one that stays for ever."""

WITHDRAW = Script("redis.call('DEL', KEYS[1])")
"""Removes a report."""

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
        return cls(impatient(url, patience))

    def post(self, name: str, report: Report) -> None:
        """Write a report, for the next TTL seconds."""
        _posting(name, report).run(self._redis)

    def remove(self, name: str) -> None:
        _withdrawing(name).run(self._redis)

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
    whole: Report = {**merged(reports, names - SINGULAR)}
    named = itertools.chain.from_iterable(str(report.get("limits", "")).split(",") for report in reports)
    most = sum(most_leased(report) for report in reports)
    return whole | {"limits": ",".join(dict.fromkeys(filter(None, named))), "most_leased": most}


class Reporter:
    """Tells a heartbeat one process's report, every few seconds, and the log what limits the process."""

    def __init__(self, process: Process, pool: Pool, load: Load, clock: Callable[[], float] = time.monotonic) -> None:
        self.process = process
        self._pool = pool
        self._load = load
        self._clock = clock
        self._watch = Watch()
        self._written = 0
        self._due = clock()
        self._withdrawn = False

    def withdraw(self) -> None:
        """From now on there is nothing to report: what was is removed."""
        self._withdrawn = True

    def tell(self) -> Call | None:
        """The report, if it is time for one."""
        if self._withdrawn:
            return _withdrawing(self.process.name)
        if self._clock() < self._due:
            return None
        report = self.report()
        self._log(report)
        return _posting(self.process.name, report)

    def told(self, answer: Any) -> None:
        """It was written; the next one has time."""
        self._written += 1
        if self._written >= EAGER:
            self._due = self._clock() + REPORT_EVERY

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

    def _log(self, report: Report) -> None:
        come, gone = self._watch.look(filter(None, str(report["limits"]).split(",")), self._clock())
        for limit in come:
            log.warning("limited by %s: %s", limit, cure(limit, report))
        for limit in gone:
            log.info("no longer limited by %s", limit)


def _posting(name: str, report: Report) -> Call:
    return POST.call([_key(name)], TTL, *itertools.chain.from_iterable(report.items()))


def _withdrawing(name: str) -> Call:
    return WITHDRAW.call([_key(name)])


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
