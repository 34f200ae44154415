"""A task that somebody ends from another thread, without harm to the connection of anybody else."""

import itertools
import math
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from emulator.background import BackgroundEmulator
from emulator.engines.script import ScriptEngine
from emulator.limits import Limits as ServiceLimits
from tests.chaos import counted
from tests.worker.recognition.flows import STARTED, Gate, ScriptedTransport, conversation, final
from tests.worker.recognition.waiting import PATIENCE
from worker.recognition import Endpoint, Final, Finished, Recognizer, Started, WebSocketTransport
from worker.recognition.conversation import MOST_UNREAD, Interruption


class Cancelled(Exception):
    """Why a task is to end."""


@pytest.fixture(scope="module")
def emulator():
    with BackgroundEmulator(ScriptEngine(sentence_ms=100), ServiceLimits(starts_per_second=None)) as running:
        yield running


@pytest.fixture
def recognizer(loop, emulator):
    recognizer = Recognizer(WebSocketTransport.connect(Endpoint(url=emulator.url, api_key="k")), loop=loop)
    yield recognizer
    recognizer.close()


def task(recognizer, chunks):
    parameters = {"format": "pcm", "sample_rate": 16_000}
    return recognizer.transcribe(
        model="paraformer-realtime-v2", parameters=parameters, chunks=chunks, deadline=math.inf
    )


class Caller(threading.Thread):
    """Runs a task in a thread of its own; `error` is how it failed."""

    def __init__(self, events):
        super().__init__()
        self._events = events
        self.started = threading.Event()
        self.error = None
        self.start()

    def run(self):
        try:
            for _ in self._events:
                self.started.set()
        except Cancelled as error:
            self.error = error


def test_who_waits_for_an_event_is_woken_at_once(recognizer, loop, until_in):
    why = Cancelled("by the user")
    caller = Caller(task(recognizer, counted(0, 32_000, spacing=5.0)))
    assert caller.started.wait(PATIENCE)
    until_in(caller, "Loop.wait")
    began = time.monotonic()
    recognizer.interrupt(why)
    caller.join(PATIENCE)
    assert caller.error is why and time.monotonic() - began < 1.0
    assert loop.figures()["loop_streams"] == 0
    assert not recognizer.is_reusable() and not recognizer.is_healthy()


def test_who_is_busy_gets_it_when_he_looks_again_and_the_first_of_several_counts(recognizer):
    events = task(recognizer, counted(0, 320_000, spacing=0.1))
    next(events)
    whys = [Cancelled(), Cancelled()]
    for why in whys:
        recognizer.interrupt(why)
    with pytest.raises(Cancelled) as caught:
        for _ in itertools.islice(events, 10):
            pass
    assert caught.value is whys[0]
    assert list(events) == [] and not recognizer.is_reusable()


# ------------------------------------------------------------------------------------------------- on a fake clock


def message(event, task="t1"):
    return {"header": {"task_id": task, "event": event}, "payload": {}}


def result(begin):
    sentence = {"begin_time": begin, "end_time": begin + 1, "text": "words", "sentence_end": True}
    return message("result-generated") | {"payload": {"output": {"sentence": sentence}}}


@pytest.fixture
def quick(scripted, inline, clock):
    """A recognizer whose service starts and finishes each task a little later; its tasks are t1 and t2."""
    ids = iter(["t1", "t2"])

    def answer(sent):
        if isinstance(sent, dict):
            event = {"run-task": "task-started", "finish-task": "task-finished"}[sent["header"]["action"]]
            scripted.says(0.1, message(event, sent["header"]["task_id"]))

    scripted.on_send = answer
    return Recognizer(scripted, loop=inline, clock=clock, new_id=lambda: next(ids))


def test_where_no_task_is_in_flight_nothing_happens(quick):
    quick.interrupt(Cancelled())
    events = task(quick, [])
    quick.interrupt(Cancelled())
    assert [type(event) for event in events] == [Started, Finished]
    assert quick.is_reusable()


@pytest.mark.parametrize("at", ["the last event", "the end"])
def test_a_task_that_is_just_over_hands_it_to_nobody(quick, at):
    events = task(quick, [])
    for event in events:
        if at == "the last event" and isinstance(event, Finished):
            quick.interrupt(Cancelled())
    quick.interrupt(Cancelled())
    assert quick.is_reusable()
    assert [type(event) for event in task(quick, [])] == [Started, Finished]
    assert quick.is_reusable() and quick.tasks == 2


def test_before_many_of_the_events_that_wait_it_is_raised(quick, scripted, inline):
    for number in range(3 * MOST_UNREAD):
        scripted.says(0.11 + number / 10_000, result(number))
    events = task(quick, counted(0, 320_000, spacing=0.1))
    next(events)
    inline.elapse(5.0)
    why, told = Cancelled(), []
    quick.interrupt(why)
    with pytest.raises(Cancelled) as caught:
        for event in events:
            told.append(event)
    assert caught.value is why and len(told) == MOST_UNREAD


def test_though_the_task_has_finished_unseen_it_counts_as_failed(quick, inline):
    events = task(quick, [])
    next(events)
    quick.interrupt(Cancelled())
    quick._conversation.end_audio()
    inline.prod(quick._conversation)
    inline.elapse(5.0)
    assert quick._session.state.value == "ready"
    with pytest.raises(Cancelled):
        next(events)
    assert not quick.is_reusable() and quick.tasks == 0


# --------------------------------------------------------------------------------------------------- letting go


def test_it_is_not_taken_for_the_last_word_by_who_waits_for_that(loop):
    transport, talk, gate = ScriptedTransport(), conversation(), Gate()
    loop.begin(transport, talk)
    transport.hears(STARTED)
    assert isinstance(loop.wait(talk), Started)
    transport.on_turn = gate
    transport.hears(final())
    gate.wait()
    talk.news.put(Interruption(Cancelled()))
    ends = threading.Thread(target=loop.end, args=(talk,))
    ends.start()
    ends.join(0.1)
    assert ends.is_alive() and loop.figures()["loop_streams"] == 1
    gate.open()
    ends.join(PATIENCE)
    assert not ends.is_alive() and loop.figures()["loop_streams"] == 0
    transport.close()


def test_another_stream_goes_on(recognizer, loop, emulator):
    other = Recognizer(WebSocketTransport.connect(Endpoint(url=emulator.url, api_key="k")), loop=loop)
    theirs, ours = task(other, counted(0, 16_000, spacing=0.05)), task(recognizer, counted(0, 16_000, spacing=0.05))
    next(theirs)
    next(ours)
    recognizer.interrupt(Cancelled())
    with pytest.raises(Cancelled):
        list(ours)
    assert sum(isinstance(event, Final) for event in theirs) == 5
    assert other.is_reusable()
    other.close()


GEVENT = """
    from gevent import monkey
    monkey.patch_all()
    import sys, threading, time
    from tests.chaos import counted
    from worker.recognition import Endpoint, Loop, Recognizer, WebSocketTransport

    class Cancelled(Exception):
        pass

    loop, why, caught, started = Loop(), Cancelled(), [], threading.Event()
    recognizer = Recognizer(WebSocketTransport.connect(Endpoint(url=sys.argv[1], api_key="k")), loop=loop)

    def transcribe():
        job = {"model": "paraformer-realtime-v2", "parameters": {"format": "pcm", "sample_rate": 16000}}
        try:
            for _ in recognizer.transcribe(**job, chunks=counted(0, 32000, spacing=5.0), deadline=float("inf")):
                started.set()
        except Cancelled as error:
            caught.append(error)

    caller = threading.Thread(target=transcribe)
    caller.start()
    assert started.wait(10)
    time.sleep(0.1)
    began = time.monotonic()
    recognizer.interrupt(why)
    caller.join(10)
    assert caught == [why] and time.monotonic() - began < 1.0
    assert not recognizer.is_reusable()
    recognizer.close()
    loop.close(5)
"""


def test_a_greenlet_is_woken_like_a_thread(emulator):
    command = [sys.executable, "-c", textwrap.dedent(GEVENT), emulator.url]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
