import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from worker.slots import LISTEN_EVERY, FreeSlots, drained, in_turn


class Window:
    """Open, or closed for so many looks."""

    def __init__(self, closed: float = 0) -> None:
        self.closed = closed

    def can_consume(self) -> bool:
        self.closed -= 1
        return self.closed < 0


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_the_broker_is_waited_for_as_soon_as_a_slot_is_free(waits: list[float], closed: int) -> None:
    began = time.monotonic()
    drained(lambda timeout: waits.append(timeout), Window(closed))(timeout=2.0)
    assert waits == [2.0] and time.monotonic() - began < LISTEN_EVERY


def test_while_no_slot_is_free_the_broker_is_looked_at_now_and_then_and_not_waited_for(waits: list[float]) -> None:
    began = time.monotonic()
    drained(lambda timeout: waits.append(timeout), Window(float("inf")))(timeout=0.1)
    assert waits == [0] and time.monotonic() - began >= 0.1


def test_what_the_broker_raises_reaches_celery_s_loop() -> None:
    def away(timeout: float) -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        drained(away, Window())()


def test_calls_that_come_together_are_made_one_after_the_other() -> None:
    turn, inside, most, done = threading.Lock(), [0], [0], []

    def ack(tag: int) -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.001)
        inside[0] -= 1
        done.append(tag)

    callers = [threading.Thread(target=in_turn(ack, turn), args=(tag,)) for tag in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(10)
    assert most == [1] and sorted(done) == list(range(8))


@pytest.mark.parametrize(("green", "included"), [(True, True), (False, False)])
def test_only_green_pools_need_it(green: bool, included: bool) -> None:
    step: Any = FreeSlots
    assert step.include_if(step, SimpleNamespace(pool=SimpleNamespace(is_green=green))) is included


def test_it_puts_itself_into_the_consumer_s_connection(waits: list[float]) -> None:
    acks: list[str] = []
    window = SimpleNamespace(can_consume=lambda: True, ack=acks.append, reject=acks.append)
    connection = SimpleNamespace(drain_events=lambda timeout: waits.append(timeout))
    channel = SimpleNamespace(channel=SimpleNamespace(qos=window))
    step: Any = FreeSlots
    step.start(step, SimpleNamespace(connection=connection, task_consumer=channel))
    connection.drain_events(timeout=2.0)
    window.ack("a")
    window.reject("r")
    assert (waits, acks) == ([2.0], ["a", "r"])
