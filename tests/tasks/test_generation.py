"""How an attempt is left, whatever ends it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from celery.utils.saferepr import saferepr

from config.settings import JobSettings
from tasks import generation
from tasks.errors import JobError, NotEnded, Withdrawn
from tasks.generation import House
from tasks.job.keys import JobKeys
from tasks.shell import JobTask
from tasks.text import asking
from tasks.text.answers import Answers
from tasks.text.request import GenerateRequest
from tests.tasks.text.models import Models, refused, said
from worker.generation import Caller
from worker.stops import Cancelled, Drained, LeaseLost, Stop, Stopped

Rules = Callable[..., JobSettings]
ANSWERS = "stenopool:job:{j}:answers"
LEASE = "stenopool:job:{j}:lease"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(asking, "LOOK_EVERY", 0.01)


@pytest.fixture
def run(client: redis.Redis, rules: Rules) -> Callable[..., dict[str, Any]]:
    def attempt(
        models: Models,
        why: Stopped | None = None,
        tries: int = 0,
        redis: Any = client,
        text: str = "one",
        **asked: Any,
    ) -> dict[str, Any]:
        @contextmanager
        def watch(cancel_key: str, stop: Stop, pulse: Any) -> Iterator[None]:
            if why is not None:
                stop.ask(why)
            yield

        house = House(
            rules=rules(STENOPOOL_JOB_BACKOFF="2"),
            asked=models,
            caller=lambda account: Caller(api_key="k"),
            watch=watch,
            explain=lambda error: JobError("internal_error", f"A fault ({type(error).__name__})."),
        )
        answers = Answers(redis, JobKeys("j"), "token", ttl=60, lease=15)
        return generation.run(GenerateRequest.parse((text,), asked), "j", answers, house, tries)

    return attempt


Run = Callable[..., dict[str, Any]]


def left(run: Run, *args: Any, **options: Any) -> NotEnded:
    with pytest.raises(NotEnded) as caught:
        run(*args, **options)
    return caught.value


def test_a_worker_that_is_ending_gives_the_job_back_at_once(run: Run, client: redis.Redis) -> None:
    found = left(run, Models(one=[None]), Drained())
    assert (found.seconds, found.error) == (0, None)
    assert not client.exists(LEASE) and client.hget(ANSWERS, "fruitless") == b"0"


def test_who_was_overtaken_leaves_the_job_and_its_lease_alone(run: Run, client: redis.Redis) -> None:
    found = left(run, Models(one=[None]), LeaseLost())
    assert (found.seconds, found.error) == (15, None)
    assert client.exists(LEASE)


def test_a_job_that_is_cancelled_is_withdrawn(run: Run, client: redis.Redis) -> None:
    with pytest.raises(Withdrawn):
        run(Models(one=[None]), Cancelled())
    assert not client.exists(LEASE)


def test_a_redis_that_is_away_leaves_the_job_for_a_moment(run: Run, nowhere: redis.Redis) -> None:
    models = Models()
    found = left(run, models, redis=nowhere)
    assert 1 <= found.seconds <= 5
    assert found.error is not None and found.error.code == "redis_unavailable"
    assert models.texts == []


def test_one_that_somebody_works_on_waits_until_that_one_may_be_dead(run: Run, client: redis.Redis) -> None:
    client.set(LEASE, "another", px=9000)
    found = left(run, Models())
    assert 9 <= found.seconds <= 10 and found.error is None


@pytest.mark.parametrize(("tries", "most"), [(0, 2), (3, 16), (6, 120), (5000, 120)])
def test_a_fault_is_tried_again_after_a_pause_that_grows(run: Run, tries: int, most: float) -> None:
    pauses = []
    for _ in range(5):
        found = left(run, Models(one=[refused(429)]), tries=tries)
        assert found.error is not None and found.error.code == "throttled"
        pauses.append(found.seconds)
    assert 0 < max(pauses) <= most and len(set(pauses)) == 5


def test_the_service_says_when_at_the_earliest(run: Run) -> None:
    assert 30 <= left(run, Models(one=[refused(429, retry_after=30)])).seconds <= 32


def test_a_fault_that_nobody_foresaw_is_explained(run: Run, client: redis.Redis) -> None:
    with pytest.raises(JobError) as caught:
        run(Models(one=[ZeroDivisionError("Alice")]))
    assert (caught.value.code, "Alice" in str(caught.value)) == ("internal_error", False)
    assert not client.exists(LEASE)


LINES = ["one two " * 12 + "abc\n", "two one " * 12 + "abc\n"]


@pytest.mark.parametrize(
    ("parts", "requests", "tokens"), [(LINES[:1], 1, 25), (LINES[:1] * 5, 1, 25), (LINES * 2 + LINES[:1], 2, 50)]
)
def test_parts_that_are_the_same_are_paid_for_and_counted_once(
    run: Run, parts: list[str], requests: int, tokens: int
) -> None:
    models = Models()
    result = run(models, text="".join(parts), part_chars=100)

    assert (result["parts"], result["requests"], len(models.texts)) == (len(parts), requests, requests)
    assert result["usage"] == {"input_tokens": requests, "output_tokens": tokens}
    assert result["text"] == "".join(parts).strip().upper()


def test_an_answer_that_was_cut_off_is_counted_once_too(run: Run) -> None:
    models = Models()
    models.script[LINES[0]] = [said("x", "length")]
    result = run(models, text=LINES[0] * 3 + LINES[1], part_chars=100)
    assert (result["parts"], result["requests"], result["truncated"]) == (4, 2, 1)


@pytest.mark.parametrize("merge", ["join", "reduce"])
def test_half_a_character_in_an_answer_does_not_end_the_job(run: Run, merge: str) -> None:
    models = Models()
    models.script |= {line: [said("Fine \ud83d")] for line in LINES}
    result = run(models, text="".join(LINES), part_chars=100, merge=merge)
    assert "�" in result["text"] and result["text"].encode()
    assert result["requests"] == len(models.texts) and "\ud83d" not in "".join(models.texts)


def test_nothing_of_the_text_is_in_what_is_shown_of_a_result(run: Run) -> None:
    result = run(Models(), text="Alice")
    assert "ALICE" in result["text"] and "ALICE" not in saferepr(result, JobTask.resultrepr_maxsize)
