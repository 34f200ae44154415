import re

import pytest

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
from worker.recognition.messages import Final, Finished, Heartbeat, Partial, Sentence, Started
from worker.recognition.recognizer import Chunk, Limits, Recognizer

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
def recognizer(scripted, clock):
    scripted.on_send = obliging(scripted)
    ids = iter(["t1", "t2", "t3"])
    return Recognizer(scripted, clock=clock, new_id=lambda: next(ids))


def run(recognizer, clock, chunks=(), *, seconds=3600.0, **options):
    return recognizer.transcribe(model="m", parameters={}, chunks=chunks, deadline=clock.now + seconds, **options)


def paced(count, spacing=0.1):
    return [Chunk(position * spacing, FRAME) for position in range(count)]


def test_the_defaults_of_the_limits():
    assert (Limits().started, Limits().finished) == (10.0, 60.0)


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


def test_ids_are_32_hex_digits_and_fresh(scripted, clock):
    scripted.on_send = obliging(scripted)
    recognizer = Recognizer(scripted, clock=clock)
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


def test_the_clock_does_not_drift_when_frames_are_late(recognizer, scripted, clock):
    def slow_source():
        for position, chunk in enumerate(paced(6)):
            if position == 2:
                clock.now += 0.25  # fetching took long: frames 2, 3 and 4 are due at once
            yield chunk

    list(run(recognizer, clock, slow_source()))
    assert [at for at, sent in scripted.sent if sent == FRAME] == [0.1, 0.2, 0.45, 0.45, 0.5, 0.6]


def test_the_caller_may_take_its_time_over_started(recognizer, scripted, clock):
    events = run(recognizer, clock, paced(4))
    next(events)
    clock.now += 0.15
    list(events)
    assert [at for at, sent in scripted.sent if sent == FRAME] == [0.25, 0.25, 0.3, 0.4]


def test_chunks_due_at_once_are_sent_without_waiting_and_events_are_drained_between(recognizer, scripted, clock):
    answer = scripted.on_send
    scripted.on_send = lambda sent: scripted.says(0.0, result(0)) if sent == FRAME else answer(sent)
    events = list(run(recognizer, clock, [Chunk(0.0, FRAME)] * 3))
    assert [type(event) for event in events] == [Started, Partial, Partial, Partial, Finished]
    assert [at for at, sent in scripted.sent if sent == FRAME] == [0.1, 0.1, 0.1]
    assert scripted.waits.count(0.0) == 6


def test_a_message_of_an_earlier_task_is_ignored(recognizer, scripted, clock):
    scripted.says(0.0, result(0, 10, task="t0"))
    scripted.says(0.15, message("task-failed", "t0", error_code="CLIENT_ERROR", error_message=""))
    assert list(run(recognizer, clock, paced(2))) == [Started("t1"), Finished("t1")]


def test_heartbeats_are_handed_out(recognizer, scripted, clock):
    scripted.says(0.15, message("result-generated"))
    assert Heartbeat("t1") in list(run(recognizer, clock, paced(2)))


def test_finals_after_finish_task_come_before_finished(scripted, clock):
    def answer(sent):
        if sent != FRAME and sent["header"]["action"] == "run-task":
            scripted.says(0.0, message("task-started"))
        elif sent != FRAME:
            scripted.says(50.0, result(0, 90))
            scripted.says(100.0, message("task-finished"))

    scripted.on_send = answer
    recognizer = Recognizer(scripted, clock=clock, new_id=lambda: "t1")
    events = list(run(recognizer, clock, paced(1)))  # 50 s of silence twice: each is within the 60 s
    assert events == [Started("t1"), Final("t1", Sentence(0, 90, "words")), Finished("t1")]


@pytest.mark.parametrize("limit", [0.5, 10.0])
def test_a_service_that_does_not_start_is_silent(scripted, clock, limit):
    recognizer = Recognizer(scripted, Limits(started=limit), clock=clock)
    with pytest.raises(UpstreamSilent, match=f"no task-started within {limit:g} s"):
        list(run(recognizer, clock, paced(1)))
    assert clock.now == 1000 + limit
    assert not recognizer.is_reusable()


@pytest.mark.parametrize("delay", [0.5, 60.0])
def test_a_service_that_does_not_finish_is_silent(scripted, clock, delay):
    scripted.says(0.0, message("task-started"))
    scripted.says(0.3, result(0, 10))
    recognizer = Recognizer(scripted, Limits(finished=delay), clock=clock, new_id=lambda: "t1")
    events = run(recognizer, clock, paced(1))
    assert [type(next(events)) for _ in range(2)] == [Started, Final]
    with pytest.raises(UpstreamSilent, match=f"nothing within {delay:g} s after finish-task"):
        next(events)
    assert clock.now == pytest.approx(1000 + 0.3 + delay)  # counted from the last event
    assert not recognizer.is_reusable()


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.1, 0.15, 0.25, 0.35])
def test_the_deadline_holds_at_every_turn(recognizer, clock, seconds):
    with pytest.raises(DeadlinePassed):
        list(run(recognizer, clock, paced(3), seconds=seconds))
    assert clock.now == pytest.approx(1000 + seconds)
    assert not recognizer.is_reusable()


def test_a_caller_that_is_slow_does_not_outlive_the_deadline(recognizer, clock):
    events = run(recognizer, clock, [Chunk(0.0, FRAME)] * 3, seconds=1.0)
    next(events)
    clock.now += 2
    with pytest.raises(DeadlinePassed):
        next(events)


def test_a_refusal_is_raised_as_what_it_means(recognizer, scripted, clock):
    scripted.says(0.15, message("task-failed", error_code="CLIENT_ERROR", error_message="after 23 seconds."))
    with pytest.raises(NoDataTimeout, match=r"CLIENT_ERROR: after 23 seconds\."):
        list(run(recognizer, clock, paced(3)))
    assert repr(recognizer) == "<Recognizer broken, open, tasks 0>"
    assert not recognizer.is_reusable()


def test_a_refusal_may_come_instead_of_started(scripted, clock):
    words = "Invalid action('run-task')! Please follow the protocol!"
    scripted.says(0.1, message("task-failed", error_code="InvalidParameter", error_message=words))
    with pytest.raises(OutOfStep):
        list(run(Recognizer(scripted, clock=clock, new_id=lambda: "t1"), clock))


@pytest.mark.parametrize("junk", [result(0), message("task-finished"), message("task-exploded"), {}, []])
def test_what_cannot_be_breaks_the_conversation(scripted, clock, junk):
    scripted.says(0.1, junk)
    recognizer = Recognizer(scripted, clock=clock, new_id=lambda: "t1")
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


@pytest.mark.parametrize("on", [1, 2, 3, 4])
def test_a_broken_pipe_without_last_words_is_what_is_raised(recognizer, scripted, clock, on):
    hang_up(scripted, on)
    with pytest.raises(ConnectionLost, match="BrokenPipeError"):
        list(run(recognizer, clock, paced(2)))
    assert not recognizer.is_reusable()


def test_what_the_source_raises_goes_through_as_it_is(recognizer, scripted, clock):
    def source():
        yield Chunk(0.0, FRAME)
        raise ZeroDivisionError("in the decoder")

    with pytest.raises(ZeroDivisionError, match="in the decoder"):
        list(run(recognizer, clock, source()))
    assert not recognizer.is_reusable()
    assert len(scripted.sent) == 2


def test_who_stops_early_leaves_it_not_reusable(recognizer, clock):
    events = run(recognizer, clock, paced(3))
    next(events)
    assert not recognizer.is_reusable()
    events.close()
    assert repr(recognizer) == "<Recognizer broken, open, tasks 0>"


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


def test_a_fresh_connection_is_healthy_and_being_asked_takes_no_time(recognizer, scripted, clock):
    assert recognizer.is_healthy()
    assert scripted.waits == [0.0]
    assert clock.now == 1000


@pytest.mark.parametrize("unread", [message("task-finished", "t0"), ConnectionLost("close code 1000", 1000)])
def test_what_waits_unread_on_an_idle_connection_makes_it_unhealthy_for_good(recognizer, scripted, unread):
    scripted.says(0.0, unread)
    assert not recognizer.is_healthy()
    assert not recognizer.is_healthy()
    assert not recognizer.is_reusable()


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
def test_what_fails_before_task_started_took_no_audio(scripted, clock, failure):
    scripted.says(0.1, failure)
    recognizer = Recognizer(scripted, clock=clock, new_id=lambda: "t1")
    chunks = iter(paced(3))
    with pytest.raises((OutOfStep, ConnectionLost, RemoteProtocolError)):
        list(run(recognizer, clock, chunks))
    assert not recognizer.took_audio
    assert len(list(chunks)) == 3


@pytest.mark.parametrize("on", [1, None])
def test_a_task_that_never_started_took_no_audio(scripted, clock, on):
    if on is not None:
        hang_up(scripted, on)
    recognizer = Recognizer(scripted, clock=clock)
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


# ------------------------------------------------------------------------------------------------ what holds it up


@pytest.fixture
def load(clock):
    return Load(clock)


@pytest.fixture
def loaded(scripted, clock, load):
    """A recognizer whose load is looked at."""
    scripted.on_send = obliging(scripted)
    return Recognizer(scripted, load=load, clock=clock, new_id=lambda: "t1")


def figures(load):
    return tuple(load.figures()[name] for name in ("late_share", "late_ms_max", "blocked_share", "blocked_ms_max"))


def slow_sends(scripted, clock, seconds):
    answer = scripted.on_send

    def slow(sent):
        if sent == FRAME:
            clock.now += seconds
        else:
            answer(sent)

    scripted.on_send = slow


def test_an_undisturbed_task_is_neither_late_nor_blocked(loaded, clock, load):
    list(run(loaded, clock, paced(60)))
    assert figures(load) == (0, 0, 0, 0)


def test_a_send_that_the_other_side_holds_up_is_blocked_and_not_late(loaded, scripted, clock, load):
    slow_sends(scripted, clock, 0.06)
    list(run(loaded, clock, paced(60)))
    assert figures(load) == (0, 0, pytest.approx(0.6, abs=0.01), 60)
    assert load.limits() == ("bandwidth",)


def test_chunks_that_blocked_sends_delay_are_not_late(loaded, scripted, clock, load):
    slow_sends(scripted, clock, 0.3)  # each comes further behind its due
    list(run(loaded, clock, paced(60)))
    assert figures(load) == (0, 0, pytest.approx(1, abs=0.02), 300)


def test_a_send_that_never_succeeds_counts_as_blocked(loaded, scripted, clock, load):
    sends = iter(range(100))

    def stuck(sent):
        if sent == FRAME and next(sends) == 60:
            clock.now += 20.0
            raise ConnectionLost("TimeoutError while sending")
        answer(sent)

    def answer(sent, obliging=scripted.on_send):
        if sent != FRAME:
            obliging(sent)

    scripted.on_send = stuck
    with pytest.raises(ConnectionLost):
        list(run(loaded, clock, paced(100)))
    assert load.figures()["blocked_ms_max"] == 20_000
    assert load.limits() == ("bandwidth",)


def test_a_wait_that_ends_after_the_due_moment_is_late(loaded, scripted, clock, load):
    scripted.wake_lag = lambda timeout: 0.06 if timeout else 0.0
    list(run(loaded, clock, paced(60)))
    assert figures(load) == (1, 60, 0, 0)
    assert load.limits() == ("cpu",)


def test_what_takes_long_without_waiting_for_anybody_is_late(loaded, scripted, clock, load):
    scripted.send_lag = 0.03
    scripted.wake_lag = lambda timeout: 0.0 if timeout else 0.04  # a look for events
    list(run(loaded, clock, paced(60)))
    assert figures(load) == (1, 70, 0, 0)


def test_a_process_that_never_catches_up_is_late_all_the_same(loaded, scripted, clock, load):
    scripted.send_lag = 0.2  # so that no chunk is in hand before its due moment, and no wait for one is ever made
    list(run(loaded, clock, paced(60)))
    assert figures(load) == (1, 200, 0, 0)


def test_a_source_that_is_late_itself_is_nobody_s_limit(loaded, clock, load):
    def slow_source():
        for chunk in paced(60):
            clock.now += 0.25
            yield chunk

    list(run(loaded, clock, slow_source()))
    assert figures(load) == (0, 0, 0, 0)


def test_a_caller_that_takes_its_time_over_events_is_nobody_s_limit(loaded, scripted, clock, load):
    for position in range(20):
        scripted.says(0.15 + position * 0.3, result(0))
    for event in run(loaded, clock, paced(60)):
        if isinstance(event, Partial):
            clock.now += 0.25
    assert figures(load) == (0, 0, 0, 0)


def test_chunks_due_at_once_are_not_measured(loaded, scripted, clock, load):
    slow_sends(scripted, clock, 0.06)
    scripted.send_lag = 0.06
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
