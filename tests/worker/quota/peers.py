"""Other processes as far as Redis sees them, and its clock as far as it can be moved: by moving all moments."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import redis

from config.queues import BULK, INTERACTIVE, QUEUE
from worker.quota import Allowance, Ledger, Wish
from worker.quota.ledger import PREFIX, Answer, account_key, lane_key, line_key, slots_key
from worker.quota.scripts import MAIL

PATIENCE = 10.0
"""Seconds for what another thread does; never reached unless something is broken."""

SECOND = 1_000_000
MODEL = "m"
NEVER_LATE = 10_000.0
"""Starts per second, where the pace is not what a test is about."""

MOMENTS = ("next", "tick", "hold", "slow_at", "since", "probe", "out_since", "failed_at", "well_at")
CLASS = {"interactive": INTERACTIVE, "default": QUEUE, "bulk": BULK}


def allowed(
    streams: int | None = 1, starts_per_second: float = NEVER_LATE, opens_per_second: float = NEVER_LATE
) -> Allowance:
    return Allowance(streams=streams, starts_per_second=starts_per_second, opens_per_second=opens_per_second)


class Redis:
    """A look into Redis, and a hand on its clock."""

    def __init__(self, client: redis.Redis) -> None:
        self.client: Any = client

    def now(self) -> float:
        seconds, micro = self.client.time()
        return float(seconds * SECOND + micro)

    def lane(self, model: str = MODEL, account: str = "a") -> dict[str, float]:
        return self._hash(lane_key(account, model))

    def account(self, account: str = "a") -> dict[str, float]:
        return self._hash(account_key(account))

    def slots(self, model: str = MODEL, account: str = "a") -> dict[str, float]:
        """Who has one, and when it comes free."""
        found = self.client.zrange(slots_key(account, model), 0, -1, withscores=True)
        return {member.decode(): moment for member, moment in found}

    def waiting(self, model: str = MODEL, account: str = "a") -> int:
        return sum(self.client.zcard(line_key(account, model, queue)) for queue in CLASS.values())

    def elapse(self, seconds: float, *, alone: bool = False) -> None:
        """Let time pass; `alone`: nobody came by in it."""
        for key in self.client.scan_iter(PREFIX + "*"):
            if b":slots:" in key:
                for member in self.client.zrange(key, 0, -1):
                    self.client.zincrby(key, -seconds * SECOND, member)
            elif b":line:" not in key and b":flows:" not in key:
                self._move(key, seconds)
                if b"}:" in key:
                    self.client.hset(key, "seen", int(self.now() + (-seconds if alone else 60) * SECOND))

    def _move(self, key: bytes, seconds: float) -> None:
        found = self.client.hgetall(key)
        for name in MOMENTS:
            if float(found.get(name.encode(), 0)) > 0:
                self.client.hset(key, name, int(float(found[name.encode()]) - seconds * SECOND))

    def _hash(self, key: str) -> dict[str, float]:
        return {name.decode(): float(value) for name, value in self.client.hgetall(key).items()}


@dataclass(frozen=True)
class Mail:
    ticket: str
    start_in: float
    shift: int


class Peer:
    """One process: what it asks of Redis, and the mail that it hears."""

    def __init__(self, client: redis.Redis, name: str, allowance: Allowance, account: str = "a") -> None:
        self.name = name
        self.ledger = Ledger(client, account, allowance)
        self._client: Any = client
        self._ear: Any = None
        self.listen()

    def ask(
        self,
        ticket: str,
        *,
        queue: str = "default",
        tenant: str = "",
        weight: float = 1.0,
        place: str = "",
        mode: Literal["wait", "try"] = "wait",
        model: str = MODEL,
    ) -> Answer:
        wish = Wish(model=model, queue=CLASS[queue], tenant=tenant, place=place)
        return self.ledger.ask(self.who(ticket), wish, weight, mode)

    def give_back(self, ticket: str, *, linger: float = 0.0, well: bool = False, model: str = MODEL) -> float | None:
        return self.ledger.give_back(model, self.who(ticket), linger=linger, well=well)

    def renew(self, *tickets: str, model: str = MODEL) -> list[int]:
        """A beat with these slots; answers whether the line is one that nobody looks after."""
        found: list[int] = self.ledger.renewing([(model, [self.who(one) for one in tickets])]).run(self._client)
        return found

    def who(self, ticket: str) -> str:
        return f"{self.name}.{ticket}"

    def listen(self) -> None:
        self._ear = self._client.pubsub()
        self._ear.subscribe(MAIL + self.name)
        self._hear("subscribe")

    def go(self) -> None:
        """End, without a word."""
        self._ear.close()

    def mail(self) -> list[Mail]:
        """All that has come since the last time."""
        self._ear.ping()
        return [self._opened(one["data"].decode()) for one in self._hear("pong") if one["type"] == "message"]

    def told(self) -> list[str]:
        """The tickets of all mail since the last time."""
        return [one.ticket for one in self.mail()]

    def _hear(self, last: str) -> list[Mapping[str, Any]]:
        heard: list[Mapping[str, Any]] = []
        until = time.monotonic() + PATIENCE
        while not heard or heard[-1]["type"] != last:
            assert time.monotonic() < until
            one = self._ear.get_message(timeout=PATIENCE)
            heard += [one] if one else []
        return heard

    @staticmethod
    def _opened(text: str) -> Mail:
        ticket, delay, shift = text.split()
        return Mail(ticket, int(delay) / SECOND, int(shift))
