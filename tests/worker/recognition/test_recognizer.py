import functools
import itertools
import queue
import re

import pytest

from tests.worker.recognition.scripted import PONG
from worker.recognition.conversation import AHEAD, MOST_UNREAD, RECHECK, Chunk, Limits
from worker.recognition.errors import (
    ConnectionLost,
    DeadlinePassed,
    InvalidRequest,
    LocalProtocolError,
    NoDataTimeout,
    OutOfStep,
    RemoteProtocolError,
    Throttled,
    UpstreamSilent,
)
from worker.recognition.load import Load
from worker.recognition.messages import Final, Finished, Partial, Sentence, Started
from worker.recognition.recognizer import Recognizer

FRAME = b"\0" * 3200


def message(event, task="t1", **header):
    return {"header": {"task_id": task, "event": event, "attributes": {}, **header}, "payload": {}}


def result(begin, end=None, task="t1", text="words"):
    sentence = {"begin_time": begin, "end_time": end, "text": text}
    return message("result-generated", task) | {"payload": {"output": {"sentence": sentence}}}


def obliging(transport, delay=0.1):
    """A service that starts and finishes each task a little later."""

    def answer(sent):
        if isinstance(sent, dict):
            task = sent["header"]["task_id"]
            event = {"run-task": "task-started", "finish-task": "task-finished"}[sent["header"]["action"]]
            transport.says(delay, message(event, task))

    return answer


@pytest.fixture
def make(scripted, inline, clock):
    """A recognizer on the scripted transport; its tasks are t1, t2 and t3."""
    ids = iter(["t1", "t2", "t3"])
    return functools.partial(Recognizer, scripted, loop=inline, clock=clock, new_id=lambda: next(ids))


@pytest.fixture
def recognizer(make, scripted):
    scripted.on_send = obliging(scripted)
    return make()


def run(recognizer, clock, chunks=(), *, seconds=3600.0, **options):
    return recognizer.transcribe(model="m", parameters={}, chunks=chunks, deadline=clock.now + seconds, **options)


def paced(count, spacing=0.1):
    return [Chunk(position * spacing, FRAME) for position in range(count)]


def test_the_defaults_of_the_limits():
    assert Limits() == Limits(started=10.0, finished=60.0, quiet=20.0, pong=10.0, write=10.0)


def test_a_task_from_start_to_finish(recognizer, scripted, clock):
    events = list(run(recognizer, clock, paced(3), resources=[{"resource_id": "p"}]))
    assert events == [Started("t1"), Finished("t1")]
    assert [at for at, _ in scripted.sent] == [0.0, 0.1, 0.2, 0.3, 0.3]
    start, *audio, finish = [sent for _, sent in scripted.sent]
    assert (start["header"]["action"], finish["header"]["action"]) == ("run-task", "finish-task")
    assert start["payload"]["resources"] == [{"resource_id": "p"}]
    assert audio == [FRAME] * 3
    assert recognizer.is_reusable()
    assert repr(recognizer) == "<Recognizer ready, open, tasks 1>"


def test_a_task_without_audio_is_a_task(recognizer, clock):
    assert list(run(recognizer, clock)) == [Started("t1"), Finished("t1")]


def test_a_recognizer_serves_one_task_after_the_other_under_fresh_ids(recognizer, clock):
    assert recognizer.tasks == 0
    for count, task in enumerate(["t1", "t2", "t3"], 1):
        assert list(run(recognizer, clock, paced(2))) == [Started(task), Finished(task)]
        assert recognizer.tasks == count


def test_ids_are_32_hex_digits_and_fresh(scripted, inline, clock):
    scripted.on_send = obliging(scripted)
    recognizer = Recognizer(scripted, loop=inline, clock=clock)
    ids = {list(run(recognizer, clock))[0].task_id for _ in range(2)}
    assert len(ids) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", task) for task in ids)


def test_nothing_is_sent_before_the_first_event_is_asked_for(recognizer, scripted, clock):
    run(recognizer, clock, paced(1))
    assert scripted.sent == []
    assert recognizer.is_reusable()


def test_events_come_between_the_frames_at_their_own_time(recognizer, scripted, clock):
    scripted.says(0.25, result(0))  # 0.15 s after task-started
    scripted.says(0.28, result(0, 150))
    arrivals = [(type(event), round(clock.now - 1000, 3)) for event in run(recognizer, clock, paced(3))]
    assert arrivals == [(Started, 0.1), (Partial, 0.25), (Final, 0.28), (Finished, 0.4)]


def sent_at(scripted):
    return [at for at, sent in scripted.sent if sent == FRAME]


def test_who_is_late_catches_up_at_twice_the_pace_and_the_clock_does_not_drift(recognizer, scripted, inline, clock):
    def slow_source():
        for position, chunk in enumerate(paced(9)):
            if position == 2:
                inline.elapse(0.45)  # fetching took long: by then frames 2, 3 and 4 are due
            yield chunk

    list(run(recognizer, clock, slow_source()))
    assert sent_at(scripted) == [0.1, 0.2, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9]


def test_the_caller_may_take_its_time_over_started(recognizer, scripted, inline, clock):
    events = run(recognizer, clock, paced(6))
    next(events)
    inline.elapse(0.15)
    list(events)
    assert sent_at(scripted) == [0.25, 0.3, 0.35, 0.4, 0.5, 0.6]


def test_the_caller_may_take_its_time_over_an_event_while_what_he_brought_is_sent(recognizer, scripted, inline, clock):
    scripted.says(0.15, result(0))
    events = run(recognizer, clock, paced(9))
    assert [type(next(events)) for _ in range(2)] == [Started, Partial]
    inline.elapse(0.5)
    assert sent_at(scripted) == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    list(events)
    assert sent_at(scripted)[6:] == [0.7, 0.8, 0.9]


def test_chunks_are_taken_as_far_ahead_as_was_asked_for_and_no_further(recognizer, clock):
    taken = []

    def source():
        for chunk in paced(600):
            taken.append(chunk)
            yield chunk

    first = None
    for event in run(recognizer, clock, source()):
        first = first if first is not None else (event, len(taken))
        ahead = (len(taken) - 1) * 0.1 - (clock.now - 1000.1)
        assert ahead <= (AHEAD + AHEAD // 3) / 32_000 + 0.1
    assert first == (Started("t1"), 0)


def test_chunks_due_at_once_are_sent_without_waiting_and_events_are_drained_between(recognizer, scripted, clock):
    answer = scripted.on_send
    scripted.on_send = lambda sent: scripted.says(0.0, result(0)) if sent == FRAME else answer(sent)
    events = list(run(recognizer, clock, [Chunk(0.0, FRAME)] * 3))
    assert [type(event) for event in events] == [Started, Partial, Partial, Partial, Finished]
    assert all(0.1 <= at <= 0.1 + RECHECK for at in sent_at(scripted))


def test_who_leaves_much_unread_stops_the_reading_and_loses_nothing(recognizer, scripted, inline, clock):
    for number in range(3 * MOST_UNREAD):
        scripted.says(0.15 + number / 1000, result(number))
    events = run(recognizer, clock, paced(3))
    next(events)
    inline.elapse(10)
    assert scripted.next_at() == pytest.approx(1000.15 + MOST_UNREAD / 1000, abs=0.005)
    *partials, finished = events
    assert [event.sentence.begin_time for event in partials] == list(range(3 * MOST_UNREAD))
    assert finished == Finished("t1")


def test_a_message_of_an_earlier_task_is_ignored(recognizer, scripted, clock):
    scripted.says(0.0, result(0, 10, task="t0"))
    scripted.says(0.15, message("task-failed", "t0", error_code="CLIENT_ERROR", error_message=""))
    assert list(run(recognizer, clock, paced(2))) == [Started("t1"), Finished("t1")]


def test_heartbeats_are_not_handed_out(recognizer, scripted, clock):
    scripted.says(0.15, message("result-generated"))
    assert list(run(recognizer, clock, paced(2))) == [Started("t1"), Finished("t1")]


@pytest.mark.parametrize(("partials", "heard"), [(True, "ppfppf"), (False, "pff")])
def test_who_wants_no_partials_gets_only_the_first(recognizer, scripted, clock, partials, heard):
    for at, end in enumerate([None, None, 9, None, None, 9]):
        scripted.says(0.15 + at / 100, result(0, end))
    started, *events, finished = run(recognizer, clock, paced(4), partials=partials)
    assert (started, finished) == (Started("t1"), Finished("t1"))
    assert "".join({Partial: "p", Final: "f"}[type(event)] for event in events) == heard


def test_each_task_hands_out_its_first_partial(recognizer, scripted, clock):
    for task in ("t1", "t2"):
        scripted.says(0.15, result(0, task=task))
        events = list(run(recognizer, clock, paced(2), partials=False))
        assert [type(event) for event in events] == [Started, Partial, Finished]


def test_finals_after_finish_task_come_before_finished(make, scripted, clock):
    def answer(sent):
        if sent != FRAME and sent["header"]["action"] == "run-task":
            scripted.says(0.0, message("task-started"))
        elif sent != FRAME:
            scripted.says(50.0, result(0, 90))
            scripted.says(100.0, message("task-finished"))

    scripted.on_send = answer
    events = list(run(make(), clock, paced(1)))  # 50 s of silence twice: each is within the 60 s
    assert events == [Started("t1"), Final("t1", Sentence(0, 90, "words")), Finished("t1")]


@pytest.mark.parametrize("limit", [0.5, 10.0])
def test_a_service_that_does_not_start_is_silent(make, clock, limit):
    recognizer = make(Limits(started=limit))
    with pytest.raises(UpstreamSilent, match=f"no task-started within {limit:g} s"):
        list(run(recognizer, clock, paced(1)))
    assert clock.now == 1000 + limit
    assert not recognizer.is_reusable()


@pytest.mark.parametrize("delay", [0.5, 60.0])
def test_a_service_that_does_not_finish_is_silent(make, scripted, clock, delay):
    scripted.says(0.0, message("task-started"))
    scripted.says(0.3, result(0, 10))
    recognizer = make(Limits(finished=delay))
    events = run(recognizer, clock, paced(1))
    assert [type(next(events)) for _ in range(2)] == [Started, Final]
    with pytest.raises(UpstreamSilent, match=f"nothing within {delay:g} s after finish-task"):
        next(events)
    assert clock.now == pytest.approx(1000 + 0.3 + delay)  # counted from the last event
    assert not recognizer.is_reusable()


def test_every_event_after_finish_task_renews_the_patience_also_a_heartbeat(make, scripted, clock):
    scripted.says(0.0, message("task-started"))
    for seconds in (50, 100):
        scripted.says(seconds, message("result-generated"))
    scripted.says(150, message("task-finished"))
    assert list(run(make(), clock)) == [Started("t1"), Finished("t1")]


def test_a_service_that_has_nothing_to_say_is_asked_by_pings_whether_it_lives(recognizer, scripted, clock):
    assert list(run(recognizer, clock, paced(600))) == [Started("t1"), Finished("t1")]
    assert scripted.pings == [pytest.approx(0.1 + 20 * turn, abs=0.2) for turn in (1, 2)]


@pytest.mark.parametrize("chunks", [0, 10, 600])
def test_a_service_that_does_not_answer_is_silent_whether_there_is_audio_or_not(recognizer, scripted, clock, chunks):
    scripted.pong_after = None
    scripted.says(5.0, result(0))
    with pytest.raises(UpstreamSilent, match="no answer to a ping within 10 s"):
        list(run(recognizer, clock, itertools.chain(paced(chunks), [Chunk(3600.0, FRAME)])))
    assert clock.now == pytest.approx(1000 + 5 + 20 + 10, abs=0.2)
    assert len(scripted.pings) == 1 and not recognizer.is_reusable()


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.1, 0.15, 0.25, 0.35])
def test_the_deadline_holds_at_every_turn(recognizer, clock, seconds):
    with pytest.raises(DeadlinePassed):
        list(run(recognizer, clock, paced(3), seconds=seconds))
    assert clock.now == pytest.approx(1000 + seconds)
    assert not recognizer.is_reusable()


def test_a_caller_that_is_slow_does_not_outlive_the_deadline(recognizer, inline, clock):
    events = run(recognizer, clock, [Chunk(0.0, FRAME)] * 3, seconds=1.0)
    next(events)
    inline.elapse(2)
    with pytest.raises(DeadlinePassed):
        next(events)


def test_a_refusal_is_raised_as_what_it_means(recognizer, scripted, clock):
    scripted.says(0.15, message("task-failed", error_code="CLIENT_ERROR", error_message="after 23 seconds."))
    with pytest.raises(NoDataTimeout, match=r"CLIENT_ERROR: after 23 seconds\."):
        list(run(recognizer, clock, paced(3)))
    assert repr(recognizer) == "<Recognizer broken, open, tasks 0>"
    assert not recognizer.is_reusable()


def test_a_refusal_may_come_instead_of_started(make, scripted, clock):
    words = "Invalid action('run-task')! Please follow the protocol!"
    scripted.says(0.1, message("task-failed", error_code="InvalidParameter", error_message=words))
    with pytest.raises(OutOfStep):
        list(run(make(), clock))


@pytest.mark.parametrize("junk", [result(0), message("task-finished"), message("task-exploded"), {}, []])
def test_what_cannot_be_breaks_the_conversation(make, scripted, clock, junk):
    scripted.says(0.1, junk)
    recognizer = make()
    with pytest.raises(RemoteProtocolError):
        list(run(recognizer, clock))
    assert not recognizer.is_reusable()


def test_a_lost_connection_is_raised_and_not_reusable(recognizer, scripted, clock):
    scripted.says(0.15, ConnectionLost("close code 1011", 1011))
    with pytest.raises(ConnectionLost) as caught:
        list(run(recognizer, clock, paced(3)))
    assert caught.value.close_code == 1011
    assert not recognizer.is_reusable()


def hang_up(scripted, on, *last_words):
    """From the `on`-th message sent, the connection is broken; the last words wait unread."""
    answer = scripted.on_send

    def broken(sent):
        if len(scripted.sent) < on:
            return answer(sent)
        for words in last_words:
            scripted.says(0.0, words)
        raise ConnectionLost("BrokenPipeError while sending")

    scripted.on_send = broken


FAILED = message("task-failed", error_code="InvalidParameter", error_message="bad rate")


def test_the_last_words_count_more_than_the_broken_pipe(recognizer, scripted, clock):
    hang_up(scripted, 3, result(0, 90), FAILED)
    events = run(recognizer, clock, paced(4))
    assert next(events) == Started("t1")
    assert next(events) == Final("t1", Sentence(0, 90, "words"))  # a finished sentence is work saved
    with pytest.raises(InvalidRequest, match="bad rate"):
        next(events)


def test_last_words_before_task_started_count_too(recognizer, scripted, clock):
    hang_up(scripted, 1, FAILED)
    with pytest.raises(InvalidRequest, match="bad rate"):
        list(run(recognizer, clock))


@pytest.mark.parametrize("on", [1, 2, 3, 4])
def test_a_broken_pipe_without_last_words_is_what_is_raised(recognizer, scripted, clock, on):
    hang_up(scripted, on)
    with pytest.raises(ConnectionLost, match="BrokenPipeError"):
        list(run(recognizer, clock, paced(2)))
    assert not recognizer.is_reusable()


def test_what_the_source_raises_goes_through_as_it_is(recognizer, scripted, inline, clock):
    def source():
        yield Chunk(0.0, FRAME)
        yield Chunk(0.1, FRAME)
        raise ZeroDivisionError("in the decoder")

    with pytest.raises(ZeroDivisionError, match="in the decoder"):
        list(run(recognizer, clock, source()))
    assert not recognizer.is_reusable()
    inline.elapse(1)
    assert len(scripted.sent) == 2  # and not what was taken ahead: nobody is left to hear its events


def test_who_stops_early_leaves_it_not_reusable(recognizer, scripted, inline, clock):
    events = run(recognizer, clock, paced(3))
    next(events)
    assert not recognizer.is_reusable()
    events.close()
    assert repr(recognizer) == "<Recognizer broken, open, tasks 0>"
    sent, looks = len(scripted.sent), scripted.looks
    inline.elapse(60)
    assert (len(scripted.sent), scripted.looks) == (sent, looks)  # the loop has let go of the connection


def test_who_stops_at_finished_leaves_it_reusable(recognizer, clock):
    events = run(recognizer, clock, paced(1))
    while next(events) != Finished("t1"):
        pass
    events.close()
    assert recognizer.is_reusable()


def test_a_second_task_beside_the_first_is_our_mistake_and_does_not_harm_the_first(recognizer, clock):
    first = run(recognizer, clock, paced(2))
    next(first)
    with pytest.raises(LocalProtocolError):
        next(run(recognizer, clock))
    assert list(first) == [Finished("t1")]


def test_parameters_that_cannot_be_sent_cost_no_connection(recognizer, scripted, clock):
    events = recognizer.transcribe(model="m", parameters={"x": float("nan")}, chunks=(), deadline=clock.now + 1)
    with pytest.raises(InvalidRequest):
        next(events)
    assert scripted.sent == []
    assert recognizer.is_reusable()


def test_a_word_after_task_finished_makes_it_not_reusable(make, scripted, clock):
    def answer(sent):
        if sent != FRAME and sent["header"]["action"] == "run-task":
            scripted.says(0.0, message("task-started"))
        elif sent != FRAME:
            scripted.says(0.1, message("task-finished"))
            scripted.says(0.1, result(0))

    scripted.on_send = answer
    recognizer = make()
    assert list(run(recognizer, clock)) == [Started("t1"), Finished("t1")]
    assert not recognizer.is_reusable() and recognizer.tasks == 1


@pytest.mark.parametrize("farewell", [ConnectionLost("close code 1000", 1000), RemoteProtocolError("a binary message")])
def test_a_connection_that_ends_with_its_task_costs_no_transcript(make, scripted, clock, farewell):
    def answer(sent):
        if sent["header"]["action"] == "run-task":
            scripted.says(0.0, message("task-started"))
        else:
            scripted.says(0.1, message("task-finished"))
            scripted.says(0.1, farewell)

    scripted.on_send = answer
    recognizer = make()
    assert list(run(recognizer, clock)) == [Started("t1"), Finished("t1")]
    assert not recognizer.is_reusable()


def test_a_fresh_connection_is_healthy_and_being_asked_takes_no_time(recognizer, scripted, clock):
    assert recognizer.is_healthy()
    assert scripted.looks == 1
    assert clock.now == 1000


@pytest.mark.parametrize("unread", [message("task-finished", "t0"), ConnectionLost("close code 1000", 1000)])
def test_what_waits_unread_on_an_idle_connection_makes_it_unhealthy_for_good(recognizer, scripted, unread):
    scripted.says(0.0, unread)
    assert not recognizer.is_healthy()
    assert not recognizer.is_healthy()
    assert not recognizer.is_reusable()


def test_a_late_answer_to_a_ping_on_an_idle_connection_is_no_message(recognizer, scripted, clock):
    scripted.says(0.0, PONG)
    scripted.says(0.0, PONG)
    assert recognizer.is_healthy() and recognizer.is_reusable()
    scripted.says(0.0, PONG)
    assert list(run(recognizer, clock)) == [Started("t1"), Finished("t1")]
    assert recognizer.is_healthy()


def test_nor_does_it_hide_one(recognizer, scripted):
    scripted.says(0.0, PONG)
    scripted.says(0.0, message("task-finished", "t0"))
    assert not recognizer.is_healthy()


def test_a_connection_that_breaks_while_being_looked_at_is_unhealthy(recognizer, scripted):
    states = iter([True, False])  # open before the look, and not after
    scripted.is_open = lambda: next(states)
    assert not recognizer.is_healthy()


def test_a_closed_recognizer_is_neither_healthy_nor_reusable(recognizer, scripted, clock):
    recognizer.close()
    assert not recognizer.is_healthy()
    assert not recognizer.is_reusable()
    assert repr(recognizer) == "<Recognizer broken, not open, tasks 0>"
    with pytest.raises(LocalProtocolError):
        next(run(recognizer, clock))


def test_a_transport_that_is_not_open_is_not_reusable_after_a_whole_task(recognizer, scripted, clock):
    list(run(recognizer, clock))
    scripted.open = False
    assert not recognizer.is_reusable()


# ----------------------------------------------------------------------------------------- what became of the audio


OUT_OF_STEP = message("task-failed", error_code="InvalidParameter", error_message="Invalid action('run-task')!")


@pytest.mark.parametrize("failure", [OUT_OF_STEP, ConnectionLost("close code 1000", 1000), message("task-finished")])
def test_what_fails_before_task_started_took_no_audio(make, scripted, clock, failure):
    scripted.says(0.1, failure)
    recognizer = make()
    chunks = iter(paced(3))
    with pytest.raises((OutOfStep, ConnectionLost, RemoteProtocolError)):
        list(run(recognizer, clock, chunks))
    assert not recognizer.took_audio
    assert len(list(chunks)) == 3


@pytest.mark.parametrize("on", [1, None])
def test_a_task_that_never_started_took_no_audio(make, scripted, clock, on):
    if on is not None:
        hang_up(scripted, on)
    recognizer = make()
    with pytest.raises((ConnectionLost, UpstreamSilent)):
        list(run(recognizer, clock, paced(3)))
    assert not recognizer.took_audio


@pytest.mark.parametrize("on", [2, 3])
def test_from_its_first_chunk_on_a_task_took_audio(recognizer, scripted, clock, on):
    hang_up(scripted, on)
    with pytest.raises(ConnectionLost):
        list(run(recognizer, clock, paced(3)))
    assert recognizer.took_audio


def test_a_source_that_fails_to_bring_the_first_chunk_was_not_taken_from(recognizer, clock):
    with pytest.raises(ZeroDivisionError):
        list(run(recognizer, clock, (1 / 0 for _ in range(1))))
    assert not recognizer.took_audio


def test_each_task_is_asked_anew_whether_it_took_audio(recognizer, scripted, clock):
    assert not recognizer.took_audio
    list(run(recognizer, clock, paced(1)))
    assert recognizer.took_audio
    hang_up(scripted, 4)
    with pytest.raises(ConnectionLost):
        list(run(recognizer, clock, paced(1)))
    assert not recognizer.took_audio


def test_what_the_service_was_given_is_counted_and_not_what_was_taken(recognizer, scripted, clock):
    assert (recognizer.sent_bytes, recognizer.sent_all) == (0, False)
    scripted.says(0.35, FAILED)
    with pytest.raises(InvalidRequest):
        list(run(recognizer, clock, paced(30)))
    assert (recognizer.sent_bytes, recognizer.sent_all) == (3 * len(FRAME), False)
    assert len(sent_at(scripted)) == 3


def test_a_whole_task_has_sent_it_all(recognizer, clock):
    events = run(recognizer, clock, paced(3))
    assert next(events) == Started("t1")
    assert (recognizer.sent_bytes, recognizer.sent_all) == (0, False)
    list(events)
    assert (recognizer.sent_bytes, recognizer.sent_all) == (3 * len(FRAME), True)
    next(run(recognizer, clock))
    assert (recognizer.sent_bytes, recognizer.sent_all) == (0, False)


def test_all_may_be_sent_and_the_task_fail_all_the_same(recognizer, scripted, clock):
    hang_up(scripted, 4)  # at finish-task
    with pytest.raises(ConnectionLost):
        list(run(recognizer, clock, paced(2)))
    assert recognizer.sent_bytes == 2 * len(FRAME)


def test_audio_may_be_a_view_of_something_larger(recognizer, scripted, clock):
    whole = memoryview(bytes(range(200)))
    list(run(recognizer, clock, [Chunk(0.0, whole[at : at + 50]) for at in range(0, 200, 50)]))
    assert b"".join(sent for _, sent in scripted.sent[1:-1]) == bytes(whole)
    assert recognizer.sent_bytes == 200


# ------------------------------------------------------------------------------------------------ what holds it up


@pytest.fixture
def load(clock):
    return Load(clock)


@pytest.fixture
def loaded(make, scripted, load):
    """A recognizer whose load is looked at."""
    scripted.on_send = obliging(scripted)
    return make(load=load)


def figures(load):
    return tuple(load.figures()[name] for name in ("late_share", "late_ms_max", "blocked_share", "blocked_ms_max"))


def slow_network(scripted, seconds):
    scripted.hold = lambda sent: seconds if sent == FRAME else 0.0


def slow_process(scripted, clock, seconds):
    answer = scripted.on_send

    def slow(sent):
        answer(sent)
        clock.now += seconds

    scripted.on_send = slow


def test_an_undisturbed_task_is_neither_late_nor_blocked(loaded, clock, load):
    list(run(loaded, clock, paced(60)))
    assert figures(load) == (0, 0, 0, 0)


def test_a_send_that_the_other_side_holds_up_is_blocked_and_not_late(loaded, scripted, clock, load):
    slow_network(scripted, 0.06)
    list(run(loaded, clock, paced(60)))
    assert figures(load) == (0, 0, pytest.approx(0.6, abs=0.01), 60)
    assert load.limits() == ("bandwidth",)


def test_chunks_that_blocked_sends_delay_are_not_late(loaded, scripted, clock, load):
    slow_network(scripted, 0.3)  # each comes further behind its due
    list(run(loaded, clock, paced(60)))
    assert figures(load) == (0, 0, pytest.approx(1, abs=0.02), 300)
    assert sent_at(scripted)[:3] == [0.1, 0.4, 0.7]  # as fast as the network takes them


def test_a_send_that_never_succeeds_counts_as_blocked(loaded, scripted, clock, load):
    sends = itertools.count()
    scripted.hold = lambda sent: 20.0 if sent == FRAME and next(sends) == 60 else 0.0
    with pytest.raises(ConnectionLost, match="TimeoutError while sending"):
        list(run(loaded, clock, paced(100)))
    assert clock.now == pytest.approx(1000.1 + 6 + Limits().write)
    assert load.figures()["blocked_ms_max"] == 10_000
    assert load.limits() == ("bandwidth",)


@pytest.mark.parametrize("what", ["run-task", "finish-task"])
def test_a_command_that_the_network_does_not_take_ends_the_task(make, scripted, clock, what):
    scripted.on_send = obliging(scripted)
    scripted.hold = lambda sent: 20.0 if sent != FRAME and sent["header"]["action"] == what else 0.0
    scripted.says = lambda delay, message, says=scripted.says: what in str(scripted.sent[-1]) or says(delay, message)
    with pytest.raises(ConnectionLost, match="TimeoutError while sending"):
        list(run(make(Limits(write=3.0)), clock, paced(1)))
    assert clock.now == pytest.approx({"run-task": 1003, "finish-task": 1003.1}[what], abs=2 * RECHECK)


def test_events_are_heard_while_the_network_takes_nothing(recognizer, scripted, clock):
    slow_network(scripted, 3.0)
    scripted.says(1.0, result(0, 90))
    arrivals = [(type(event), round(clock.now - 1000, 2)) for event in run(recognizer, clock, paced(1))]
    assert arrivals == [(Started, 0.1), (Final, 1.0), (Finished, 3.2)]


def test_a_wait_that_ends_after_the_due_moment_is_late(loaded, inline, clock, load):
    inline.lag = 0.06
    list(run(loaded, clock, paced(60)))
    assert figures(load) == (1, 60, 0, 0)
    assert load.limits() == ("cpu",)


def test_who_is_late_by_the_same_each_time_does_not_fall_behind(recognizer, scripted, inline, clock):
    inline.lag = 0.06
    list(run(recognizer, clock, paced(60)))
    assert sent_at(scripted)[-1] == pytest.approx(0.1 + 5.9 + 0.06, abs=0.06)


def test_a_process_that_never_catches_up_is_late_all_the_same(loaded, scripted, clock, load):
    slow_process(scripted, clock, 0.2)  # so that each chunk is overdue at once
    list(run(loaded, clock, paced(60)))
    assert figures(load) == (pytest.approx(1, abs=0.02), 150, 0, 0)
    assert load.limits() == ("cpu",)


@pytest.mark.parametrize("seconds", [0.101, 0.25])
def test_a_source_that_is_late_itself_is_nobody_s_limit(loaded, inline, clock, load, seconds):
    def slow_source():
        for chunk in paced(60):
            inline.elapse(seconds)
            yield chunk

    list(run(loaded, clock, slow_source()))
    assert figures(load) == (0, 0, 0, 0)


@pytest.mark.parametrize("seconds", [0.25, 5.0])
def test_a_caller_that_takes_its_time_over_events_is_nobody_s_limit(loaded, scripted, inline, clock, load, seconds):
    for position in range(20):
        scripted.says(0.15 + position * 0.3, result(0))
    for event in run(loaded, clock, paced(60)):
        if isinstance(event, Partial):
            inline.elapse(seconds)
    assert figures(load) == (0, 0, 0, 0)


def test_chunks_due_at_once_are_not_measured(loaded, scripted, clock, load):
    slow_network(scripted, 0.06)
    slow_process(scripted, clock, 0.06)
    list(run(loaded, clock, [Chunk(0.0, FRAME)] * 60))
    assert figures(load) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    "refusal",
    [message("task-failed", error_code="Throttling.RateQuota", error_message=""), Throttled("close code 1013")],
)
def test_being_throttled_is_counted(loaded, scripted, clock, load, refusal):
    scripted.says(0.05, refusal)
    with pytest.raises(Throttled):
        list(run(loaded, clock, paced(1)))
    assert load.limits() == ("quota",)


def test_other_refusals_are_not_the_quota_s(loaded, scripted, clock, load):
    scripted.says(0.05, OUT_OF_STEP)
    with pytest.raises(OutOfStep):
        list(run(loaded, clock, paced(1)))
    assert load.limits() == ()


class Stuck:
    """A driver that starts a task and never lets go of it."""

    def __init__(self, error):
        self.error = error

    def begin(self, transport, conversation):
        pass

    def prod(self, conversation):
        pass

    def wait(self, conversation):
        return Started("t1")

    def end(self, conversation):
        if self.error:
            raise self.error


def test_a_connection_that_the_loop_does_not_let_go_of_is_aborted(scripted):
    recognizer = Recognizer(scripted, loop=Stuck(queue.Empty()))
    events = recognizer.transcribe(model="m", parameters={}, chunks=(), deadline=1.0)
    assert next(events) == Started("t1")
    events.close()
    assert not scripted.is_open() and not recognizer.is_reusable()


def test_a_time_limit_that_strikes_while_the_loop_lets_go_is_not_swallowed(scripted):
    driver = Stuck(KeyboardInterrupt())
    recognizer = Recognizer(scripted, loop=driver)
    events = recognizer.transcribe(model="m", parameters={}, chunks=(), deadline=1.0)
    next(events)
    with pytest.raises(KeyboardInterrupt):
        events.close()
    assert not scripted.is_open() and not recognizer.is_reusable()
    driver.error = None
    recognizer.close()
