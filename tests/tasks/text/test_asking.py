import threading
import time
from collections.abc import Callable

import pytest
import redis

from tasks.errors import JobError, Refused, Unavailable
from tasks.job.keys import JobKeys
from tasks.text import asking
from tasks.text.answers import Answers
from tasks.text.asking import Asking
from tests.tasks.text.models import Models, refused, said
from worker.generation import Caller, Lost, Prompt
from worker.stops import Cancelled, Drained, Stop

ONE, TWO, THREE = (Prompt(model="m", text=text) for text in ("one", "two", "three"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (asking.TRIES, asking.FIRST_PAUSE, asking.LONGEST_PAUSE, asking.PATIENCE) == (3, 1.0, 8.0, 20.0)
    monkeypatch.setattr(asking, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(asking, "LOOK_EVERY", 0.01)


@pytest.fixture
def answers(client: redis.Redis) -> Answers:
    return Answers(client, JobKeys("j"), "t", ttl=60, lease=15)


@pytest.fixture
def ask(answers: Answers) -> Callable[..., Asking]:
    def make(models: Models, stop: Stop | None = None, seconds: float = 60) -> Asking:
        return Asking(models, Caller(api_key="k"), answers, stop or Stop(), time.monotonic() + seconds)

    return make


Ask = Callable[..., Asking]


def texts(asking: Asking, *prompts: Prompt) -> list[str]:
    return [answer.text for answer in asking.answers(prompts)]


def test_answers_come_in_the_order_of_what_was_asked(ask: Ask) -> None:
    models = Models()
    assert texts(ask(models), TWO, ONE, THREE) == ["TWO", "ONE", "THREE"]
    assert sorted(models.texts) == ["one", "three", "two"] and not any(models.alone)


def test_nothing_asked_is_nothing_answered(ask: Ask) -> None:
    assert texts(ask(Models())) == []


def test_a_single_request_is_known_to_be_alone(ask: Ask) -> None:
    models = Models()
    texts(ask(models), ONE)
    assert models.alone == [True]


def test_the_same_is_asked_once(ask: Ask) -> None:
    models = Models()
    assert texts(ask(models), ONE, ONE, TWO) == ["ONE", "ONE", "TWO"]
    assert sorted(models.texts) == ["one", "two"]


def test_what_was_answered_before_is_not_asked_again(ask: Ask) -> None:
    texts(ask(Models()), ONE)
    models = Models()
    assert texts(ask(models), ONE, TWO) == ["ONE", "TWO"]
    assert (models.texts, models.alone) == (["two"], [True])


@pytest.mark.parametrize("fault", [Lost("x"), refused(500), refused(429, "Throttling", 0.001), said("x")])
def test_a_fault_that_passes_is_no_fault(ask: Ask, fault: object) -> None:
    models = Models(one=[fault, fault, said("ONE")])  # type: ignore[list-item]
    assert texts(ask(models), ONE, TWO)[1] == "TWO"
    assert models.texts.count("one") == (1 if fault == said("x") else 3)


@pytest.mark.parametrize(("reply", "code"), [(refused(500), "server_fault"), (refused(429), "throttled")])
def test_one_that_stays_ends_the_attempt_when_the_others_have_come(
    ask: Ask, answers: Answers, reply: object, code: str
) -> None:
    models = Models(one=[reply])  # type: ignore[list-item]
    with pytest.raises(Unavailable) as caught:
        ask(models).answers([ONE, TWO])
    assert (caught.value.code, models.texts.count("one")) == (code, 3)
    assert texts(ask(Models(two=[refused(400)])), TWO) == ["TWO"]  # is not asked again


def test_a_fault_that_lasts_longer_than_a_worker_waits_is_left_to_the_queue(ask: Ask) -> None:
    models = Models(one=[refused(429, retry_after=21.0)])
    with pytest.raises(Unavailable) as caught:
        ask(models).answers([ONE])
    assert (caught.value.retry_after, models.texts) == (21.0, ["one"])


def test_an_attempt_that_has_taken_long_sends_nothing_again(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    assert asking.TRYING == 60.0
    monkeypatch.setattr(asking, "TRYING", 0.0)
    models = Models(one=[refused(500)])
    with pytest.raises(Unavailable):
        ask(models).answers([ONE])
    assert models.texts == ["one"]


def test_a_refusal_breaks_off_what_else_is_under_way(ask: Ask) -> None:
    models = Models(one=[None], two=[refused(400, "DataInspectionFailed")])
    with pytest.raises(Refused) as caught:
        ask(models).answers([ONE, TWO])
    assert caught.value.code == "invalid_request"
    assert all(future.cancelled() for future in models.under_way)


def test_a_refusal_counts_more_than_a_fault_before_it(ask: Ask) -> None:
    models = Models(one=[refused(500, retry_after=21.0)], two=[refused(401)])
    with pytest.raises(Refused) as caught:
        ask(models).answers([ONE, TWO])
    assert caught.value.code == "unauthorized"


def test_without_a_key_nothing_is_asked(client: redis.Redis, answers: Answers) -> None:
    class Keyless(Models):
        def begin(self, prompt: Prompt, caller: Caller, **_: object) -> None:
            caller.headers()

    with pytest.raises(JobError) as caught:
        Asking(Keyless(), Caller(api_key=""), answers, Stop(), time.monotonic() + 60).answers([ONE])
    assert caught.value.code == "missing_api_key"


def test_who_finds_no_room_asks_when_there_is_some(ask: Ask) -> None:
    models = Models(room=0)
    threading.Timer(0.05, lambda: setattr(models, "room", 1)).start()
    assert texts(ask(models), ONE, TWO) == ["ONE", "TWO"]


def test_an_answer_that_makes_room_lets_the_next_be_asked(ask: Ask) -> None:
    models = Models(room=1, one=[None], two=[None])

    def answer() -> None:
        for _ in range(2):
            models.await_open().set_result(said("x"))

    thread = threading.Thread(target=answer)
    thread.start()
    assert texts(ask(models), ONE, TWO) == ["x", "x"]
    thread.join(5)
    assert models.most == 1


def test_the_jobs_own_time_ends_it(ask: Ask) -> None:
    with pytest.raises(Refused) as caught:
        ask(Models(), seconds=-1).answers([ONE])
    assert caught.value.code == "deadline_passed"


def test_a_job_that_is_cancelled_breaks_off_what_is_under_way(ask: Ask) -> None:
    stop = Stop()
    models = Models(one=[None])
    models.on_begin = lambda: stop.ask(Cancelled())
    with pytest.raises(Cancelled):
        ask(models, stop).answers([ONE, TWO])
    assert models.under_way[0].cancelled()


def test_a_worker_that_is_ending_lets_what_is_under_way_come_and_asks_no_more(ask: Ask) -> None:
    stop = Stop()
    models = Models(room=1, one=[None], two=[None])
    models.on_begin = lambda: stop.ask(Drained(), at_once=False)
    thread = threading.Thread(target=lambda: models.await_open().set_result(said("x")))
    thread.start()

    with pytest.raises(Drained):
        ask(models, stop).answers([ONE, TWO])

    thread.join(5)
    assert len(models.texts) == 1
    again = Models()
    assert "x" in texts(ask(again), ONE, TWO) and len(again.texts) == 1


def test_a_connection_that_the_process_closes_is_a_lost_one(ask: Ask) -> None:
    models = Models(one=[None, said("ONE")])

    def close() -> None:
        future = models.await_open()
        future.cancel()
        future.set_running_or_notify_cancel()  # as an event loop does

    thread = threading.Thread(target=close)
    thread.start()
    assert texts(ask(models), ONE) == ["ONE"]
    thread.join(5)


def test_a_repr_shows_no_text(ask: Ask) -> None:
    assert repr(ask(Models())) == "<Asking 0 under way, 0 to come>"
