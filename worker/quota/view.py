"""What Redis knows of all accounts, for who looks on: how much is used, who waits, and for how long about.

It only reads. What it finds may be a moment old, and a slot whose process died shows until it runs out.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from config.queues import CLASSES
from worker.quota.ledger import MARGIN, OPEN_MARGIN, PREFIX, account_key, lane_key, line_key, slots_key
from worker.quota.scripts import CALM, WINDOW

NAME = re.compile(rf"{re.escape(PREFIX)}\{{([^{{}}]+)\}}(?::lane:(.+))?", re.DOTALL)
"""The key of an account's hash, or of a lane's."""

FIELDS = (
    *("gap", "hold", "slow", "slow_at"),  # of both, then those of a lane, and of an account
    *("seen", "streams", "since", "turns", "before", "refused"),
    *("is_out", "is_probing", "probe"),
)

Fields = Mapping[str, float]
"""What a hash has of these."""

Place = tuple[str, str | None]
"""An account, or a model of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """One account: its connections. Times are seconds from now."""

    name: str
    opens_per_second: float | None
    """What is allowed. None: nobody has opened any."""
    cool_down: float
    slower: float
    """So many times slower than allowed is what is left of a slow-down."""
    is_out: bool
    """The service is away: one of all workers probes."""
    is_probing: bool
    probe_in: float
    """When the next probe may be; 0 if the service is there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lane:
    """One model of an account: its streams. Times are seconds from now."""

    account: str
    model: str
    slots: int
    most_slots: int | None
    """None: no limit."""
    starts_per_second: float | None
    """What is allowed. None: nobody has asked for any."""
    started_per_second: float
    """What there was of late."""
    cool_down: float
    slower: float
    refused: int
    waiting: dict[str, int]
    """How many stand in line, by class of queues."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """All accounts and lanes by name, and how many jobs are in each queue, where no worker has taken them yet."""

    accounts: tuple[Account, ...]
    lanes: tuple[Lane, ...]
    queued: dict[str, int]

    def wait(self, lane: Lane) -> float | None:
        """See `estimate`."""
        (account,) = (account for account in self.accounts if account.name == lane.account)
        return estimate(
            in_line=sum(lane.waiting.values()),
            queued=sum(self.queued.values()),
            rate=lane.started_per_second,
            all_rates=sum(one.started_per_second for one in self.lanes),
            least=max(lane.cool_down, account.probe_in),
        )


class View:
    """Looks at what all workers share. `queues`: the lists of the broker that make up each queue.

    Raises redis.RedisError.
    """

    def __init__(self, client: "redis.Redis", queues: Mapping[str, Sequence[str]]) -> None:
        self._redis = client
        self._queues = queues

    def names(self) -> list[str]:
        """The keys to read. Walks over all keys, in small steps."""
        keys: Iterable[bytes] = self._redis.scan_iter(f"{PREFIX}{{*", count=1000, _type="hash")
        return sorted(set(map(bytes.decode, keys)))

    def read(self, names: Iterable[str]) -> Overview:
        """What there is now, in two round trips."""
        found: list[Place] = [(match[1], match[2]) for match in map(NAME.fullmatch, names) if match]
        now, queued, hashes = self._hashes(found)
        fields = {place: had for place, had in zip(found, hashes, strict=True) if had}
        places = sorted((account, model) for account, model in fields if model is not None)
        lines = self._lines(places, now)
        return Overview(
            accounts=tuple(
                _account(name, fields.get((name, None), {}), now) for name in sorted({name for name, _ in fields})
            ),
            lanes=tuple(
                _lane(account, model, fields[account, model], now, *counts)
                for (account, model), counts in zip(places, lines, strict=True)
            ),
            queued=queued,
        )

    def _hashes(self, places: Sequence[Place]) -> tuple[int, dict[str, int], list[Fields]]:
        """The moment; the jobs in each queue; and of each account or lane its fields, none if it is something else."""
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.time()
            for name in (name for lists in self._queues.values() for name in lists):
                pipeline.llen(name)
            for account, model in places:
                pipeline.hmget(account_key(account) if model is None else lane_key(account, model), FIELDS)
            (seconds, rest), *answers = pipeline.execute()
        counts = iter(answers)
        queued = {queue: sum(next(counts) for _ in lists) for queue, lists in self._queues.items()}
        return 1_000_000 * int(seconds) + int(rest), queued, [_read(values) for values in counts]

    def _lines(self, lanes: Sequence[tuple[str, str]], now: int) -> list[tuple[int, list[int]]]:
        """Of each lane how many slots are taken, and how many wait in each of its lines."""
        with self._redis.pipeline(transaction=False) as pipeline:
            for account, model in lanes:
                pipeline.zcount(slots_key(account, model), f"({now}", "+inf")
                for name in CLASSES:
                    pipeline.zcard(line_key(account, model, name))
            answers: list[Any] = pipeline.execute()
        step = 1 + len(CLASSES)
        each = (answers[i : i + step] for i in range(0, len(answers), step))
        return [(slots, waiting) for slots, *waiting in each]


def estimate(*, in_line: int, queued: int, rate: float, all_rates: float, least: float) -> float | None:
    """In how many seconds the last of those who wait now will begin, about; 0 if nobody waits. None: nobody can know,
    for nothing has begun of late.

    A line gets on at the lane's own rate; the queues are emptied by all lanes together. Nobody begins before `least`.
    """
    if in_line + queued == 0:
        return 0.0
    return max(in_line / rate + queued / all_rates, least) if rate else None


def recent(*, elapsed: float, turns: float, before: float) -> float:
    """Starts per second. They are counted in windows: `turns` since the last one began, `elapsed` seconds ago, and
    `before` in the one before it. 0 after two windows: what was then is no news.
    """
    window = WINDOW / 1e6
    if elapsed >= 2 * window:
        return 0.0
    if before and elapsed < window:
        return (before + turns) / (window + elapsed)
    return turns / max(elapsed, 1.0)


def _account(name: str, had: Fields, now: int) -> Account:
    is_out = had.get("is_out") == 1
    return Account(
        name=name,
        opens_per_second=_allowed(had, OPEN_MARGIN),
        cool_down=_until(had, "hold", now),
        slower=_slower(had, now),
        is_out=is_out,
        is_probing=is_out and had.get("is_probing") == 1,
        probe_in=_until(had, "probe", now) if is_out else 0.0,
    )


def _lane(account: str, model: str, had: Fields, now: int, slots: int, waiting: Sequence[int]) -> Lane:
    elapsed = (now - had.get("since", 0)) / 1e6
    return Lane(
        account=account,
        model=model,
        slots=slots,
        most_slots=int(had.get("streams", 0)) or None,
        starts_per_second=_allowed(had, MARGIN),
        started_per_second=recent(elapsed=elapsed, turns=had.get("turns", 0), before=had.get("before", 0)),
        cool_down=_until(had, "hold", now),
        slower=_slower(had, now),
        refused=int(had.get("refused", 0)),
        waiting=dict(zip(CLASSES, waiting, strict=True)),
    )


def _read(values: Iterable[bytes | None]) -> Fields:
    return {name: float(value) for name, value in zip(FIELDS, values, strict=True) if value is not None}


def _allowed(had: Fields, margin: float) -> float | None:
    return 1e6 * margin / had["gap"] if had.get("gap") else None


def _until(had: Fields, moment: str, now: int) -> float:
    return max(0.0, had.get(moment, 0) - now) / 1e6


def _slower(had: Fields, now: int) -> float:
    """As the scripts reckon it."""
    left: float = 0.5 ** ((now - had.get("slow_at", 0)) / CALM)
    return 1 + (had.get("slow", 1) - 1) * left if had.get("slow", 1) > 1 else 1.0
