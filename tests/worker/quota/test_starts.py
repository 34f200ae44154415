"""When a job that has a slot begins its streams."""

import time
from typing import Any

import pytest

from worker.quota import Slot, quota
from worker.quota.mailbox import Start
from worker.stops import Stop


class FakeQuota:
    """Gives turns at these seconds from now, the last for ever; notes what it is told."""

    def __init__(self, *turns: float) -> None:
        self.noted: list[Any] = []
        self.last = 0.0
        self._turns = list(turns)

    def turn(self, model: str, stop: Stop, patience: float | None = None) -> Start:
        self.noted.append(f"turn of {model}")
        self.last = time.monotonic() + (self._turns.pop(0) if len(self._turns) > 1 else self._turns[0])
        return Start(self.last, len(self.noted))

    def count(self, event: str) -> None:
        self.noted.append(event)

    def began(self, model: str, start: Start) -> None:
        self.noted.append((model, start))

    def refused(self, model: str, retry_after: float | None) -> None:
        self.noted.append((model, retry_after))


LONG_GONE = -1000.0


@pytest.fixture(autouse=True)
def generous(monkeypatch: pytest.MonkeyPatch) -> None:
    """No machine is so slow that it misses a start by chance."""
    assert (quota.LATE, quota.MOST_TURNS, quota.LINGER) == (0.015, 5, 1.0)
    monkeypatch.setattr(quota, "LATE", 500.0)


def slot(fake: FakeQuota, start_in: float) -> Slot:
    made: Any = Slot
    found: Slot = made(fake, "m", Start(time.monotonic() + start_in, 0))
    return found


def test_a_stream_begins_at_its_moment_and_not_before() -> None:
    fake, moment = FakeQuota(0.0), time.monotonic() + 0.05
    slot(fake, 0.05).await_start(Stop())
    assert time.monotonic() >= moment and fake.noted == []


def test_a_start_that_is_too_late_takes_another_turn() -> None:
    fake = FakeQuota(LONG_GONE, 0.02)
    slot(fake, LONG_GONE).await_start(Stop())
    assert fake.noted == ["late_starts", "turn of m"] * 2 and time.monotonic() >= fake.last


def test_a_machine_that_misses_all_turns_begins_all_the_same() -> None:
    fake = FakeQuota(LONG_GONE)
    slot(fake, LONG_GONE).await_start(Stop())
    assert fake.noted == ["late_starts", "turn of m"] * 5


def test_even_the_last_turn_is_not_taken_before_its_moment() -> None:
    fake = FakeQuota(*[LONG_GONE] * 4, 0.05)
    slot(fake, LONG_GONE).await_start(Stop())
    assert fake.noted.count("turn of m") == 5 and time.monotonic() >= fake.last


def test_each_further_stream_has_a_turn_of_its_own_which_is_not_called_late() -> None:
    fake = FakeQuota(0.01)
    one = slot(fake, 0.0)
    for turns in (0, 1, 2):
        one.await_start(Stop())
        assert fake.noted == ["turn of m"] * turns and time.monotonic() >= fake.last


def test_a_stream_that_was_broken_off_lingers_and_one_that_the_service_has_ended_does_not() -> None:
    one = slot(FakeQuota(0.0), 0.0)
    assert (one.linger, one.well) == (0.0, False)
    one.await_start(Stop())
    assert (one.linger, one.well) == (quota.LINGER, False)
    one.ended(well=True)
    assert (one.linger, one.well) == (0.0, True)
    one.await_start(Stop())
    assert one.linger == quota.LINGER
    one.ended(well=False)
    assert (one.linger, one.well) == (0.0, False)


def test_a_refusal_is_told_and_the_stream_does_not_linger() -> None:
    fake = FakeQuota(0.0)
    one = slot(fake, 0.0)
    one.await_start(Stop())
    one.refused(7.0)
    assert fake.noted == [("m", 7.0)] and (one.linger, one.well) == (0.0, False)


def test_when_a_stream_has_begun_the_start_that_it_had_is_told() -> None:
    fake = FakeQuota(0.0)
    one = slot(fake, LONG_GONE)
    one.await_start(Stop())
    one.began()
    assert fake.noted[-1] == ("m", Start(fake.last, 2))
