import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import redis

from emulator.stack import free_port
from tests.worker.quota.conftest import end
from tests.worker.quota.peers import PATIENCE
from worker.beat import impatient
from worker.quota import Mailbox
from worker.quota.mailbox import Start, Ticket
from worker.quota.scripts import MAIL
from worker.runtime import mail_client

Eventually = Callable[..., None]
Boxes = Callable[..., Mailbox]


@pytest.fixture
def make(valkey: str, client: redis.Redis, quick: None) -> Iterator[Boxes]:
    made: list[tuple[Mailbox, redis.Redis]] = []

    def new(connection: redis.Redis | None = None) -> Mailbox:
        connection = connection or impatient(valkey)
        made.append((Mailbox(connection), connection))
        return made[-1][0]

    yield new
    for box, connection in made:
        end(box)
        connection.close()


def expected(box: Mailbox) -> Ticket:
    ticket = Ticket()
    box.expect(ticket)
    return ticket


def send(client: redis.Redis, box: Mailbox, text: str) -> int:
    publish: Any = client.publish
    return int(publish(MAIL + box.name, text))


def hears(client: redis.Redis, box: Mailbox) -> None:
    """Returns when all that was sent so far has been heard."""
    ticket, until = expected(box), time.monotonic() + PATIENCE
    while ticket.start is None:
        assert time.monotonic() < until
        send(client, box, f"{ticket.number} 0 0")
        ticket.sleep(0.02)
    box.forget(ticket)


def said(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [one.message for one in caplog.records if one.name == "worker.quota" and one.levelno == level]


# -- tickets -----------------------------------------------------------------------------------------------------------


def test_a_ticket_sleeps_until_it_is_woken_and_then_again() -> None:
    ticket = Ticket()
    assert not ticket.sleep(0)
    ticket.wake()
    ticket.wake()
    assert ticket.sleep(PATIENCE) and not ticket.sleep(0)


def test_a_ticket_says_whether_it_has_a_slot() -> None:
    ticket = Ticket()
    assert repr(ticket) == f"<Ticket {ticket.number}, waits>"
    ticket.start = Start(0.0, 0)
    assert repr(ticket) == f"<Ticket {ticket.number}, has a slot>"
    assert Ticket().number != ticket.number and "." not in ticket.number + " "


# -- mail --------------------------------------------------------------------------------------------------------------


def test_making_a_mailbox_starts_nothing_and_opening_it_twice_is_opening_it_once(make: Boxes) -> None:
    before = threading.active_count()
    box = make()
    assert threading.active_count() == before and repr(box) == f"<Mailbox {box.name}, 0 waiting>"
    box.open()
    box.open()
    assert list(box._threads) == ["quota-mail", "quota-duty"]


def test_mail_wakes_the_ticket_that_it_is_for(make: Boxes, client: redis.Redis) -> None:
    box, other = make(), make()
    for one in (box, other):
        one.open(PATIENCE)
        hears(client, one)
    ticket, neighbour = expected(box), expected(box)
    assert repr(box) == f"<Mailbox {box.name}, 2 waiting>"
    assert send(client, box, f"{ticket.number} 1000000000000 5") == 1
    assert ticket.sleep(PATIENCE) and not neighbour.sleep(0)
    assert ticket.start is not None and neighbour.start is None
    assert ticket.start.at > 1e6 - PATIENCE and ticket.start.shift == 5


def test_mail_for_who_waits_no_more_is_nothing(make: Boxes, client: redis.Redis) -> None:
    box = make()
    box.open(PATIENCE)
    hears(client, box)
    ticket, here = expected(box), expected(box)
    box.forget(ticket)
    box.forget(ticket)
    send(client, box, f"{ticket.number} 0 0")
    send(client, box, f"{here.number} 0 0")
    assert here.sleep(PATIENCE) and ticket.start is None and not ticket.sleep(0)


def test_mail_that_cannot_be_read_harms_none_that_comes_later(
    make: Boxes, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    box = make()
    box.open(PATIENCE)
    ticket = expected(box)
    send(client, box, "secret")
    while ticket.start is None:
        assert ticket.sleep(PATIENCE)  # it subscribes anew
        send(client, box, f"{ticket.number} 0 0")
    assert said(caplog, logging.WARNING) == ["reading mail about quota failed (ValueError)"]
    assert "secret" not in caplog.text


@pytest.mark.parametrize("connect", [impatient, mail_client])
def test_who_waits_is_woken_when_mail_may_have_been_lost(
    make: Boxes, client: redis.Redis, valkey: str, connect: Callable[[str], redis.Redis]
) -> None:
    box = make(connect(valkey))
    box.open(PATIENCE)
    ticket, kill = expected(box), cast(Any, client.execute_command)
    for _ in range(2):
        hears(client, box)
        ticket.sleep(0)
        assert kill("CLIENT", "KILL", "TYPE", "pubsub") >= 1
        assert ticket.sleep(PATIENCE) and ticket.start is None
    hears(client, box)


def test_a_redis_that_is_away_is_tried_again(
    make: Boxes, valkey: str, caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    caplog.set_level(logging.INFO)
    box = make(impatient(f"redis://:secret@127.0.0.1:{free_port()}/0"))
    box.open(0.01)
    eventually(lambda: len(said(caplog, logging.INFO)) >= 2, "it was tried twice")
    assert set(said(caplog, logging.INFO)) == {
        "no mail about quota for the moment (ConnectionError); those who wait ask"
    }
    ticket = expected(box)
    with impatient(valkey) as connection:
        box._redis = connection
        assert ticket.sleep(PATIENCE)
        end(box)
    assert "secret" not in caplog.text


def test_a_closed_mailbox_ends_both_threads_and_starts_none(make: Boxes) -> None:
    box, never = make(), make()
    box.open(PATIENCE)
    for one in (box, never):
        end(one)
        one.open(0.01)
    assert never._threads == {} and not any(thread.is_alive() for thread in box._threads.values())


# -- duties ------------------------------------------------------------------------------------------------------------


class Line:
    """Looked after by whoever calls it; answers what it was made with, and then that others do."""

    def __init__(self, name: str, log: list[str], *answers: float | Exception) -> None:
        self._name = name
        self._log = log
        self._answers = list(answers)

    def __call__(self) -> float | None:
        self._log.append(self._name)
        answer = self._answers.pop(0) if self._answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_duty_is_done_after_its_time_and_on_as_it_says(make: Boxes, eventually: Eventually) -> None:
    box, done = make(), list[str]()
    box.on_duty(None, Line("never", done))
    box.on_duty(1000.0, Line("much later", done))
    box.on_duty(0.0, Line("a", done, 0.0, 0.001))
    box.open(PATIENCE)
    eventually(lambda: len(done) == 3, "looked three times")
    box.on_duty(0.02, Line("c", done))
    box.on_duty(0.0, Line("b", done))
    eventually(lambda: "c" in done, "looked after the last")
    assert done == ["a", "a", "a", "b", "c"]


def test_a_duty_that_fails_is_left_to_others_and_ends_no_other(
    make: Boxes, caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    box, done = make(), list[str]()
    box.open(PATIENCE)
    box.on_duty(0.0, Line("away", done, redis.ConnectionError("secret"), 0.0))
    box.on_duty(0.0, Line("broken", done, ValueError("secret"), 0.0))
    box.on_duty(0.0, Line("well", done, 0.01))
    eventually(lambda: done.count("well") == 2, "the other is looked after")
    assert sorted(done) == ["away", "broken", "well", "well"]
    assert said(caplog, logging.WARNING) == ["looking after a line failed (ValueError)"]
