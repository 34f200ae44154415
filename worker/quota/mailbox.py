"""How a process hears that its waiting jobs have got slots, and looks after lines when it is on duty."""

import heapq
import itertools
import logging
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

import redis

from worker.quota.scripts import MAIL

LISTEN = 1.0
"""Seconds of one wait for mail, so that the thread's end is heard."""

AGAIN_AFTER = 1.0
"""Seconds after which a connection is tried again. Those who wait ask by themselves as often."""

log = logging.getLogger("worker.quota")

Look = Callable[[], float | None]
"""Looks after a line. Returns the seconds after which it is to look again, or None: others do."""


class Start(NamedTuple):
    """When a stream may begin (monotonic seconds), and how far (microseconds) all starts were put off by then."""

    at: float
    shift: int


class Ticket:
    """One job that waits: told once when to start, by whoever serves its line."""

    def __init__(self) -> None:
        self.number = uuid.uuid4().hex[:16]
        self.start: Start | None = None
        """None while it waits."""
        self._bell = threading.Event()

    def __repr__(self) -> str:
        return f"<Ticket {self.number}, {'waits' if self.start is None else 'has a slot'}>"

    def sleep(self, seconds: float) -> bool:
        """Until it is woken, but not longer. Whether it was."""
        is_rung = self._bell.wait(seconds)
        if is_rung:  # else a ring in this moment would be lost
            self._bell.clear()
        return is_rung

    def wake(self) -> None:
        """Have its job look up."""
        self._bell.set()


class Mailbox:
    """One process's. It makes its threads when the first job asks for quota."""

    def __init__(self, client: "redis.Redis") -> None:
        self.name = uuid.uuid4().hex[:12]
        self._redis = client
        # One that its thread may take again: a `slot` that is finalised may be so in the midst of anything.
        self._lock = threading.RLock()
        self._tickets: dict[str, Ticket] = {}
        self._duties: list[tuple[float, int, Look]] = []
        self._numbers = itertools.count()
        self._wanted = threading.Condition(self._lock)
        self._ready = threading.Event()
        self._closed = False
        self._threads: dict[str, threading.Thread] = {}

    def __repr__(self) -> str:
        return f"<Mailbox {self.name}, {len(self._tickets)} waiting>"

    def open(self, timeout: float = LISTEN) -> None:
        """Listen, from the first call on. Returns when Redis has taken note, or after the time: one can also ask."""
        with self._lock:
            if not self._closed:
                self._start("quota-mail", self._listen)
                self._start("quota-duty", self._do_duties)
        self._ready.wait(timeout)

    def close(self) -> None:
        """End both threads, soon."""
        with self._lock:
            self._closed = True
            self._wanted.notify_all()

    def expect(self, ticket: Ticket) -> None:
        """Mail for this ticket may come."""
        with self._lock:
            self._tickets[ticket.number] = ticket

    def forget(self, ticket: Ticket) -> None:
        with self._lock:
            self._tickets.pop(ticket.number, None)

    def on_duty(self, seconds: float | None, look: Look) -> None:
        """Look after this time, and on as it says. None: others do."""
        if seconds is not None:
            with self._lock:
                heapq.heappush(self._duties, (time.monotonic() + seconds, next(self._numbers), look))
                self._wanted.notify_all()

    def _start(self, name: str, work: Callable[[], None]) -> None:
        """Also after an interrupt between the making and the start."""
        if name not in self._threads or self._threads[name].ident is None:
            self._threads[name] = threading.Thread(target=work, name=name, daemon=True)
            self._threads[name].start()

    # -- the threads ---------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        while not self._closed:
            try:
                self._read_mail()
            except redis.RedisError as error:
                log.info("no mail about quota for the moment (%s); those who wait ask", type(error).__name__)
            except Exception as error:  # the thread goes on, whatever it was
                log.warning("reading mail about quota failed (%s)", type(error).__name__)
            if not self._closed:
                time.sleep(AGAIN_AFTER)

    def _read_mail(self) -> None:
        with self._subscriber() as pubsub:
            pubsub.subscribe(MAIL + self.name)
            while not self._closed:
                mail = pubsub.get_message(timeout=LISTEN)
                if mail is not None and mail["type"] == "subscribe":
                    self._ready.set()
                    self._wake_all()  # what was sent before is lost: they ask
                elif mail is not None and mail["type"] == "message":
                    self._deliver(mail["data"])

    def _subscriber(self) -> Any:
        make: Callable[[], Any] = self._redis.pubsub  # which is untyped
        return make()

    def _deliver(self, text: bytes) -> None:
        number, delay, shift = text.decode().split()
        with self._lock:
            ticket = self._tickets.get(number)
        if ticket is not None:
            ticket.start = Start(time.monotonic() + int(delay) / 1e6, int(shift))
            ticket.wake()

    def _wake_all(self) -> None:
        with self._lock:
            tickets = list(self._tickets.values())
        for ticket in tickets:
            ticket.wake()

    def _do_duties(self) -> None:
        while (look := self._next_duty()) is not None:
            try:
                self.on_duty(look(), look)
            except redis.RedisError:
                pass  # the heartbeat of some process finds it undone
            except Exception as error:
                log.warning("looking after a line failed (%s)", type(error).__name__)

    def _next_duty(self) -> Look | None:
        with self._lock:
            while not self._closed:
                left = self._duties[0][0] - time.monotonic() if self._duties else None
                if left is not None and left <= 0:
                    return heapq.heappop(self._duties)[2]
                self._wanted.wait(left)
        return None
