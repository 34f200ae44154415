import json
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest
import redis

from tasks import transcription
from tasks.audio import AudioReference
from tasks.errors import BadInput, JobError, Refused, Unavailable
from tasks.job.record import JobRecord
from tasks.job.request import JobRequest
from tasks.job.view import JobView
from tasks.transcription import Follow
from tests.fakes import FakeRecognizer, FakeRecognizers
from worker.beat import Pulse
from worker.pool import OpenFailed, PoolClosed, PoolError, PoolFull, PoolTimeout
from worker.recognition import (
    ConnectionLost,
    Event,
    Final,
    Finished,
    MissingApiKey,
    NoSpeech,
    OutOfStep,
    Partial,
    Sentence,
    ServerFault,
    Throttled,
    Unauthorized,
    UpstreamSilent,
)
from worker.script import Call

PCM = bytes(range(250)) * 40


class FakeRecording:
    duration_ms = 999

    def __init__(self, blocks: list[bytes], error: Exception | None = None) -> None:
        self._blocks, self._error = blocks, error

    def blocks(self, start_ms: int = 0) -> Iterator[bytes]:
        yield from self._blocks
        if self._error:
            raise self._error


def final(begin: int, end: int, text: str) -> Event:
    return Final("t", Sentence(begin_time=begin, end_time=end, text=text, words=()), None)


def partial(begin: int, text: str) -> Event:
    return Partial("t", Sentence(begin_time=begin, end_time=begin, text=text, words=()))


@pytest.fixture
def record(client: redis.Redis) -> JobRecord:
    return JobRecord(client, "j", ttl=100)


@pytest.fixture
def view(client: redis.Redis) -> JobView:
    return JobView(client, "j")


def unfollowed(pulse: Any) -> AbstractContextManager[None]:
    return nullcontext()


def run(record: JobRecord, lent: Any, recording: Any = None, follow: Follow = unfollowed, **options: Any) -> Any:
    @contextmanager
    def open_audio(reference: AudioReference, rate: int) -> Iterator[Any]:
        yield recording or FakeRecording([PCM])

    request = JobRequest.parse(("https://u:p@h/a.mp3?sig=secret",), {"pace": 0} | options)
    attempt = transcription.Attempt(job_id="j", number=2, worker="w@h", deadline=9.0)
    recognizers = lent if isinstance(lent, FakeRecognizers) else FakeRecognizers(lent)
    return transcription.run(
        request, attempt, record=record, recognizers=recognizers, open_audio=open_audio, follow=follow
    )


def test_a_job_borrows_streams_and_returns_what_was_said(record: JobRecord, view: JobView) -> None:
    recognizer = FakeRecognizer(partial(0, "on"), final(0, 100, "One."), final(100, 312, "Two."), Finished("t"))
    recognizers = FakeRecognizers(recognizer)

    result = run(record, recognizers, metadata={"k": 1}, language_hints=["en"])

    assert recognizer.heard == PCM
    assert recognizer.asked["parameters"]["language_hints"] == ["en"] and recognizer.asked["deadline"] == 9.0
    assert recognizer.asked["partials"] is False and result["timing"]["first_result_ms"] is not None
    assert (recognizers.borrowers, recognizers.returned) == (["j"], 1)
    assert result["text"] == "One. Two." and [one["text"] for one in result["sentences"]] == ["One.", "Two."]
    assert (result["audio"], result["attempts"], result["metadata"]) == ("https://h/a.mp3", 2, {"k": 1})
    assert result["duration_ms"] == 312 and result["usage"] == {"audio_ms": 312, "sent_ms": 312, "streams": 1}
    assert result["timing"]["reused_connection"] is True
    assert json.loads(view.fields()["result"]) == result
    assert [one["text"] for one in view.sentences()] == ["One.", "Two."]
    assert "partial" not in [kind for kind, _ in view.events()]


def test_partials_are_told_when_asked_for(record: JobRecord, view: JobView) -> None:
    recognizer = FakeRecognizer(partial(0, "on"), final(0, 100, "One."), partial(50, "tw"))
    run(record, recognizer, live=True)
    assert recognizer.asked["partials"] is True
    told = [(kind, data["text"], data["begin_time"]) for kind, data in view.events() if kind != "state"]
    assert told == [("partial", "on", 0), ("final", "One.", 0), ("partial", "tw", 100)]


def test_no_speech_after_all_the_audio_is_a_transcript_without_sentences(record: JobRecord) -> None:
    result = run(record, FakeRecognizer(NoSpeech("x")))
    assert (result["sentences"], result["duration_ms"], result["usage"]["sent_ms"]) == ([], 312, 312)


def test_no_speech_before_all_the_audio_was_sent_is_a_failure(record: JobRecord) -> None:
    with pytest.raises(Refused):
        run(record, FakeRecognizer(NoSpeech("x"), takes=1))


def test_a_job_is_followed_while_it_streams_and_not_after(
    record: JobRecord, view: JobView, client: redis.Redis
) -> None:
    calls: list[Call | None] = []

    class Beating(FakeRecognizer):
        """Is asked by the heartbeat when all the audio was sent, before its events are heard."""

        def _told(self, partials: bool) -> Iterator[Event]:
            calls.append(self.pulse.tell())
            yield from super()._told(partials)

        pulse: Pulse

    recognizer = Beating(final(0, 100, "One."))

    @contextmanager
    def follow(pulse: Pulse) -> Iterator[None]:
        assert (view.fields()["state"], view.fields()["duration_ms"], pulse.tell()) == ("running", "999", None)
        recognizer.pulse = pulse
        yield
        assert view.fields()["state"] == "running"  # so that what is told last comes before the end, or does nothing

    run(record, recognizer, follow=follow)

    (call,) = calls
    assert call is not None and call.given[-3:-1] == (2, 312)
    assert call.run(client) == 0 and view.fields()["state"] == "succeeded"


@pytest.mark.parametrize(
    ("lent", "kind", "code"),
    [
        (FakeRecognizer(Throttled("later", 7.0)), Unavailable, "throttled"),
        (FakeRecognizer(Unauthorized("no")), Refused, "unauthorized"),
        (PoolTimeout("no upstream free", 5.0, "leased 2"), Unavailable, "no_recognizer"),
        (OpenFailed("upstream", MissingApiKey()), Refused, "missing_api_key"),
    ],
)
def test_what_goes_wrong_upstream_becomes_a_job_s_error(
    record: JobRecord, lent: Any, kind: type[JobError], code: str
) -> None:
    with pytest.raises(kind) as error:
        run(record, lent)
    assert error.value.code == code and error.value.__suppress_context__


@pytest.mark.parametrize(
    ("late", "said"),
    [
        (
            PoolTimeout("no recognizer free", 5.0, "leased 2, max 2"),
            "All recognisers were busy for 5 s (leased 2, max 2)",
        ),
        (
            PoolTimeout("no recognizer free", 5.0, "leased 0", "ConnectFailed"),
            "the last connection failed with ConnectFailed",
        ),
    ],
)
def test_who_waited_in_vain_learns_what_for(record: JobRecord, late: PoolTimeout, said: str) -> None:
    with pytest.raises(Unavailable) as error:
        run(record, late)
    assert said in error.value.sentence


@pytest.mark.parametrize("refusal", [PoolClosed("recognizer"), PoolFull("recognizer", "waiting 9")])
def test_a_pool_that_lends_nothing_lets_the_job_come_back(record: JobRecord, refusal: PoolError) -> None:
    with pytest.raises(Unavailable) as error:
        run(record, refusal)
    assert error.value.code == "no_recognizer"


@pytest.mark.parametrize(
    "error", [OutOfStep("x"), ConnectionLost("x"), UpstreamSilent("x")], ids=lambda error: error.code
)
def test_a_connection_that_proves_stale_before_it_took_audio_is_exchanged_for_one_never_used(
    record: JobRecord, error: Exception
) -> None:
    stale, good = FakeRecognizer(error, takes=0), FakeRecognizer(final(0, 100, "One."))
    recognizers = FakeRecognizers(stale, good)

    result = run(record, recognizers)

    assert (recognizers.borrowers, recognizers.fresh, recognizers.returned) == (["j", "j"], [False, True], 2)
    assert (result["text"], stale.heard, good.heard) == ("One.", b"", PCM)
    assert result["timing"]["reused_connection"] is False


def test_a_connection_that_the_job_had_to_wait_for_is_not_called_reused(record: JobRecord) -> None:
    assert run(record, FakeRecognizer(connected_at=math.inf))["timing"]["reused_connection"] is False


def test_it_is_exchanged_once(record: JobRecord) -> None:
    recognizers = FakeRecognizers(FakeRecognizer(ConnectionLost("x"), takes=0))
    with pytest.raises(Unavailable):
        run(record, recognizers)
    assert recognizers.fresh == [False, True]


@pytest.mark.parametrize(
    ("error", "takes"), [(ConnectionLost("x"), 1), (Throttled("later"), 0), (ServerFault("x"), 0)], ids=str
)
def test_after_the_first_audio_or_for_another_reason_it_is_not(record: JobRecord, error: Exception, takes: int) -> None:
    recognizers = FakeRecognizers(FakeRecognizer(error, takes=takes))
    with pytest.raises(Unavailable):
        run(record, recognizers)
    assert recognizers.fresh == [False]


def test_what_nobody_foresaw_in_an_open_stays_what_it_is(record: JobRecord) -> None:
    with pytest.raises(OpenFailed):
        run(record, OpenFailed("recognizer", OSError("no route")))


def test_audio_that_breaks_off_ends_the_job_and_the_recogniser_is_given_back(record: JobRecord) -> None:
    recognizers = FakeRecognizers(FakeRecognizer())
    with pytest.raises(BadInput):
        run(record, recognizers, FakeRecording([PCM], BadInput("truncated_audio", "Send it whole.")))
    assert recognizers.returned == 1


def test_a_bad_reference_opens_nothing(record: JobRecord, view: JobView) -> None:
    request = JobRequest.parse(("gopher://h/a",), {})
    attempt = transcription.Attempt(job_id="j", number=1, worker="w", deadline=9.0)
    nothing: Any = None
    with pytest.raises(BadInput):
        transcription.run(request, attempt, record=record, recognizers=nothing, open_audio=nothing, follow=unfollowed)
    assert view.fields() == {}
