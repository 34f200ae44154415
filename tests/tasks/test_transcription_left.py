"""How an attempt leaves a job that has not ended by itself: cancelled, handed back, overtaken, or without Redis."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from config.settings import JobSettings
from tasks.errors import BadInput, EndedBefore, NotEnded, Withdrawn
from tasks.job.view import JobView
from tests.fakes import FakeRecognizer
from tests.tasks.conftest import FickleRedis
from tests.tasks.scene import KEYS, LEASE, SHOWN, Scene, taken_over, texts
from tests.tasks.spoken import PCM_MS, ActingRecognizer, final, partial
from worker.recognition import ConnectionLost, Finished, Unauthorized
from worker.stops import Cancelled, Drained, LeaseLost

LOST = ConnectionLost("x")
GONE = BadInput("audio_not_found", "It does not exist.")


# -- cancelled ---------------------------------------------------------------------------------------------------------


def is_cancelled(view: JobView, client: redis.Redis) -> bool:
    fields = view.fields()
    return (
        fields["state"] == "cancelled"
        and "ended_at" in fields
        and "error" not in fields
        and not client.exists(KEYS.lease, KEYS.cancel)
    )


def test_who_is_cancelled_before_he_begins_opens_nothing(scene: Scene, client: redis.Redis, view: JobView) -> None:
    client.set(KEYS.cancel, "1", ex=100)
    with pytest.raises(Withdrawn):
        scene.run(ref=7)
    assert scene.opened == [] and scene.watched == [] and is_cancelled(view, client)


def test_who_is_cancelled_in_mid_stream_gives_the_recogniser_back_and_keeps_what_was_finished(
    scene: Scene, client: redis.Redis, view: JobView
) -> None:
    stream = ActingRecognizer(final(0, 100, "One."), lambda: scene.stop.ask(Cancelled()), final(100, 200, "Two."))
    with pytest.raises(Withdrawn) as withdrawn:
        scene.run(stream)
    assert withdrawn.value.__suppress_context__
    assert texts(view) == ["One."] and is_cancelled(view, client)
    assert len(stream.interruptions) == 1 and scene.recognizers.returned == 1


def test_who_is_cancelled_between_two_streams_does_not_wait_for_the_next(
    scene: Scene, rules: Callable[..., JobSettings], client: redis.Redis, view: JobView
) -> None:
    scene.rules = rules(STENOPOOL_JOB_BACKOFF="3600")
    asking: list[threading.Thread] = []

    def ask_soon() -> None:
        asking.append(threading.Timer(0.05, lambda: scene.stop.ask(Cancelled())))
        asking[0].start()

    began = time.monotonic()
    with pytest.raises(Withdrawn):
        scene.run(ActingRecognizer(final(0, 100, "One."), ask_soon, LOST), FakeRecognizer())
    asking[0].join()
    assert time.monotonic() - began < 30 and len(scene.opened) == 1 and is_cancelled(view, client)


def test_who_is_cancelled_as_he_begins_opens_nothing(scene: Scene, client: redis.Redis, view: JobView) -> None:
    scene.at_start = lambda: scene.stop.ask(Cancelled())
    with pytest.raises(Withdrawn):
        scene.run()
    assert scene.opened == [] and is_cancelled(view, client)


def test_a_cancelled_job_stays_so_however_often_its_message_comes(scene: Scene, client: redis.Redis) -> None:
    scene.at_start = lambda: scene.stop.ask(Cancelled())
    for _ in range(3):
        with pytest.raises(Withdrawn):
            scene.run()
    assert scene.watched == [KEYS.cancel]


# -- the worker ends ---------------------------------------------------------------------------------------------------


def handed_back(left: NotEnded, view: JobView, client: redis.Redis) -> bool:
    fields = view.fields()
    return (
        (left.seconds, left.error) == (0, None)
        and fields["state"] == "queued"
        and "error" not in fields
        and not client.exists(KEYS.lease)
    )


def test_who_is_to_leave_comes_to_the_end_of_the_sentence(scene: Scene, client: redis.Redis, view: JobView) -> None:
    stream = ActingRecognizer(
        final(0, 50, "One."), scene.ask_softly, partial(60, "tw"), final(50, 100, "Two."), final(100, 150, "Three.")
    )
    left = scene.left(stream)
    assert texts(view) == ["One.", "Two."] and handed_back(left, view, client)
    assert stream.interruptions == [] and scene.recognizers.returned == 1

    result = scene.run(FakeRecognizer(final(0, 50, "Three.")))

    assert result["text"] == "One. Two. Three." and (result["attempts"], result["resumes"]) == (2, 1)


def test_who_is_to_leave_at_once_does_not_wait_for_it(scene: Scene, client: redis.Redis, view: JobView) -> None:
    stream = ActingRecognizer(final(0, 50, "One."), lambda: scene.stop.ask(Drained()), final(50, 100, "Two."))
    left = scene.left(stream)
    assert texts(view) == ["One."] and handed_back(left, view, client) and len(stream.interruptions) == 1


@pytest.mark.parametrize("at_once", [True, False])
def test_who_begins_while_the_worker_ends_opens_nothing(
    scene: Scene, client: redis.Redis, view: JobView, at_once: bool
) -> None:
    scene.at_start = lambda: scene.stop.ask(Drained(), at_once=at_once)
    assert handed_back(scene.left(), view, client) and scene.opened == []


def test_however_often_workers_end_no_try_is_counted(
    scene: Scene, rules: Callable[..., JobSettings], client: redis.Redis, view: JobView
) -> None:
    scene.rules = rules(STENOPOOL_JOB_RETRIES="0")
    scene.at_start = lambda: scene.stop.ask(Drained())
    for _ in range(5):
        assert handed_back(scene.left(), view, client)
    scene.at_start = lambda: None
    assert scene.run()["attempts"] == 6


def test_a_stream_that_ends_by_itself_although_the_worker_is_to_leave_has_ended_the_job(scene: Scene) -> None:
    assert scene.run(ActingRecognizer(final(0, 50, "One."), scene.ask_softly))["text"] == "One."


# -- another worker has it ---------------------------------------------------------------------------------------------


def test_who_has_lost_the_lease_learns_it_at_the_next_sentence_and_leaves_a_message(
    scene: Scene, client: redis.Redis, view: JobView
) -> None:
    stream = ActingRecognizer(final(0, 50, "One."), lambda: taken_over(client), final(50, 100, "Two."))
    left = scene.left(stream)
    assert (left.seconds, left.error) == (LEASE, None)
    fields = view.fields()
    assert (fields["state"], fields["worker"], texts(view)) == ("running", "other@h", ["One."])
    assert scene.recognizers.returned == 1


def test_who_learns_it_from_the_heartbeat_stops_at_once(scene: Scene, client: redis.Redis, view: JobView) -> None:
    def overtaken() -> None:
        taken_over(client)
        scene.stop.ask(LeaseLost())

    stream = ActingRecognizer(final(0, 50, "One."), overtaken, final(50, 100, "Two."))
    left = scene.left(stream)
    assert (left.seconds, left.error, len(stream.interruptions)) == (LEASE, None, 1)
    assert view.fields()["worker"] == "other@h"


def test_so_does_who_learns_it_just_before_redis_goes_away(scene: Scene, fickle: FickleRedis) -> None:
    def overtaken() -> None:
        fickle.goes_away()
        scene.stop.ask(LeaseLost())

    scene.client = fickle
    left = scene.left(ActingRecognizer(overtaken, final(0, 50, "One.")))
    assert (left.seconds, left.error) == (LEASE, None)


@pytest.mark.parametrize(
    "end",
    [[Finished("t")], [LOST], [Unauthorized("no")], [OSError("our fault")]],
    ids=["at its end", "by an error that passes", "by one that does not", "by a fault of ours"],
)
def test_who_learns_it_at_the_end_leaves_the_other_s_record_alone(
    scene: Scene, client: redis.Redis, view: JobView, end: list[Any]
) -> None:
    left = scene.left(ActingRecognizer(lambda: taken_over(client), *end))
    assert (left.seconds, left.error) == (LEASE, None)
    assert (view.fields()["state"], view.fields()["worker"]) == ("running", "other@h")


@pytest.mark.parametrize("why", [Cancelled, Drained])
def test_so_does_who_is_to_stop(scene: Scene, client: redis.Redis, view: JobView, why: Any) -> None:
    def stopped() -> None:
        taken_over(client)
        scene.stop.ask(why())

    left = scene.left(ActingRecognizer(stopped, final(0, 50, "One.")))
    assert (left.seconds, left.error) == (LEASE, None) and view.fields()["state"] == "running"


def test_a_second_delivery_waits_until_the_holder_has_ended_or_is_lost(
    scene: Scene, client: redis.Redis, view: JobView
) -> None:
    scene.record().claim(SHOWN, "holder@h")
    client.pexpire(KEYS.lease, 5000)
    before = view.fields()
    left = scene.left()
    assert 4 < left.seconds <= 5 + 1 and left.error is None
    assert scene.opened == [] and view.fields() == before


def test_a_second_delivery_of_a_job_that_succeeded_gives_the_first_one_s_result(scene: Scene, view: JobView) -> None:
    result = scene.run(FakeRecognizer(final(0, 100, "One.")))
    before = view.fields()
    with pytest.raises(EndedBefore) as again:
        scene.run(ref=7)
    assert again.value.result == result
    assert len(scene.opened) == 1 and view.fields() == before


def test_a_second_delivery_of_a_job_that_failed_gives_the_first_one_s_error(scene: Scene, view: JobView) -> None:
    first = scene.failed(audio=[GONE])
    before = view.fields()
    with pytest.raises(EndedBefore) as again:
        scene.run()
    assert again.value.result is None and again.value.error.args == first.args
    assert not again.value.error.retryable and view.fields() == before


# -- Redis is away -----------------------------------------------------------------------------------------------------


@pytest.fixture
def away(scene: Scene, fickle: FickleRedis) -> FickleRedis:
    """The client of the scene, whose Redis a test takes away."""
    scene.client = fickle
    return fickle


def test_a_job_that_cannot_be_taken_is_left_to_another_attempt(scene: Scene, away: FickleRedis) -> None:
    away.goes_away()
    left = scene.left()
    assert 1 <= left.seconds <= 5 and left.error is not None and left.error.code == "redis_unavailable"
    assert scene.opened == []


def test_a_job_goes_on_without_redis_and_waits_for_it_at_the_end(
    scene: Scene, away: FickleRedis, view: JobView
) -> None:
    def back_after_some_tries() -> None:
        away.away = 5

    scene.patience = 60.0
    stream = ActingRecognizer(
        final(0, 50, "One."), away.goes_away, final(50, 100, "Two."), final(100, 150, "Three."), back_after_some_tries
    )
    result = scene.run(stream, live=True)
    assert result["text"] == "One. Two. Three." and away.away == 0
    assert texts(view) == ["One.", "Two.", "Three."] and view.fields()["state"] == "succeeded"


def test_a_job_that_fails_waits_for_it_too(scene: Scene, away: FickleRedis, view: JobView) -> None:
    def away_for_some_tries() -> None:
        away.away = 5

    scene.patience = 60.0
    assert scene.failed(ActingRecognizer(away_for_some_tries, Unauthorized("no"))).code == "unauthorized"
    assert (view.fields()["state"], away.away) == ("failed", 0)


def test_when_the_patience_is_at_its_end_the_job_is_left_to_another_attempt(
    scene: Scene, away: FickleRedis, client: redis.Redis, view: JobView, caplog: pytest.LogCaptureFixture
) -> None:
    left = scene.left(ActingRecognizer(final(0, 50, "One."), away.goes_away, final(50, 100, "Two.")))
    assert left.error is not None and left.error.code == "redis_unavailable" and left.seconds >= 0
    assert "job j: how it is left could not be recorded" in caplog.text
    assert (view.fields()["state"], texts(view)) == ("running", ["One."])

    away.comes_back()
    assert 9 < scene.left().seconds <= LEASE + 1  # the lease runs out by itself
    client.delete(KEYS.lease)
    assert scene.run(FakeRecognizer(final(0, 50, "Two.")))["text"] == "One. Two."


def test_a_failure_that_cannot_be_recorded_is_none_yet(
    scene: Scene, away: FickleRedis, caplog: pytest.LogCaptureFixture
) -> None:
    left = scene.left(ActingRecognizer(away.goes_away, Unauthorized("no")))
    assert left.error is not None and left.error.code == "unauthorized" and 1 <= left.seconds <= 5
    assert "could not be recorded" in caplog.text


@pytest.mark.parametrize("why", [Cancelled, Drained])
def test_who_is_to_stop_does_not_wait_for_redis(
    scene: Scene, away: FickleRedis, caplog: pytest.LogCaptureFixture, why: Any
) -> None:
    def stopped() -> None:
        away.goes_away()
        scene.stop.ask(why())

    scene.patience = 3600.0
    left = scene.left(ActingRecognizer(stopped, final(0, 50, "One.")))
    assert (left.seconds > 0, left.error) == (why is Cancelled, None)
    assert "could not be recorded" in caplog.text


def test_who_is_to_leave_at_once_does_not_wait_for_redis_at_the_end_either(
    scene: Scene, away: FickleRedis, caplog: pytest.LogCaptureFixture
) -> None:
    def asked() -> None:
        away.goes_away()
        threading.Timer(0.1, scene.stop.ask, [Drained()]).start()  # while it waits

    scene.patience = 3600.0
    left = scene.left(ActingRecognizer(final(0, 50, "One."), asked))
    assert (left.seconds, left.error) == (0, None) and "could not be recorded" in caplog.text


def test_who_is_to_leave_soon_still_waits_for_redis_at_the_end(scene: Scene, away: FickleRedis, view: JobView) -> None:
    def asked_softly() -> None:
        away.goes_away()
        scene.ask_softly()
        threading.Timer(0.1, away.comes_back).start()

    scene.patience = 3600.0
    scene.run(ActingRecognizer(final(0, 50, "One."), asked_softly))
    assert (view.fields()["state"], texts(view)) == ("succeeded", ["One."])


def test_a_redis_that_lost_everything_has_the_whole_job_again_in_the_end(
    scene: Scene, client: redis.Redis, view: JobView
) -> None:
    stream = ActingRecognizer(final(0, 50, "One."), final(50, 100, "Two."), client.flushdb, final(100, 150, "Three."))
    scene.run(stream)
    assert texts(view) == ["One.", "Two.", "Three."]
    fields = view.fields()
    assert (fields["state"], fields["worker"], fields["duration_ms"]) == ("succeeded", "w@h", str(PCM_MS))


def test_a_job_whose_time_was_over_before_opens_nothing(scene: Scene, client: redis.Redis) -> None:
    scene.left(FakeRecognizer(LOST, takes=1))
    client.hset(KEYS.job, "started_at", 1)
    opened = len(scene.opened)
    assert scene.failed().code == "deadline_passed" and len(scene.opened) == opened
