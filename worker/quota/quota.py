"""An account's quota as one process sees it: jobs get slots, wait for them, and give them back.

ask ──▶ given: start at a moment ──▶ stream ──▶ give back
  │         ▲
  └▶ wait ──┴─ told by mail
       └─ no more patience: NoQuota, with the place in line
"""

import logging
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Literal, TypeVar

import redis

from worker.quota.ledger import Answer, Ledger, Wish
from worker.quota.mailbox import Mailbox, Start, Ticket
from worker.script import Call, is_passing
from worker.stops import Stop

TELL_AFTER = 1.0
"""Seconds after which those who follow a job are told that it waits for quota."""

ASK_EVERY = 3.0
"""Seconds after which a waiting job asks by itself: a message of Redis' can get lost, and the slot with it if that is
found too late.
"""

RETRY_EVERY = 1.0
"""Seconds between two tries to reach a Redis that is away."""

LATE = 0.015
"""Seconds by which a start may be late. Beyond, it might meet the next one: it waits for another turn."""

MOST_TURNS = 5
"""So many turns may be missed; then the machine is too busy to keep any, and the start is made all the same."""

USUAL = 32
"""So many of the newest starts say how long it usually takes until the service has let one begin: the least of them."""

SLACK = 0.02
"""Seconds more than usual that do no harm, because starts are a little further apart than they need be."""

MOST_LATE = 1.0
"""Seconds by which a late start puts off the others at most: starts are counted in a window of a second."""

IN_USE = 10.0
"""Seconds for which a process looks after a lane in which it has asked for a slot."""

MODELS = 1000
"""Most models of which is remembered how long they take to begin."""

LINGER = 1.0
"""Seconds that a slot stays taken whose stream was broken off: the service has yet to notice."""

COUNTED = ("waits", "returned", "refused", "late_starts", "put_off")

A = TypeVar("A")
log = logging.getLogger("worker.quota")


class NoQuota(Exception):
    """Raised when a job has waited as long as it may. `place` is where it stood; it can come back there."""

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.place = place


class QuotaUnknown(Exception):
    """Raised when Redis, where the account's quota is, does not answer: nobody can know whether a stream may begin.

    `kind` is its error, by name; `passes`: it may be otherwise later.
    """

    def __init__(self, kind: str, passes: bool = True) -> None:
        super().__init__(kind, passes)
        self.kind = kind
        self.passes = passes


class Slot:
    """The right to run one stream after the other, one at a time, each begun at its own moment."""

    def __init__(self, quota: "Quota", model: str, start: Start) -> None:
        self.linger = 0.0
        self.well = False
        self._quota = quota
        self._model = model
        self._start = start
        self._is_used = False

    def await_start(self, stop: Stop, patience: float | None = None) -> None:
        """Return when the stream may begin; another turn is waited for up to `patience` seconds.

        Raises NoQuota, QuotaUnknown, and as `Stop.linger`.
        """
        if self._is_used:
            self._start = self._quota.turn(self._model, stop, patience)
        for _ in range(MOST_TURNS):
            time.sleep(max(0.0, self._start.at - time.monotonic()))
            if time.monotonic() - self._start.at <= LATE:
                break
            self._quota.count("late_starts")
            self._start = self._quota.turn(self._model, stop, patience)
        else:
            time.sleep(max(0.0, self._start.at - time.monotonic()))  # late or not, but never early
        self._is_used, self.linger = True, LINGER

    def began(self) -> None:
        """The service has let it begin. If that took longer than usual, those that follow are put off."""
        self._quota.began(self._model, self._start)

    def ended(self, *, well: bool) -> None:
        """The service itself has ended the stream: it is one less from now on."""
        self.linger, self.well = 0.0, well

    def refused(self, retry_after: float | None) -> None:
        """The service did not let it begin: all workers slow down."""
        self.ended(well=False)
        self._quota.refused(self._model, retry_after)


class Quota:
    """One process's share in an account. Safe to use from any thread or greenlet.

    `patience` is how many seconds a job waits for quota, `redis_patience` how many for a Redis that is away.
    """

    def __init__(
        self,
        ledger: Ledger,
        mailbox: Mailbox,
        *,
        tenants: Mapping[str, float],
        patience: float,
        redis_patience: float,
    ) -> None:
        self.ledger = ledger
        self._mailbox = mailbox
        self._tenants = tenants
        self.patience = patience
        self._redis_patience = redis_patience
        # One that its thread may take again: a `slot` that is finalised may be so in the midst of anything.
        self._lock = threading.RLock()
        self._held: dict[str, set[str]] = {}
        self._waiting: Counter[str] = Counter()
        self._used: dict[str, float] = {}
        self._telling: dict[str, list[str]] = {}
        self._counts: Counter[str] = Counter()
        self._waited = 0.0
        self._took: dict[str, deque[float]] = {}

    def __repr__(self) -> str:
        held = sum(map(len, self._held.values()))
        return f"<Quota {self.ledger.account}, slots {held}, waiting {self._waiting.total()}>"

    @contextmanager
    def slot(self, wish: Wish, stop: Stop, told: Callable[[], None], *, wait: bool = True) -> Iterator[Slot]:
        """A slot for the length of the block. `told` is called, perhaps more than once, if it takes a while.

        Raises NoQuota; QuotaUnknown; and as `Stop.check`.
        """
        self._mailbox.open()
        ticket = Ticket()
        who = f"{self._mailbox.name}.{ticket.number}"
        slot: Slot | None = None
        try:
            slot = Slot(self, wish.model, self._await(ticket, who, wish, stop, told, wait))
            self._keep(wish.model, who)
            yield slot
        finally:
            try:
                self._finish(ticket, who, wish, slot, wait)
            except BaseException:
                self._finish(ticket, who, wish, slot, wait)  # struck while giving back: it is given back all the same
                raise

    @contextmanager
    def calm_slot(self, model: str, patience: float) -> Iterator[Slot | None]:
        """A slot for what can wait, given only while no job wants one; None if there is none within the time."""
        until = time.monotonic() + patience
        while True:
            try:
                with self.slot(Wish(model=model), Stop(), lambda: None, wait=False) as slot:
                    slot.await_start(Stop(), patience=0.0)
                    yield slot
                    return
            except (NoQuota, QuotaUnknown):
                if time.monotonic() > until:
                    break
            time.sleep(random.uniform(0.2, 0.5))
        yield None

    def turn(self, model: str, stop: Stop, patience: float | None = None) -> Start:
        """Another start for who has a slot."""
        until = time.monotonic() + (self.patience if patience is None else patience)
        while True:
            given, wait, shift = self._answered(lambda: self.ledger.turn(model), stop, patience)
            if given:
                return Start(time.monotonic() + wait, shift)
            if time.monotonic() > until:
                raise NoQuota("")
            stop.linger(min(wait, RETRY_EVERY) * random.uniform(1.0, 1.5))

    def began(self, model: str, start: Start) -> None:
        """The service has just let a stream begin that was to start then."""
        took = time.monotonic() - start.at
        with self._lock:
            if len(self._took) > MODELS:
                self._took.clear()
            usual = self._took.setdefault(model, deque(maxlen=USUAL))
            usual.append(took)
            late = took - min(usual) - SLACK
        if late > 0:
            self.count("put_off")
            self._unless_away(lambda: self.ledger.put_off(model, start.shift, min(late, MOST_LATE)))

    def refused(self, model: str, retry_after: float | None) -> None:
        self.count("refused")
        self._unless_away(lambda: self.ledger.refused(model, retry_after))

    def pressure(self, model: str) -> float:
        """How much this process makes of the quota, slots and waiting jobs: the less, the more is likely to be free."""
        allowed = self.ledger.allowance
        with self._lock:
            used = len(self._held.get(model, ())) + self._waiting[model]
        return used / (allowed.streams or allowed.starts_per_second)

    def count(self, event: str) -> None:
        with self._lock:
            self._counts[event] += 1

    def figures(self) -> dict[str, int | float]:
        """Flat: what there is now, and what has happened since the process began."""
        with self._lock:
            counted = {f"quota_{name}": self._counts[name] for name in COUNTED}
            held = sum(map(len, self._held.values()))
            now = {"quota_slots": held, "quota_waiting": self._waiting.total()}
            return {**now, **counted, "quota_wait_seconds_total": self._waited}

    # -- what the heartbeat says ---------------------------------------------------------------------------------------

    def tell(self) -> Call | None:
        """Renew the slots that this process has. See `worker.beat.Pulse`."""
        now = time.monotonic()
        with self._lock:
            self._used = {model: at for model, at in self._used.items() if now - at < IN_USE}
            held = {model: list(self._held.get(model, ())) for model in {*self._held, *self._waiting, *self._used}}
        self._telling = held
        return self.ledger.renewing(held.items()) if held else None

    def told(self, answer: Any) -> None:
        """Lines that nobody looks after any more are looked after from here; and what was given back while the sign of
        life was on its way is given back once more.
        """
        lanes = list(self._telling)
        for number in answer:
            self._look_in(0.0, lanes[number - 1])
        for model, members in self._telling.items():
            with self._lock:
                gone = [who for who in members if who not in self._held.get(model, ())]
            for who in gone:
                self._mailbox.on_duty(0.0, partial(self._return, model, who))

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _await(self, ticket: Ticket, who: str, wish: Wish, stop: Stop, told: Callable[[], None], wait: bool) -> Start:
        self._mailbox.expect(ticket)
        answer = self._ask(who, wish, stop, "wait" if wait else "try")
        if answer.given:
            return _start(answer)
        if not wait:
            raise NoQuota(answer.place)
        with self._standing(wish.model):
            return self._stand(ticket, who, replace(wish, place=answer.place), stop, told)

    def _stand(self, ticket: Ticket, who: str, wish: Wish, stop: Stop, told: Callable[[], None]) -> Start:
        until = time.monotonic() + self.patience
        while (left := until - time.monotonic()) > 0:
            start = self._mailed(ticket, min(left, ASK_EVERY), stop, told)
            if start is not None:
                return start
            answer = self._ask(who, wish, stop, "wait")
            if answer.given:
                return _start(answer)
        self.count("returned")
        raise NoQuota(wish.place)

    def _mailed(self, ticket: Ticket, seconds: float, stop: Stop, told: Callable[[], None]) -> Start | None:
        """The start, if it is told within the time; None: it is time to ask."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            with stop.breaking(lambda _: ticket.wake()):
                is_rung = ticket.sleep(min(left, TELL_AFTER))
            stop.check()
            if is_rung or ticket.start is not None:
                break
            told()
        return ticket.start

    def _ask(self, who: str, wish: Wish, stop: Stop, mode: Literal["wait", "try"]) -> Answer:
        weight = self._tenants.get(wish.tenant, 1.0)
        with self._lock:
            self._used[wish.model] = time.monotonic()
        patience = 0.0 if mode == "try" else None
        answer = self._answered(lambda: self.ledger.ask(who, wish, weight, mode), stop, patience)
        self._look_in(answer.look_in, wish.model)
        return answer

    @contextmanager
    def _standing(self, model: str) -> Iterator[None]:
        """Counts one that waits."""
        began = time.monotonic()
        with self._lock:
            self._waiting[model] += 1
            self._counts["waits"] += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting[model] -= 1
                self._waiting += Counter()  # drops what is zero
                self._waited += time.monotonic() - began

    def _keep(self, model: str, who: str) -> None:
        with self._lock:
            self._held.setdefault(model, set()).add(who)

    def _finish(self, ticket: Ticket, who: str, wish: Wish, slot: Slot | None, wait: bool) -> None:
        with self._lock:  # first of all: what is not held is not renewed
            members = self._held.get(wish.model, set())
            members.discard(who)
            if not members:
                self._held.pop(wish.model, None)
        self._mailbox.forget(ticket)
        if wait or slot is not None:
            self._give_back(wish.model, who, slot)

    def _give_back(self, model: str, who: str, slot: Slot | None) -> None:
        linger, well = (slot.linger, slot.well) if slot else (0.0, False)
        look = self._unless_away(lambda: self.ledger.give_back(model, who, linger=linger, well=well))
        self._look_in(look, model)

    def _return(self, model: str, who: str) -> None:
        self._look_in(self.ledger.give_back(model, who, linger=LINGER), model)

    def _look_in(self, seconds: float | None, model: str) -> None:
        self._mailbox.on_duty(seconds, lambda: self.ledger.look(model))

    def _answered(self, ask: Callable[[], A], stop: Stop, patience: float | None = None) -> A:
        """What Redis says, also if it is away for a while."""
        until = time.monotonic() + (self._redis_patience if patience is None else patience)
        while True:
            try:
                return ask()
            except redis.RedisError as error:
                if time.monotonic() >= until or not is_passing(error):
                    raise QuotaUnknown(type(error).__name__, is_passing(error)) from None
            stop.linger(RETRY_EVERY * random.uniform(0.5, 1.5))

    def _unless_away(self, tell: Callable[[], A]) -> A | None:
        """Tell Redis, if it is there: what it does not hear runs out by itself."""
        try:
            return tell()
        except redis.RedisError as error:
            log.info("account %s: Redis was not told (%s)", self.ledger.account, type(error).__name__)
            return None


def _start(answer: Answer) -> Start:
    return Start(time.monotonic() + answer.start_in, answer.shift)
