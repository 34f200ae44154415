import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from emulator.stack import free_port
from tests.worker.quota.conftest import Quotas
from tests.worker.quota.peers import MODEL, PATIENCE, SECOND, Redis
from worker.quota import Gate, gate, ledger
from worker.quota.gate import NotAdmitted

Eventually = Callable[..., None]
ACCOUNT = "stenopool:quota:{a}"


class Opener(threading.Thread):
    """Asks to be let through."""

    def __init__(self, way: Gate) -> None:
        super().__init__(daemon=True)
        self.is_wanted = False
        self.asked = 0
        self.admitted: bool | None = None
        self._way = way

    def run(self) -> None:
        try:
            self._way.admit(self._wanted)
        except NotAdmitted:
            self.admitted = False
        else:
            self.admitted = True

    def outcome(self) -> bool | None:
        self.join(PATIENCE)
        return self.admitted

    def _wanted(self) -> bool:
        self.asked += 1
        return self.is_wanted


@pytest.fixture
def opener() -> Iterator[Callable[[Gate], Opener]]:
    made: list[tuple[Opener, Gate]] = []

    def start(way: Gate) -> Opener:
        made.append((Opener(way), way))
        made[-1][0].start()
        return made[-1][0]

    yield start
    for one, way in made:
        way.close()
        assert one.outcome() is not None


@pytest.fixture(autouse=True)
def restless(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (gate.PATIENCE, gate.LOOK_EVERY, gate.WARM_UP_PATIENCE) == (60.0, 0.5, 5.0)
    monkeypatch.setattr(gate, "LOOK_EVERY", 0.01)


def nowhere() -> str:
    return f"redis://:secret@127.0.0.1:{free_port()}/0"


def not_before(inside: Redis, seconds: float) -> float:
    """Let the next open be in so many seconds; returns that moment."""
    moment = inside.now() + seconds * SECOND
    inside.client.hset(ACCOUNT, "next", int(moment))
    return moment


def test_who_is_let_through_opens_at_his_moment_and_not_before(quota: Quotas, inside: Redis) -> None:
    way, moment = Gate(quota()), not_before(inside, 0.2)
    way.admit(lambda: True)
    assert inside.now() >= moment
    moment = not_before(inside, 0.2)
    way.admit(lambda: False)
    assert inside.now() >= moment


def test_whether_a_job_waits_is_asked_each_time(
    quota: Quotas,
    inside: Redis,
    opener: Callable[[Gate], Opener],
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ledger, "URGENT", 1000.0)
    moment = not_before(inside, 100)
    one = opener(Gate(quota()))
    eventually(lambda: one.asked >= 3, "it asks again and again")
    assert inside.account()["next"] == int(moment)
    one.is_wanted = True
    eventually(lambda: inside.account()["next"] > moment, "it is given one ahead")


def test_who_still_waits_for_his_moment_when_the_gate_closes_opens_nothing(
    quota: Quotas,
    inside: Redis,
    opener: Callable[[Gate], Opener],
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ledger, "URGENT", 1000.0)
    moment = not_before(inside, 100)
    way = Gate(quota())
    one = opener(way)
    one.is_wanted = True
    eventually(lambda: inside.account()["next"] > moment, "it is given one ahead")
    way.close()
    assert one.outcome() is False


def test_when_the_gate_closes_nobody_waits_any_more_nor_is_let_through(
    quota: Quotas, inside: Redis, opener: Callable[[Gate], Opener], eventually: Eventually
) -> None:
    way = Gate(quota())
    not_before(inside, 1000)
    one = opener(way)
    eventually(lambda: one.asked, "it asks")
    way.close()
    assert one.outcome() is False
    not_before(inside, 0)
    with pytest.raises(NotAdmitted):
        way.admit(lambda: True)


def test_nobody_waits_for_ever(quota: Quotas, inside: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "PATIENCE", 0.05)
    not_before(inside, 1000)
    with pytest.raises(NotAdmitted):
        Gate(quota()).admit(lambda: True)


def test_while_redis_is_away_a_process_opens_one_after_the_other(
    quota: Quotas, opener: Callable[[Gate], Opener], eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = Gate(quota(url=nowhere()))
    monkeypatch.setattr(gate, "SLOWLY", 0.01)
    assert [opener(way).outcome() for _ in range(3)] == [True] * 3
    monkeypatch.setattr(gate, "SLOWLY", 1000.0)
    waiting = [opener(way) for _ in range(3)]
    eventually(lambda: all(one.asked for one in waiting), "all ask")
    assert [one.admitted for one in waiting] == [None] * 3
    way.close()
    assert [one.outcome() for one in waiting] == [False] * 3


def test_in_an_outage_one_goes_through_and_the_others_when_it_is_over(
    quota: Quotas, inside: Redis, opener: Callable[[Gate], Opener], eventually: Eventually
) -> None:
    ways = [Gate(quota()) for _ in range(3)]
    for way, refused in zip(ways, (True, False, False), strict=True):
        way.failed(refused=refused, retry_after=1000.0)
    assert inside.account()["is_out"] == 1
    openers = [opener(way) for way in ways]
    eventually(lambda: all(one.asked >= 2 for one in openers), "all ask")
    assert not any(one.admitted for one in openers)
    inside.elapse(1000)
    eventually(lambda: any(one.admitted for one in openers), "one probes")
    asked = [one.asked for one in openers]
    eventually(lambda: sum(one.asked > before for one, before in zip(openers, asked, strict=True)) == 2, "others ask")
    assert sum(one.admitted is True for one in openers) == 1
    ways[0].opened()
    assert [one.outcome() for one in openers] == [True] * 3


def test_news_that_redis_cannot_be_told_harm_nobody(quota: Quotas, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    way = Gate(quota(url=nowhere()))
    way.opened()
    way.failed(refused=True, retry_after=None)
    assert caplog.messages == ["Redis was not told of a connection (ConnectionError)"] * 2
    assert "secret" not in caplog.text


def test_a_warm_up_has_a_slot_unless_jobs_want_it(
    quota: Quotas, inside: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "WARM_UP_PATIENCE", 0.0)
    way = Gate(quota())
    with way.warm_up(MODEL) as slot:
        assert slot is not None and len(inside.slots()) == 1
        with way.warm_up(MODEL) as another:
            assert another is None
