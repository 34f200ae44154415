import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from config.settings import JobSettings
from tasks.errors import BadInput, NotEnded, Refused, Unavailable, Withdrawn
from tasks.job.view import JobView
from tests.fakes import FakeRecognizer
from tests.tasks.scene import KEYS, SHOWN, Scene, states, texts
from tests.tasks.spoken import PCM, PCM_MS, RATE, ActingRecognizer, FakeRecording, final, partial
from worker.accounts import NoSuchAccount
from worker.pool import OpenFailed, PoolTimeout
from worker.quota import NoQuota, QuotaUnknown, Wish
from worker.recognition import ConnectionLost, Finished, NoSpeech, ServerFault, Throttled, Unauthorized, UpstreamSilent
from worker.stops import Cancelled, Drained

DRAWS = 20
"""Draws of a random wait that a test looks at."""

LOST = ConnectionLost("x")
FAULT = ServerFault("x")


# -- a job that goes well ----------------------------------------------------------------------------------------------


def test_a_job_borrows_streams_and_returns_what_was_said(scene: Scene, view: JobView) -> None:
    recognizer = FakeRecognizer(partial(0, "on"), final(0, 100, "One."), final(100, 300, "Two."), Finished("t"))

    result = scene.run(recognizer, metadata={"k": 1}, language_hints=["en"])

    assert recognizer.heard == PCM and scene.recordings[0].asked == [0]
    assert scene.opened == [("https://h/a.mp3", RATE)] and scene.watched == [KEYS.cancel]
    ((borrower,), returned) = (scene.recognizers.borrowers, scene.recognizers.returned)
    assert (borrower.split()[0], returned) == ("j", 1)
    timing = result.pop("timing")
    assert timing.pop("reused_connection") is True and timing.pop("queued_ms") is None
    assert set(timing) == {"borrow_ms", "first_result_ms", "wall_ms"} and all(ms >= 0 for ms in timing.values())
    assert [one["text"] for one in result.pop("sentences")] == ["One.", "Two."]
    assert result == {
        "job_id": "j",
        "audio": "https://h/a.mp3",
        "model": "paraformer-realtime-v2",
        "duration_ms": PCM_MS,
        "text": "One. Two.",
        "captions": {},
        "usage": {"audio_ms": PCM_MS, "sent_ms": PCM_MS, "streams": 1},
        "attempts": 1,
        "resumes": 0,
        "metadata": {"k": 1},
    }
    assert texts(view) == ["One.", "Two."]
    fields = view.fields()
    assert (fields["audio"], fields["worker"], fields["state"]) == (SHOWN, "w@h", "succeeded")
    assert (fields["sent_ms"], fields["streams"], fields["resumes"]) == ("300", "1", "0")
    assert json.loads(fields["result"])["text"] == "One. Two." and "secret" not in str(fields)
    assert "partial" not in [kind for kind, _ in view.events()]


def test_partials_are_told_when_asked_for(scene: Scene, view: JobView) -> None:
    scene.run(FakeRecognizer(partial(0, "on"), final(0, 100, "One."), partial(50, "tw")), live=True)
    told = [(kind, data["text"], data["begin_time"]) for kind, data in view.events() if kind != "state"]
    assert told == [("partial", "on", 0), ("final", "One.", 0), ("partial", "tw", 100)]


def test_a_sentence_without_text_is_not_kept(scene: Scene, view: JobView) -> None:
    assert scene.run(FakeRecognizer(final(0, 100, " "), final(100, 200, "Two.")))["text"] == "Two."
    assert texts(view) == ["Two."]


def test_no_speech_is_a_transcript_without_sentences(scene: Scene) -> None:
    result = scene.run(FakeRecognizer(NoSpeech("x")))
    assert (result["sentences"], result["duration_ms"], result["usage"]["sent_ms"]) == ([], PCM_MS, PCM_MS)
    assert result["timing"]["first_result_ms"] is None


def test_a_job_is_followed_while_it_streams_and_not_after(scene: Scene, client: redis.Redis, view: JobView) -> None:
    def beat() -> None:
        """As the heartbeat does some seconds later."""
        assert scene.pulse is not None and scene.pulse.tell() is None
        scene.pulse._told_at -= 10  # type: ignore[attr-defined]
        call = scene.pulse.tell()
        assert call is not None and call.given[-4:] == (PCM_MS, PCM_MS, 1, 0)
        scene.pulse.told(call.run(client))
        assert view.fields()["progress_ms"] == str(PCM_MS)
        late.append(call)

    late: list[Any] = []
    scene.run(ActingRecognizer(beat, final(0, 100, "One.")))
    fields = view.fields()
    assert late[0].run(client) == b"over" and view.fields() == fields


@pytest.mark.parametrize("declared", [None, PCM_MS, 9999])
def test_how_long_a_recording_says_that_it_is_is_told_when_it_is_opened(
    scene: Scene, view: JobView, declared: int | None
) -> None:
    seen: list[Any] = []
    look = ActingRecognizer(lambda: seen.append(view.fields().get("duration_ms")), final(0, 9, "One."), LOST)
    result = scene.run(look, FakeRecognizer(), audio=[FakeRecording(duration_ms=declared)])
    assert seen == [None if declared is None else str(declared)] and result["duration_ms"] == PCM_MS


def test_the_first_stream_s_connection_is_the_one_that_was_reused_or_not(scene: Scene) -> None:
    fresh = FakeRecognizer(final(0, 100, "One."), connected_at=math.inf)
    assert scene.run(fresh)["timing"]["reused_connection"] is False


def test_all_attempts_together_have_the_time_that_a_job_has(scene: Scene, client: redis.Redis) -> None:
    recognizer = FakeRecognizer()
    client.hset(KEYS.job, mapping={"state": "queued", "started_at": time.time() - 1000})
    scene.run(recognizer)
    left = recognizer.asked["deadline"] - time.monotonic()
    assert scene.rules.deadline == 86_400 and 85_390 < left <= 85_400


# -- goes on from the last sentence ------------------------------------------------------------------------------------


def test_a_stream_that_fails_after_a_new_sentence_is_followed_by_another_from_its_end(
    scene: Scene, view: JobView
) -> None:
    recording = FakeRecording()
    first = FakeRecognizer(final(0, 100, "One."), partial(120, "tw"), LOST)
    second = FakeRecognizer(final(20, 80, "Two."), final(90, 200, "Three."), Finished("t"))

    result = scene.run(first, second, audio=[recording])

    assert recording.asked == [0, 100] and second.heard == PCM[3200:]
    times = [(one["text"], one["begin_time"], one["end_time"]) for one in result["sentences"]]
    assert times == [("One.", 0, 100), ("Two.", 120, 180), ("Three.", 190, 300)]
    assert (result["resumes"], result["attempts"]) == (1, 1)
    assert result["usage"] == {"audio_ms": 300, "sent_ms": 300 + 200, "streams": 2}
    assert result["sentences"] == view.sentences() and states(view) == ["running", "succeeded"]
    assert len(scene.opened) == 2 and scene.recognizers.returned == 2 and scene.watched == [KEYS.cancel]


def test_so_it_goes_on_as_long_as_each_brings_a_sentence(scene: Scene) -> None:
    recording = FakeRecording()
    streams = [FakeRecognizer(final(0, 50, f"{number}."), ServerFault("x")) for number in range(5)]
    result = scene.run(*streams, FakeRecognizer(final(0, 50, "5.")), audio=[recording])
    assert recording.asked == [0, 50, 100, 150, 200, 250]
    assert result["text"] == "0. 1. 2. 3. 4. 5." and (result["resumes"], result["usage"]["streams"]) == (5, 6)
    assert result["usage"]["sent_ms"] == 300 + 250 + 200 + 150 + 100 + 50


def test_a_stream_that_ends_before_it_was_begun_is_not_counted_as_one(scene: Scene) -> None:
    """The pool lends nothing after the first stream; the attempt ends, and the next one goes on."""
    refused = OpenFailed("recognizer", Throttled("later"))
    left = scene.left(FakeRecognizer(final(0, 100, "One."), LOST), refused)
    assert left.error is not None and left.error.code == "throttled"
    recording = FakeRecording()
    result = scene.run(FakeRecognizer(final(0, 100, "Two.")), audio=[recording])
    assert recording.asked == [100] and (result["attempts"], result["resumes"]) == (1, 2)  # the service was full
    assert result["usage"] == {"audio_ms": 300, "sent_ms": 500, "streams": 2}


def test_another_attempt_goes_on_where_the_last_one_was_and_sums_what_was_sent(
    scene: Scene, client: redis.Redis, view: JobView
) -> None:
    scene.left(FakeRecognizer(final(0, 100, "One."), LOST), FakeRecognizer(ServerFault("x")))
    recording = FakeRecording()

    result = scene.run(FakeRecognizer(final(0, 50, "Two.")), audio=[recording])

    assert recording.asked == [100]
    assert [(one["text"], one["begin_time"]) for one in result["sentences"]] == [("One.", 0), ("Two.", 100)]
    assert (result["attempts"], result["resumes"]) == (2, 2)
    assert result["usage"] == {"audio_ms": 300, "sent_ms": 300 + 200 + 200, "streams": 3}
    assert states(view) == ["running", "queued", "running", "succeeded"]
    assert "error" not in view.fields() and "error_code" not in view.fields()


def test_what_a_worker_had_finished_before_it_was_lost_is_not_done_again(
    scene: Scene, client: redis.Redis, view: JobView
) -> None:
    lost = scene.record()
    lost.claim(SHOWN, "lost@h")
    lost.final({"begin_time": 0, "end_time": 100, "text": "One.", "channel": 0, "words": []})
    client.delete(KEYS.lease)
    recording = FakeRecording()
    result = scene.run(FakeRecognizer(final(0, 50, "Two.")), audio=[recording])
    assert recording.asked == [100] and result["text"] == "One. Two." and result["attempts"] == 2


def test_a_recording_of_which_all_was_heard_ends_as_it_should(scene: Scene) -> None:
    recording = FakeRecording()
    result = scene.run(FakeRecognizer(final(0, PCM_MS, "One."), LOST), FakeRecognizer(NoSpeech("x")), audio=[recording])
    assert recording.asked == [0, PCM_MS] and result["text"] == "One." and result["duration_ms"] == PCM_MS


# -- without a new sentence --------------------------------------------------------------------------------------------


def test_a_stream_that_fails_without_a_new_sentence_leaves_the_job_to_another_attempt(
    scene: Scene, client: redis.Redis, view: JobView
) -> None:
    left = scene.left(FakeRecognizer(partial(0, "on"), FAULT))
    assert isinstance(left.error, Unavailable) and left.error.code == "server_fault"
    assert 0 <= left.seconds <= scene.rules.backoff and len(scene.opened) == 1
    fields = view.fields()
    assert (fields["state"], fields["error_code"], fields["error"]) == ("queued", *left.error.args)
    assert "ended_at" not in fields and not client.exists(KEYS.lease)


@pytest.mark.parametrize(
    ("before", "most"), [(0, 2.0), (1, 4.0), (2, 5.0), (4, 5.0)], ids=["first", "second", "third", "fifth"]
)
def test_the_wait_doubles_up_to_its_bound_and_is_drawn_from_all_of_it(
    scene: Scene, rules: Callable[..., JobSettings], client: redis.Redis, before: int, most: float
) -> None:
    scene.rules = rules(STENOPOOL_JOB_BACKOFF="2", STENOPOOL_JOB_BACKOFF_MAX="5")
    waits: list[float] = []
    for _ in range(DRAWS):
        client.hset(KEYS.job, "fruitless", before)
        waits.append(scene.left(FakeRecognizer(FAULT)).seconds)
    # Full jitter: twenty draws that all fall into one half come once in half a million runs.
    assert 0 <= min(waits) < most / 2 < max(waits) <= most


@pytest.mark.parametrize("error", [LOST, UpstreamSilent("x")], ids=lambda error: error.code)
def test_one_cut_in_an_attempt_is_forgiven(
    scene: Scene, rules: Callable[..., JobSettings], view: JobView, error: Exception
) -> None:
    scene.rules = rules(STENOPOOL_JOB_RETRIES="0")
    recording = FakeRecording()
    result = scene.run(
        FakeRecognizer(partial(0, "on"), error), FakeRecognizer(final(0, 100, "One.")), audio=[recording]
    )
    assert recording.asked == [0, 0] and result["text"] == "One."
    assert (result["attempts"], result["resumes"]) == (1, 0)
    assert result["usage"] == {"audio_ms": 300, "sent_ms": 600, "streams": 2}
    assert states(view) == ["running", "succeeded"] and scene.watched == [KEYS.cancel]


def test_the_second_is_not_and_each_attempt_has_one(scene: Scene, view: JobView) -> None:
    for tries in (1, 2):
        left = scene.left(FakeRecognizer(LOST))
        assert left.error is not None and left.error.code == "connection_lost"
        assert len(scene.opened) == 2 * tries and view.fields()["attempts"] == str(tries)


def test_one_after_a_new_sentence_needs_no_forgiving(scene: Scene) -> None:
    streams = [FakeRecognizer(final(0, 50, f"{number}."), LOST) for number in range(3)]
    result = scene.run(*streams, FakeRecognizer(LOST), FakeRecognizer(final(0, 50, "3.")))
    assert (result["text"], result["attempts"], result["resumes"]) == ("0. 1. 2. 3.", 1, 4)
    assert scene.recognizers.returned == 5


def test_one_that_was_forgiven_is_not_again_after_a_new_sentence(scene: Scene, view: JobView) -> None:
    cut = FakeRecognizer(LOST)
    scene.left(cut, FakeRecognizer(final(0, 50, "One."), LOST), cut, FakeRecognizer())
    assert texts(view) == ["One."] and scene.recognizers.returned == 3


def test_between_the_two_streams_there_is_a_pause_that_who_is_cancelled_does_not_wait_for(
    scene: Scene, rules: Callable[..., JobSettings]
) -> None:
    scene.rules = rules(STENOPOOL_JOB_BACKOFF="3600", STENOPOOL_JOB_BACKOFF_MAX="3600")
    began = time.monotonic()
    with pytest.raises(Withdrawn):
        scene.run(ActingRecognizer(lambda: scene.stop.ask(Cancelled(), at_once=False), LOST))
    assert time.monotonic() - began < 30 and len(scene.opened) == 1


@pytest.mark.parametrize("error", [Throttled("later", 7.0), ServerFault("x", 7.0)])
def test_nobody_comes_back_before_the_service_said(scene: Scene, error: Exception) -> None:
    assert 7 <= scene.left(FakeRecognizer(error)).seconds <= 7 + scene.rules.backoff


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_after_the_retries_that_are_allowed_it_fails_with_the_last_error(
    scene: Scene, rules: Callable[..., JobSettings], view: JobView, retries: int
) -> None:
    scene.rules = rules(STENOPOOL_JOB_RETRIES=str(retries))
    for _ in range(retries):
        scene.left(FakeRecognizer(LOST))
    error = scene.failed(FakeRecognizer(ServerFault("x")))
    assert isinstance(error, Unavailable) and error.code == "server_fault"
    fields = view.fields()
    assert (fields["state"], fields["error_code"], fields["error"]) == ("failed", *error.args)
    assert fields["attempts"] == str(retries + 1) and states(view) == ["running", "queued"] * retries + [
        "running",
        "failed",
    ]


@pytest.mark.parametrize("retries", [0, 1])
def test_a_new_sentence_sets_the_count_back(
    scene: Scene, rules: Callable[..., JobSettings], view: JobView, retries: int
) -> None:
    scene.rules = rules(STENOPOOL_JOB_RETRIES=str(retries))
    for number in range(3):
        scene.left(FakeRecognizer(final(0, 50, f"{number}."), LOST), FakeRecognizer(LOST))
        for _ in range(retries):
            scene.left(FakeRecognizer(LOST))
    assert texts(view) == ["0.", "1.", "2."]
    assert scene.failed(FakeRecognizer(LOST)).code == "connection_lost"
    assert texts(view) == ["0.", "1.", "2."]


@pytest.mark.parametrize("sentences", [0, 1])
def test_what_the_service_declines_ends_the_job_at_once_and_what_was_finished_stays(
    scene: Scene, view: JobView, sentences: int
) -> None:
    events = [final(0, 100, "One.")] * sentences
    error = scene.failed(FakeRecognizer(*events, Unauthorized("no")))
    assert isinstance(error, Refused) and error.code == "unauthorized"
    assert (view.fields()["state"], texts(view)) == ("failed", ["One."] * sentences)
    assert len(scene.opened) == 1 and states(view) == ["running", "failed"]


def test_a_worker_that_is_lost_again_and_again_ends_the_job(
    scene: Scene, rules: Callable[..., JobSettings], client: redis.Redis, view: JobView
) -> None:
    scene.rules = rules(STENOPOOL_JOB_RETRIES="2")
    for _ in range(3):
        scene.record().claim(SHOWN, "lost@h")
        client.delete(KEYS.lease)
    error = scene.failed()
    assert error.code == "worker_lost" and "3 times" in error.sentence
    assert states(view).count("running") == 3  # the last time it was only taken to be ended
    assert scene.opened == [] and scene.recognizers.borrowers == [] and scene.watched == []
    assert (view.fields()["state"], view.fields()["error_code"]) == ("failed", "worker_lost")


def test_before_that_it_is_tried_again(scene: Scene, rules: Callable[..., JobSettings], client: redis.Redis) -> None:
    scene.rules = rules(STENOPOOL_JOB_RETRIES="2")
    for _ in range(2):
        scene.record().claim(SHOWN, "lost@h")
        client.delete(KEYS.lease)
    assert scene.run()["attempts"] == 3


def test_what_nobody_foresaw_ends_the_job_as_it_is_explained(scene: Scene, view: JobView) -> None:
    error = scene.failed(OpenFailed("recognizer", OSError("no route")))
    assert error.args == ("internal_error", "OpenFailed.") and not error.retryable
    assert (view.fields()["state"], view.fields()["error"]) == ("failed", "OpenFailed.")


# -- the account's quota -----------------------------------------------------------------------------------------------

GENERAL = {
    "throttled": FakeRecognizer(Throttled("later"), takes=0),
    "throttled at the handshake": OpenFailed("recognizer", Throttled("later")),
    "no connection": PoolTimeout("no recognizer free", 5.0, "leased 0, max 2", "ConnectFailed"),
}
"""What befalls all jobs of an account."""

PARTICULAR = {
    "a fault": FakeRecognizer(FAULT),
    "cut twice": FakeRecognizer(LOST),
    "all lent": PoolTimeout("no recognizer free", 5.0, "leased 2, max 2"),
}
"""What may be a job's own fault."""


def in_vain(scene: Scene, place: str, *lent: Any, **options: Any) -> NotEnded:
    """One attempt that waits for quota until its patience ends."""
    scene.places.is_slow, scene.places.errors = True, [NoQuota(place)]
    left = scene.left(*lent, **options)
    scene.places.is_slow = False
    return left


def test_a_job_wishes_for_quota_as_its_message_says(scene: Scene) -> None:
    scene.run(model="m", tenant="acme", account="second")
    assert scene.places.wishes == [Wish(model="m", queue="transcribe", tenant="acme", account="second", place="")]
    assert scene.places.stops == [scene.stop]


def test_each_stream_has_a_slot_of_its_own(scene: Scene) -> None:
    scene.run(FakeRecognizer(final(0, 100, "One."), LOST), FakeRecognizer(final(0, 100, "Two.")))
    assert [(slot.ends, slot.is_had) for slot in scene.places.slots] == [([], False), (["well"], False)]


def test_who_waits_for_quota_in_vain_goes_back_to_the_queue_for_a_while_and_has_not_begun(
    scene: Scene, client: redis.Redis, view: JobView
) -> None:
    left = in_vain(scene, "default 17.25")

    assert left.error is None and 1 <= left.seconds <= 3
    fields = view.fields()
    assert (fields["state"], fields["place"]) == ("queued", "default 17.25")
    assert (fields["attempts"], fields["fruitless"]) == ("0", "0")
    assert not {"error", "error_code", "ended_at"} & set(fields)
    assert states(view) == ["running", "waiting for quota"]
    assert scene.recognizers.borrowers == [] and not client.exists(KEYS.lease)


def test_they_do_not_come_back_together(scene: Scene) -> None:
    waits = [in_vain(scene, "default 7").seconds for _ in range(DRAWS)]
    assert 1 <= min(waits) < 2 < max(waits) <= 3


def test_it_keeps_its_place_and_hands_it_to_the_next_attempt(scene: Scene, view: JobView) -> None:
    for place in ("default 7", "default 7.5", "second 1"):
        in_vain(scene, place)

    result = scene.run(FakeRecognizer(final(0, 100, "One.")))

    assert [wish.place for wish in scene.places.wishes] == ["", "default 7", "default 7.5", "second 1"]
    assert (result["attempts"], result["resumes"], result["usage"]["streams"]) == (1, 0, 1)
    assert states(view) == ["running", "waiting for quota", "running", "succeeded"]
    assert not {"place", "waiting_since"} & set(view.fields())


def test_who_waits_but_a_moment_in_a_worker_tells_it_and_goes(scene: Scene, view: JobView) -> None:
    def look() -> None:
        seen.append(view.fields()["state"])

    seen: list[str] = []
    scene.places.is_slow = True
    scene.run(ActingRecognizer(look, final(0, 100, "One.")))
    assert seen == ["running"] and states(view) == ["running", "waiting for quota", "running", "succeeded"]


def test_a_place_is_given_up_when_the_job_streams(scene: Scene, view: JobView) -> None:
    in_vain(scene, "default 7")
    scene.left(FakeRecognizer(final(0, 100, "One."), LOST), FakeRecognizer(FAULT))
    assert "place" not in view.fields()
    scene.run(FakeRecognizer())
    assert [wish.place for wish in scene.places.wishes] == ["", "default 7", "", ""]


def test_what_was_finished_before_it_had_to_wait_is_kept_and_so_is_the_moment_at_which_it_was_begun(
    scene: Scene, view: JobView
) -> None:
    scene.places.errors = [None, NoQuota("default 7")]
    scene.left(FakeRecognizer(final(0, 100, "One."), LOST))
    fields = view.fields()
    assert (fields["state"], fields["place"], texts(view)) == ("queued", "default 7", ["One."])
    recording = FakeRecording()
    result = scene.run(FakeRecognizer(final(0, 50, "Two.")), audio=[recording])
    assert recording.asked == [100] and result["text"] == "One. Two."
    assert view.fields()["started_at"] == fields["started_at"]


def test_however_often_it_waits_in_vain_no_try_is_counted(scene: Scene, rules: Callable[..., JobSettings]) -> None:
    scene.rules = rules(STENOPOOL_JOB_RETRIES="0")
    for _ in range(5):
        in_vain(scene, "default 7")
    assert scene.run()["attempts"] == 1


def test_but_it_spends_the_time_that_a_job_has_so_that_there_is_an_end(scene: Scene, client: redis.Redis) -> None:
    in_vain(scene, "default 7")
    client.hset(KEYS.job, "started_at", time.time() - scene.rules.deadline - 1)
    assert scene.failed().code == "deadline_passed"


@pytest.mark.parametrize("why", [Cancelled, Drained])
def test_who_is_to_stop_while_it_waits_leaves_as_ever(scene: Scene, view: JobView, why: Any) -> None:
    scene.places.is_slow, scene.places.errors = True, [why()]
    with pytest.raises(Withdrawn if why is Cancelled else NotEnded):
        scene.run()
    state = "cancelled" if why is Cancelled else "queued"
    assert view.fields()["state"] == state and states(view) == ["running", "waiting for quota", state]


@pytest.mark.parametrize("fault", GENERAL)
def test_what_befalls_all_jobs_is_not_counted_however_often(
    scene: Scene, rules: Callable[..., JobSettings], view: JobView, fault: str
) -> None:
    scene.rules = rules(STENOPOOL_JOB_RETRIES="0")
    for _ in range(5):
        left = scene.left(GENERAL[fault])
        assert left.error is not None and left.seconds <= scene.rules.backoff
        fields = view.fields()
        assert (fields["state"], fields["error_code"]) == ("queued", left.error.code)
        assert (fields["attempts"], fields["fruitless"]) == ("0", "0")
    result = scene.run(FakeRecognizer(final(0, 100, "One.")))
    assert (result["attempts"], result["text"]) == (1, "One.")
    assert states(view) == ["running", "queued"] * 5 + ["running", "succeeded"]


@pytest.mark.parametrize("fault", PARTICULAR)
def test_what_may_be_its_own_fault_is(
    scene: Scene, rules: Callable[..., JobSettings], view: JobView, fault: str
) -> None:
    scene.rules = rules(STENOPOOL_JOB_RETRIES="1")
    scene.left(PARTICULAR[fault])
    for general in GENERAL.values():
        scene.left(general)
    in_vain(scene, "default 7")
    scene.failed(PARTICULAR[fault])
    assert view.fields()["attempts"] == "2"


def test_a_redis_that_does_not_tell_the_quota_is_tried_again_later(scene: Scene, view: JobView) -> None:
    scene.places.errors = [QuotaUnknown("ConnectionError")]
    left = scene.left()
    assert left.error is not None and left.error.code == "redis_unavailable"
    assert (view.fields()["attempts"], scene.recognizers.borrowers) == ("1", [])


def test_an_account_that_there_is_not_is_a_bad_request(scene: Scene) -> None:
    scene.places.errors = [NoSuchAccount("account 'x' is not known to this worker; it has default.")]
    error = scene.failed(account="x")
    assert isinstance(error, BadInput) and error.code == "bad_request" and "it has default" in error.sentence


# -- the audio ---------------------------------------------------------------------------------------------------------

UNREACHABLE = BadInput("audio_unreachable", "The server cannot be reached.")
SILENT = BadInput("audio_timeout", "The server sends nothing.")
GONE = BadInput("audio_not_found", "It does not exist.")


@pytest.mark.parametrize("error", [UNREACHABLE, SILENT, GONE], ids=lambda error: error.code)
def test_audio_that_cannot_be_opened_the_first_time_is_bad_input(scene: Scene, view: JobView, error: BadInput) -> None:
    assert scene.failed(audio=[error]) is error
    assert (view.fields()["state"], view.fields()["error_code"]) == ("failed", error.code)
    assert scene.recognizers.borrowers == []


def test_a_server_that_fails_the_first_time_is_asked_again_later(scene: Scene) -> None:
    assert scene.left(audio=[Unavailable("audio_server_error", "It fails.")]).error is not None


@pytest.mark.parametrize("error", [UNREACHABLE, SILENT], ids=lambda error: error.code)
def test_a_server_that_is_away_when_the_job_goes_on_may_come_back(scene: Scene, view: JobView, error: BadInput) -> None:
    left = scene.left(FakeRecognizer(final(0, 100, "One."), LOST), audio=[FakeRecording(), error])
    assert isinstance(left.error, Unavailable) and left.error.args == error.args
    assert view.fields()["state"] == "queued"
    assert isinstance(scene.left(audio=[error]).error, Unavailable)  # to the next attempt, too
    result = scene.run(FakeRecognizer(final(0, 100, "Two.")))
    assert (result["text"], result["attempts"]) == ("One. Two.", 3)


def test_so_it_is_to_an_attempt_that_follows_one_which_had_but_opened_it(scene: Scene) -> None:
    scene.left(FakeRecognizer(LOST))
    assert isinstance(scene.left(audio=[UNREACHABLE]).error, Unavailable)


def test_audio_that_is_gone_when_the_job_goes_on_is_bad_input_all_the_same(scene: Scene, view: JobView) -> None:
    assert scene.failed(FakeRecognizer(final(0, 100, "One."), LOST), audio=[FakeRecording(), GONE]) is GONE
    assert texts(view) == ["One."]


def test_a_download_that_breaks_off_is_gone_on_with(scene: Scene) -> None:
    class Heard(FakeRecognizer):
        """Hears a sentence in all that it was sent, before it asks for more."""

        def _said(self, chunks: Any, partials: bool) -> Iterator[Any]:
            yield from super()._said(iter([next(chunks)]), partials)
            for _ in chunks:
                pytest.fail("there was more")

    broken = FakeRecording(PCM * 2, Unavailable("audio_interrupted", "It broke off."))
    result = scene.run(
        Heard(final(0, 100, "One.")), FakeRecognizer(final(0, 50, "Two.")), audio=[broken, FakeRecording()]
    )
    assert result["text"] == "One. Two." and result["resumes"] == 1


def test_audio_that_proves_bad_on_the_way_ends_the_job(scene: Scene, view: JobView) -> None:
    bad = FakeRecording(error=BadInput("truncated_audio", "Send it whole."))
    assert scene.failed(audio=[bad]).code == "truncated_audio"
    assert scene.recognizers.returned == 1 and view.fields()["state"] == "failed"


@pytest.mark.parametrize(
    ("ref", "options", "code"),
    [
        ("gopher://h/a", {}, "unsupported_scheme"),
        (7, {}, "bad_request"),
        ("https://h/a", {"modle": "x"}, "bad_request"),
    ],
)
def test_a_bad_request_opens_nothing_and_is_recorded(
    scene: Scene, view: JobView, ref: Any, options: Any, code: str
) -> None:
    assert scene.failed(ref=ref, **options).code == code
    assert scene.opened == [] and scene.watched == []
    assert (view.fields()["state"], view.fields()["error_code"]) == ("failed", code)


# -- the log -----------------------------------------------------------------------------------------------------------


def test_where_a_job_goes_on_is_in_the_log_and_nothing_that_was_said(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        scene.run(FakeRecognizer(final(0, 100, "Hush."), LOST), FakeRecognizer())
    assert "job j goes on from 100 ms: connection_lost" in caplog.text
    assert "Hush" not in caplog.text and "secret" not in caplog.text


def test_a_job_whose_streams_are_always_cut_is_not_forgiven_for_ever(scene: Scene, view: JobView) -> None:
    for forgiven in (1, 2, 3, 3, 3):
        scene.left(FakeRecognizer(LOST))
        assert view.fields()["cuts"] == str(forgiven)
    assert view.fields()["fruitless"] == "5"


def test_a_new_sentence_forgives_anew(scene: Scene, view: JobView) -> None:
    for _ in range(3):
        scene.left(FakeRecognizer(LOST))
    scene.left(FakeRecognizer(final(0, 100, "One."), LOST), FakeRecognizer(LOST))
    assert view.fields()["cuts"] == "1"
