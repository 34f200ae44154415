import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from tasks.audio.pacing import Paced
from tasks.errors import BadInput, JobError, NotBegun, Refused, Unavailable
from tasks.job.request import JobRequest
from tasks.meter import Meter, Stopwatch
from tasks.stream import Stream, translated
from tests.fakes import FakePlaces, FakeRecognizer, FakeRecognizers
from tests.tasks.spoken import PCM, PCM_MS, RATE, ActingRecognizer, FakeRecording, final, partial
from worker.accounts import NoSuchAccount
from worker.pool import OpenFailed, PoolClosed, PoolFull, PoolTimeout
from worker.quota import NoQuota, QuotaUnknown, Wish
from worker.recognition import (
    ConnectFailed,
    ConnectionLost,
    Finished,
    MissingApiKey,
    NoSpeech,
    OutOfStep,
    RecognitionError,
    ServerFault,
    Throttled,
    Unauthorized,
    UpstreamSilent,
)
from worker.stops import Cancelled, Drained, Stop

PATIENCE = 10.0
"""Seconds for what another thread does; never reached unless something is broken."""

LATE = PoolTimeout("no recognizer free", 5.0, "leased 2, max 2")
LATE_AND_AWAY = PoolTimeout("no recognizer free", 5.0, "leased 2, max 2", "ConnectFailed")

WISH = Wish(model="m", queue="transcribe.bulk")


@dataclass
class Way:
    """One recording's way, and what came of it."""

    recording: FakeRecording = field(default_factory=FakeRecording)
    options: dict[str, Any] = field(default_factory=dict)
    meter: Meter = field(default_factory=lambda: Meter(RATE))
    watch: Stopwatch = field(default_factory=lambda: Stopwatch(None))
    stop: Stop = field(default_factory=Stop)
    heard: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    recognizers: Any = None

    def __post_init__(self) -> None:
        self.places = FakePlaces(lambda: self.recognizers)

    def run(self, *lent: Any) -> bool:
        """Over these recognisers. Says whether the connection was there before."""
        return self.over(FakeRecognizers(*lent))

    def over(self, recognizers: Any) -> bool:
        self.recognizers = recognizers
        return Stream(
            wish=WISH,
            waits=lambda: self.told.append("waits"),
            goes=lambda: self.told.append("goes"),
            borrower="j",
            request=JobRequest.parse(("https://h/a",), {"pace": 0} | self.options),
            chunks=Paced(self.recording.blocks(), self.recording.ready, rate=RATE, pace=0),
            deadline=9.0,
            meter=self.meter,
            watch=self.watch,
            stop=self.stop,
            take=lambda event: self.heard.append(event.sentence.text),
        ).run(self.places)


@pytest.fixture
def way() -> Way:
    found = Way()
    found.watch.reach("opened")
    return found


# -- a stream ----------------------------------------------------------------------------------------------------------


def test_a_recogniser_is_borrowed_hears_all_and_is_returned(way: Way) -> None:
    recognizer = FakeRecognizer(partial(0, "on"), final(0, 100, "One."), final(100, 300, "Two."), Finished("t"))
    recognizers = FakeRecognizers(recognizer)
    way.options = {"language_hints": ["en"], "live": False}

    way.over(recognizers)

    assert recognizer.heard == PCM and way.heard == ["on", "One.", "Two."]
    assert recognizer.asked["parameters"]["language_hints"] == ["en"] and recognizer.asked["deadline"] == 9.0
    assert recognizer.asked["partials"] is False and recognizer.asked["resources"] == ()
    assert (recognizers.borrowers, recognizers.fresh, recognizers.returned) == (["j"], [False], 1)
    assert (way.meter.ms, way.meter.streams, way.meter.heard) == (PCM_MS, 1, 5)
    assert not way.meter.is_streaming
    timing = way.watch.timing()
    assert timing["first_result_ms"] is not None and timing["borrow_ms"] is not None


def test_partials_are_asked_for_when_the_job_is_live(way: Way) -> None:
    recognizer = FakeRecognizer(partial(0, "o"), partial(0, "on"))
    way.options = {"live": True}
    way.run(recognizer)
    assert recognizer.asked["partials"] is True and way.heard == ["o", "on"]


def test_no_speech_after_all_the_audio_is_no_failure(way: Way) -> None:
    way.run(FakeRecognizer(NoSpeech("x")))
    assert (way.heard, way.meter.ms) == ([], PCM_MS)


def test_no_speech_before_all_the_audio_was_sent_is_one(way: Way) -> None:
    with pytest.raises(NoSpeech):
        way.run(FakeRecognizer(NoSpeech("x"), takes=1))


def test_audio_that_breaks_off_ends_the_stream_and_the_recogniser_is_given_back(way: Way) -> None:
    way.recording = FakeRecording(error=BadInput("truncated_audio", "Send it whole."))
    recognizers = FakeRecognizers(FakeRecognizer())
    with pytest.raises(BadInput):
        way.over(recognizers)
    assert recognizers.returned == 1 and not way.meter.is_streaming


def test_the_meter_reads_the_recogniser_as_long_as_it_streams(way: Way) -> None:
    figures: list[tuple[bool, int]] = []

    def look() -> None:
        figures.append((way.meter.is_streaming, way.meter.ms))

    recognizer = ActingRecognizer(look, final(0, 100, "One."))
    way.run(recognizer)
    recognizer.sent_bytes = 0  # it is another job's now
    assert figures == [(True, PCM_MS)] and way.meter.ms == PCM_MS


# -- the account's quota -----------------------------------------------------------------------------------------------


def test_a_stream_has_a_slot_as_long_as_it_lasts_and_begins_when_it_may(way: Way) -> None:
    class Looking(FakeRecognizer):
        """Looks at the slot before it says anything, and when all was said."""

        def _said(self, chunks: Any, partials: bool) -> Iterator[Any]:
            (slot,) = way.places.slots
            found.append((slot.starts, list(slot.ends), slot.is_had))
            yield from super()._said(chunks, partials)
            found.append((slot.starts, list(slot.ends), slot.is_had))

    found: list[Any] = []
    way.run(Looking(final(0, 100, "One.")))
    (slot,) = way.places.slots
    assert found == [(1, [], True)] * 2
    assert (slot.starts, slot.ends, slot.is_had) == (1, ["well"], False)
    assert way.places.wishes == [WISH] and way.places.stops == [way.stop]


@pytest.mark.parametrize("is_slow", [False, True])
def test_that_it_waits_is_told_if_it_takes_a_while_and_in_any_case_that_it_goes(way: Way, is_slow: bool) -> None:
    way.places.is_slow = is_slow
    way.run(FakeRecognizer())
    assert way.told == ["waits"] * is_slow + ["goes"]


def test_who_gets_no_slot_borrows_nothing(way: Way) -> None:
    way.places.is_slow, way.places.errors = True, [NoQuota("default 7")]
    recognizers = FakeRecognizers(FakeRecognizer())
    with pytest.raises(NoQuota):
        way.over(recognizers)
    assert recognizers.borrowers == [] and way.told == ["waits"]


def test_that_it_goes_is_told_before_a_recogniser_is_waited_for(way: Way) -> None:
    with pytest.raises(PoolTimeout):
        way.run(LATE)
    (slot,) = way.places.slots
    assert way.told == ["goes"] and (slot.starts, slot.ends, slot.is_had) == (0, [], False)


@pytest.mark.parametrize(
    ("error", "takes", "ends", "refusals"),
    [
        (Throttled("later", 7.0), 0, ["refused"], [7.0]),
        (Throttled("later"), 0, ["refused"], [None]),
        (ServerFault("x", 3.0), None, ["badly"], []),
        (Unauthorized("no"), 0, ["badly"], []),
        (NoSpeech("x"), 1, ["badly"], []),
        (NoSpeech("x"), None, ["well"], []),
        (ConnectionLost("x"), 1, [], []),  # the service may not know yet
        (UpstreamSilent("x"), None, [], []),
        (Unavailable("stalled", "It stands still."), None, [], []),
    ],
)
def test_the_slot_learns_how_the_service_ended_the_stream_if_it_did(
    way: Way, error: Exception, takes: int | None, ends: list[str], refusals: list[float | None]
) -> None:
    with suppress(RecognitionError, Unavailable):
        way.run(FakeRecognizer(error, takes=takes))
    (slot,) = way.places.slots
    assert (slot.starts, slot.ends, slot.refusals, slot.is_had) == (1, ends, refusals, False)


def test_a_stream_that_we_break_off_is_not_one_that_the_service_has_ended(way: Way) -> None:
    with pytest.raises(Cancelled):
        way.run(ActingRecognizer(lambda: way.stop.ask(Cancelled()), final(0, 100, "One.")))
    (slot,) = way.places.slots
    assert (slot.starts, slot.ends, slot.is_had) == (1, [], False)


@pytest.mark.parametrize(
    ("error", "ends"), [(OutOfStep("x"), ["badly", "well"]), (ConnectionLost("x"), ["well"])], ids=["told", "cut"]
)
def test_a_stale_connection_s_exchange_awaits_a_start_of_its_own_in_the_same_slot(
    way: Way, error: Exception, ends: list[str]
) -> None:
    way.run(FakeRecognizer(error, takes=0), FakeRecognizer(final(0, 100, "One.")))
    (slot,) = way.places.slots
    assert (slot.starts, slot.ends, way.told) == (2, ends, ["goes"])


def test_who_cannot_learn_when_to_start_streams_nothing_and_gives_the_recogniser_back(way: Way) -> None:
    way.places.starts = [QuotaUnknown("ConnectionError")]
    recognizer = FakeRecognizer()
    recognizers = FakeRecognizers(recognizer)
    with pytest.raises(QuotaUnknown):
        way.over(recognizers)
    (slot,) = way.places.slots
    assert (recognizer.asked, recognizers.returned, slot.ends, slot.is_had) == ({}, 1, [], False)


def test_who_waits_while_recognisers_are_busy_asks_again_until_his_patience_is_over(way: Way) -> None:
    recognizer = FakeRecognizer(connected_at=math.inf)
    way.places.patience = PATIENCE
    assert way.over(FakeRecognizers(LATE, LATE, recognizer)) is False
    assert recognizer.sent_all and [slot.ends for slot in way.places.slots] == [["well"]]


@pytest.mark.parametrize("late", [LATE_AND_AWAY, PoolTimeout("no recognizer free", 5.0, "opening 1", opening=1)])
def test_who_waits_for_a_connection_leaves_his_slot_to_others(way: Way, late: PoolTimeout) -> None:
    way.places.patience = PATIENCE
    recognizer = FakeRecognizer()
    with pytest.raises(PoolTimeout) as left:
        way.over(FakeRecognizers(late, recognizer))
    assert left.value.seconds < PATIENCE and recognizer.asked == {}
    assert [(slot.starts, slot.ends) for slot in way.places.slots] == [(0, [])]


# -- a connection that stood idle --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [OutOfStep("x"), ConnectionLost("x"), UpstreamSilent("x")], ids=lambda error: error.code
)
def test_one_that_proves_stale_before_it_took_audio_is_exchanged_for_one_never_used(way: Way, error: Exception) -> None:
    stale, good = FakeRecognizer(error, takes=0), FakeRecognizer(final(0, 100, "One."))
    recognizers = FakeRecognizers(stale, good)

    assert way.over(recognizers) is False

    assert (recognizers.borrowers, recognizers.fresh, recognizers.returned) == (["j", "j"], [False, True], 2)
    assert (way.heard, stale.heard, good.heard) == (["One."], b"", PCM)
    assert (way.meter.ms, way.meter.sent_ms, way.meter.streams) == (PCM_MS, PCM_MS, 2)


def test_one_that_was_there_before_is_called_reused(way: Way) -> None:
    assert way.run(FakeRecognizer()) is True


def test_one_that_the_job_had_to_wait_for_is_not(way: Way) -> None:
    assert way.run(FakeRecognizer(connected_at=math.inf)) is False


def test_it_is_exchanged_once(way: Way) -> None:
    recognizers = FakeRecognizers(FakeRecognizer(ConnectionLost("x"), takes=0))
    with pytest.raises(ConnectionLost):
        way.over(recognizers)
    assert recognizers.fresh == [False, True]


@pytest.mark.parametrize(
    ("error", "takes", "connected_at"),
    [
        (ConnectionLost("x"), 1, 0.0),
        (Throttled("later"), 0, 0.0),
        (ServerFault("x"), 0, 0.0),
        (ConnectionLost("x"), 0, math.inf),
    ],
    ids=["after the first audio", "throttled", "server fault", "a new one"],
)
def test_after_the_first_audio_or_for_another_reason_or_a_new_one_is_not(
    way: Way, error: Exception, takes: int, connected_at: float
) -> None:
    recognizers = FakeRecognizers(FakeRecognizer(error, takes=takes, connected_at=connected_at))
    with pytest.raises(RecognitionError):
        way.over(recognizers)
    assert recognizers.fresh == [False]


# -- being stopped -----------------------------------------------------------------------------------------------------


def test_a_stream_is_broken_off_when_the_job_is_to_stop_at_once(way: Way) -> None:
    reason = Cancelled()
    recognizer = ActingRecognizer(final(0, 100, "One."), lambda: way.stop.ask(reason), final(100, 200, "Two."))
    recognizers = FakeRecognizers(recognizer)
    with pytest.raises(Cancelled):
        way.over(recognizers)
    assert way.heard == ["One."] and recognizer.interruptions == [reason]
    assert recognizers.returned == 1 and not way.meter.is_streaming


def test_who_is_asked_softly_streams_on(way: Way) -> None:
    recognizer = ActingRecognizer(
        final(0, 100, "One."), lambda: way.stop.ask(Drained(), at_once=False), final(100, 200, "Two.")
    )
    way.run(recognizer)
    assert way.heard == ["One.", "Two."] and recognizer.interruptions == []


def test_a_stream_that_is_shaken_ends_by_that_error_and_is_not_exchanged(way: Way) -> None:
    error = Unavailable("stalled", "It stands still.")
    recognizers = FakeRecognizers(
        ActingRecognizer(lambda: way.stop.shake(error), final(100, 200, "Two."), takes=0), FakeRecognizer()
    )
    with pytest.raises(Unavailable) as found:
        way.over(recognizers)
    assert found.value is error and recognizers.fresh == [False]


def test_a_recogniser_that_was_given_back_is_not_interrupted(way: Way) -> None:
    recognizer = FakeRecognizer()
    way.run(recognizer)
    way.stop.ask(Cancelled())
    way.stop.shake(OSError())
    assert recognizer.interruptions == []


def test_who_was_asked_before_borrows_nothing(way: Way) -> None:
    recognizers = FakeRecognizers(FakeRecognizer())
    way.stop.ask(Cancelled())
    with pytest.raises(Cancelled):
        way.over(recognizers)
    assert recognizers.borrowers == []


def test_who_was_asked_while_he_borrowed_streams_nothing(way: Way) -> None:
    class Asking(FakeRecognizers):
        """Asks the job to stop as soon as it has lent."""

        @contextmanager
        def lease(self, timeout: float | None = None, **options: Any) -> Iterator[Any]:
            with super().lease(timeout, **options) as lent:
                way.stop.ask(Cancelled())
                yield lent

    recognizer = FakeRecognizer()
    recognizers = Asking(recognizer)
    with pytest.raises(Cancelled):
        way.over(recognizers)
    assert recognizer.heard == b"" and recognizers.returned == 1 and recognizers.turned_away == ["j"]


class Crowded(FakeRecognizers):
    """All recognisers are lent, until somebody is turned away."""

    def __init__(self) -> None:
        super().__init__()
        self.waits, self._away = threading.Event(), threading.Event()

    @contextmanager
    def lease(self, timeout: float | None = None, **options: Any) -> Iterator[Any]:
        self.waits.set()
        assert self._away.wait(PATIENCE)
        raise LATE
        yield

    def turn_away(self, borrower: str) -> None:
        super().turn_away(borrower)
        self._away.set()


def test_who_waits_for_a_recogniser_is_turned_away_when_he_is_to_stop(way: Way) -> None:
    recognizers = Crowded()

    def ask() -> None:
        assert recognizers.waits.wait(PATIENCE)
        way.stop.ask(Cancelled())

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    with pytest.raises(Cancelled):
        way.over(recognizers)
    asking.join(PATIENCE)
    assert recognizers.turned_away == ["j"]


def test_who_waits_in_vain_and_was_not_asked_to_stop_is_late(way: Way) -> None:
    with pytest.raises(PoolTimeout):
        way.run(LATE)


# -- what goes wrong becomes a job's error -----------------------------------------------------------------------------


def said(error: Exception) -> JobError:
    with pytest.raises(JobError) as found, translated():
        raise error
    assert found.value.__suppress_context__
    return found.value


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (Throttled("later", 7.0), Unavailable, "throttled"),
        (Unauthorized("no"), Refused, "unauthorized"),
        (LATE, Unavailable, "no_recognizer"),
        (OpenFailed("upstream", MissingApiKey()), Refused, "missing_api_key"),
        (PoolClosed("recognizer"), Unavailable, "no_recognizer"),
        (PoolFull("recognizer", "waiting 9"), Unavailable, "no_recognizer"),
        (QuotaUnknown("ConnectionError"), Unavailable, "redis_unavailable"),
        (QuotaUnknown("NoPermissionError", passes=False), JobError, "redis_refused"),
        (NoSuchAccount("account 'x' is not known."), BadInput, "bad_request"),
    ],
)
def test_quota_pool_and_recognition_have_their_own_errors(error: Exception, kind: type[JobError], code: str) -> None:
    assert type(said(error)) is kind and said(error).code == code


def test_who_asked_for_an_account_that_there_is_not_learns_which_there_are() -> None:
    assert said(NoSuchAccount("account 'x' is not known; it has a, b.")).sentence.endswith("it has a, b.")
    assert "ConnectionError" in said(QuotaUnknown("ConnectionError")).sentence


def test_who_found_no_quota_has_not_begun_and_keeps_his_place() -> None:
    with pytest.raises(NotBegun) as found, translated():
        raise NoQuota("default 17.25")
    assert found.value.place == "default 17.25" and found.value.__suppress_context__


@pytest.mark.parametrize(
    ("error", "is_general", "is_cut"),
    [
        (Throttled("later", 7.0), True, False),
        (OpenFailed("recognizer", Throttled("later")), True, False),
        (LATE_AND_AWAY, True, False),
        (LATE, False, False),
        (PoolFull("recognizer", "waiting 9"), False, False),
        (QuotaUnknown("ConnectionError"), False, False),
        (PoolTimeout("no recognizer free", 5.0, "opening 1", opening=1), True, False),
        (ServerFault("x", 3.0), False, False),
        (OutOfStep("x"), False, False),
        (ConnectionLost("x"), False, True),
        (UpstreamSilent("x"), False, True),
        (ConnectFailed("x"), False, True),
    ],
)
def test_what_is_no_fault_of_the_job_s_is_told_from_what_may_be(
    error: Exception, is_general: bool, is_cut: bool
) -> None:
    found = said(error)
    assert isinstance(found, Unavailable) and (found.is_general, found.is_cut) == (is_general, is_cut)


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (Throttled("later", 7.0), 7.0),
        (Throttled("later"), None),
        (ServerFault("x", 3.0), 3.0),
        (ConnectionLost("x"), None),
        (LATE, None),
    ],
)
def test_when_to_come_back_is_passed_on(error: Exception, seconds: float | None) -> None:
    found = said(error)
    assert isinstance(found, Unavailable) and found.retry_after == seconds


@pytest.mark.parametrize(
    ("last_error", "sentence"),
    [
        ("", "All recognisers were busy for 5 s (leased 2, max 2)"),
        ("ConnectFailed", "the last connection failed with ConnectFailed"),
    ],
)
def test_who_waited_in_vain_learns_what_for(last_error: str, sentence: str) -> None:
    assert sentence in said(PoolTimeout("no recognizer free", 5.0, "leased 2, max 2", last_error)).sentence


@pytest.mark.parametrize("error", [OpenFailed("recognizer", OSError("no route")), Cancelled(), KeyError("k")])
def test_what_is_none_of_theirs_stays_what_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as found, translated():
        raise error
    assert found.value is error
