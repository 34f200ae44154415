"""What an account's workers know together, in Redis: calls of the scripts, and what they answer."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import redis

from config.queues import CLASSES, class_of
from worker.quota.scripts import ASK, GIVE_BACK, LOOK, OPEN, OPEN_FAILED, OPENED, PUT_OFF, REFUSED, RENEW, TURN
from worker.script import Call, Script

PREFIX = "stenopool:quota:"

MARGIN = 1.03
"""Starts are so many times further apart than allowed: one that is late on its way must not meet the next too close."""

OPEN_MARGIN = 1.15
"""The same for opens, of which a handshake of several round trips comes before the service counts them."""

LONGEST = 300.0
"""Seconds for which the service is believed when it says when to come back."""

URGENT, CALM = 1.0, 0.05
"""Seconds ahead for which an open may be reserved: for a job that waits, and for one that nobody waits for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowance:
    """What the service allows an account: streams at once of a model (None: any number), starts of a model and opens
    of connections per second.
    """

    streams: int | None
    starts_per_second: float
    opens_per_second: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What a job asks for. `place` is where it stood in line before; empty for a new one."""

    model: str
    queue: str = ""
    tenant: str = ""
    account: str | None = None
    """None: any that has the model."""
    place: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether a slot was given, and in how many seconds its start is; how far (microseconds) all starts were put off by
    then; when this process is to look again, None if it need not; and the place in line, if it stands there.
    """

    given: bool
    start_in: float
    shift: int
    look_in: float | None
    place: str


class Ledger:
    """One account's. Raises redis.RedisError from all that asks; the `…ing` calls are for a heartbeat to carry."""

    def __init__(self, client: "redis.Redis", account: str, allowance: Allowance) -> None:
        self.account = account
        self.allowance = allowance
        self._redis = client

    def ask(self, who: str, wish: Wish, weight: float, mode: Literal["wait", "try"]) -> Answer:
        """Ask for a slot; again with the same name, how it stands."""
        own = (CLASSES.index(class_of(wish.queue)) + 1, wish.tenant, weight, wish.place, mode)
        given, start, shift, look, place = self._lane(ASK, wish.model, who, *own).run(self._redis)
        return Answer(bool(given), start / 1e6, shift, _seconds(look), place.decode())

    def give_back(self, model: str, who: str, *, linger: float = 0.0, well: bool = False) -> float | None:
        """A slot, or a place in line; seconds until this process is to look again."""
        call = self._lane(GIVE_BACK, model, who, round(1e6 * linger), int(well))
        return _seconds(call.run(self._redis))

    def look(self, model: str) -> float | None:
        """Serve the lines. Seconds until the next time."""
        return _seconds(self._lane(LOOK, model).run(self._redis))

    def turn(self, model: str) -> tuple[bool, float, int]:
        """Another start: whether it was given, the seconds until it, or until it makes sense to ask again; and how far
        all were put off by then.
        """
        given, wait, shift = self._lane(TURN, model).run(self._redis)
        return bool(given), wait / 1e6, shift

    def put_off(self, model: str, shift: int, late: float) -> None:
        """A start that was given when all were put off by `shift` came late by so many seconds."""
        self._lane(PUT_OFF, model, shift, round(1e6 * late)).run(self._redis)

    def refused(self, model: str, retry_after: float | None) -> None:
        """The service refused a start."""
        self._lane(REFUSED, model, _asked(retry_after), random.random()).run(self._redis)

    def renewing(self, held: Iterable[tuple[str, Sequence[str]]]) -> Call:
        """The sign of life for these slots of each model; answers the numbers, from 1, of lines nobody looks after."""
        keys: list[str] = []
        args: list[str | int] = []
        for model, members in held:
            keys += self._keys(model)[:2]
            args += [len(members), *members]
        return RENEW.call(keys, *args)

    def open(self, *, urgent: bool) -> tuple[bool, float]:
        """A connection: whether it may be opened, and in how many seconds, or when to ask again."""
        ahead = URGENT if urgent else CALM
        gap = OPEN_MARGIN / self.allowance.opens_per_second
        may, wait = self._own(OPEN, round(1e6 * gap), round(1e6 * ahead)).run(self._redis)
        return bool(may), wait / 1e6

    def opened(self) -> None:
        self._own(OPENED).run(self._redis)

    def open_failed(self, *, refused: bool, retry_after: float | None) -> None:
        """An open failed; `refused`: by the service, not for want of a network."""
        self._own(OPEN_FAILED, _asked(retry_after), random.random(), int(refused)).run(self._redis)

    def _lane(self, script: Script, model: str, *args: str | float) -> Call:
        gap = round(1e6 * MARGIN / self.allowance.starts_per_second)
        return script.call(self._keys(model), self.allowance.streams or 0, gap, *args)

    def _own(self, script: Script, *args: str | float) -> Call:
        return script.call([account_key(self.account)], *args)

    def _keys(self, model: str) -> list[str]:
        own = account_key(self.account)
        lines = [line_key(self.account, model, name) for name in CLASSES]
        return [lane_key(self.account, model), slots_key(self.account, model), f"{own}:flows:{model}", own, *lines]


def account_key(account: str) -> str:
    """The account's hash. The braces keep all of an account together on a cluster."""
    return f"{PREFIX}{{{account}}}"


def lane_key(account: str, model: str) -> str:
    """The hash of an account's model. The model comes last: a job may call it anything."""
    return f"{account_key(account)}:lane:{model}"


def slots_key(account: str, model: str) -> str:
    """The slots that are taken."""
    return f"{account_key(account)}:slots:{model}"


def line_key(account: str, model: str, queue: str) -> str:
    """Those who wait, of a class of queues."""
    return f"{account_key(account)}:line:{queue}:{model}"


def _asked(retry_after: float | None) -> int:
    return round(1e6 * min(retry_after or 0.0, LONGEST))


def _seconds(microseconds: int) -> float | None:
    return None if microseconds < 0 else microseconds / 1e6
