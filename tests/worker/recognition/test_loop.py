import math
import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from emulator.background import BackgroundEmulator
from emulator.engines.script import ScriptEngine
from emulator.limits import Limits as ServiceLimits
from tests.chaos import sentences
from tests.worker.recognition.flows import STARTED, Gate, ScriptedTransport, conversation, descriptors, final, until
from tests.worker.recognition.reactors import BYTES, Dialled
from worker.recognition import Chunk, ConnectionLost, DeadlinePassed, Final, Finished, Loop
from worker.recognition.reactor import Reactor


@pytest.fixture(scope="module")
def emulator():
    limits = ServiceLimits(starts_per_second=None)
    with BackgroundEmulator(ScriptEngine(sentence_ms=100), limits) as running:
        yield running


@pytest.fixture
def loop():
    before, others = descriptors(), set(threading.enumerate())
    loop = Loop()
    yield loop
    loop.close(20)
    assert not [thread for thread in set(threading.enumerate()) - others if thread.name == "io-loop"]
    until(lambda: descriptors() <= before, "no descriptor is left")


@pytest.fixture
def dial(loop, emulator):
    made = []

    def dial(first=0):
        made.append(Dialled(loop, emulator.url, first))
        return made[-1]

    yield dial
    for one in made:
        one.recognizer.close()


@pytest.fixture
def scripted():
    transport = ScriptedTransport()
    yield transport
    transport.close()


def begun(loop, transport):
    """A conversation on a scripted transport, started."""
    talk = conversation()
    loop.begin(transport, talk)
    transport.hears(STARTED)
    assert loop.wait(talk) is not None
    return talk


def test_many_streams_at_once_and_each_has_its_own_words(loop, dial):
    streams = [dial(first) for first in range(0, 40_000, 1000)]
    with ThreadPoolExecutor(len(streams)) as callers:
        exact = list(callers.map(lambda stream: stream.is_exact(0.02), streams))
    assert exact == [True] * 40
    figures = loop.figures()
    assert figures["loop_audio_bytes"] == 40 * BYTES
    # run-task, five chunks, finish-task; task-started, five partials, five sentences, task-finished
    assert figures["loop_messages"] == 40 * (7 + 12)
    assert (figures["loop_streams"], figures["loop_restarts"]) == (0, 0)
    assert figures["loop_lag_ms_max"] >= 0


def test_figures_of_a_loop_that_nobody_has_used(loop):
    assert repr(loop) == "<Loop 0 streams>"
    assert set(loop.figures().values()) == {0}
    loop.prod(conversation())
    loop.end(conversation())


def test_what_is_under_way_counts(loop, dial):
    stream = dial()
    events = stream.events(spacing=0.05)
    for event in events:
        if isinstance(event, Final):
            break
    assert loop.figures()["loop_streams"] == 1 and repr(loop) == "<Loop 1 streams>"
    assert loop.figures()["loop_audio_bytes"] >= 3200 and loop.figures()["loop_messages"] >= 4
    events.close()
    assert loop.figures()["loop_streams"] == 0


class Untouched:
    """In a socket's place: notes what it is asked."""

    def __init__(self):
        self.asked = []

    def __getattr__(self, name):
        self.asked.append(name)
        raise OSError(name)


def test_who_ends_while_data_flows_has_the_connection_to_himself(loop, dial):
    stream = dial()
    events = stream.events(spacing=0.01, size=10 * BYTES)
    for event in events:
        if isinstance(event, Final):
            break
    events.close()
    wire = stream.transport._wire
    sock, wire._sock = wire._sock, Untouched()
    assert stream.transport.is_open() and not stream.recognizer.is_reusable()
    assert dial(7).is_exact(0.01)  # the loop had many turns meanwhile
    spy, wire._sock = wire._sock, sock
    assert spy.asked == []


def test_what_was_not_read_is_passed_over_at_the_end(loop, scripted):
    talk = begun(loop, scripted)
    scripted.hears(final(), final())
    until(lambda: talk.news.qsize() >= 2, "there is something to read")
    loop.end(talk)
    assert talk.news.empty()
    loop.end(talk)


# ---------------------------------------------------------------------------------------------------- faults, death


def last(loop, talk):
    while not isinstance(news := loop.wait(talk), (Exception, Finished)):
        pass
    return news


def test_a_fault_in_one_stream_touches_no_other(loop, dial, scripted):
    fault = ValueError("a bug")
    talk = begun(loop, scripted)
    scripted.fails = fault
    streams = [dial(first) for first in (0, 5000, 9000)]
    with ThreadPoolExecutor(len(streams)) as callers:
        exact = callers.map(lambda stream: stream.is_exact(0.02), streams)
        talk.offer(Chunk(0.0, b"hush"))
        loop.prod(talk)
        assert last(loop, talk) is fault
        assert list(exact) == [True] * 3
    assert loop.figures()["loop_restarts"] == 0


def test_the_loop_s_death_fails_all_streams_retryably_and_the_next_one_starts_it_anew(loop, dial, scripted):
    talk = begun(loop, scripted)
    streams = [dial(first) for first in (0, 5000, 9000)]
    running = [stream.events(spacing=0.1, size=10 * BYTES) for stream in streams]
    for events in running:
        next(events)
    scripted.fails = SystemExit("in the thread of the loop")
    talk.offer(Chunk(0.0, b"hush"))
    loop.prod(talk)
    for stream, events in zip(streams, running, strict=True):
        with pytest.raises(ConnectionLost, match="the I/O loop ended") as caught:
            list(events)
        assert caught.value.retryable and not stream.recognizer.is_reusable()
    assert isinstance(last(loop, talk), ConnectionLost)
    before = loop.figures()
    assert dial(3).is_exact()
    after = loop.figures()
    assert (after["loop_restarts"], after["loop_streams"]) == (1, 0)
    assert after["loop_audio_bytes"] == before["loop_audio_bytes"] + BYTES
    assert after["loop_messages"] == before["loop_messages"] + 19


class Doomed(Loop):
    """Its reactors die before anybody can use them."""

    def _running(self):
        reactor = super()._running()
        reactor.stop(20)
        return reactor


def test_a_loop_that_cannot_be_kept_alive_is_given_up(scripted):
    loop = Doomed()
    with pytest.raises(ConnectionLost, match="cannot be started"):
        loop.begin(scripted, conversation())
    assert loop.figures()["loop_restarts"] == 3


def test_two_that_find_the_same_loop_dead_start_one(loop, scripted):
    begun(loop, scripted)
    dead = loop._reactor
    dead.stop(20)
    loop._forget(dead)
    loop._forget(dead)
    assert loop.figures()["loop_restarts"] == 1


class NoNews:
    """A queue into which nothing comes, however long one waits."""

    def get(self, timeout):
        raise queue.Empty


def test_a_loop_that_died_without_a_word_is_noticed(loop, scripted):
    talk: Any = conversation()
    talk.news = NoNews()
    with pytest.raises(ConnectionLost, match="is gone"):
        loop.wait(talk)
    begun(loop, scripted)
    loop._reactor.stop(20)
    with pytest.raises(ConnectionLost, match="is gone"):
        loop.wait(talk)


def test_a_loop_that_has_nothing_to_say_is_waited_for(loop, scripted):
    begun(loop, scripted)

    class Later:
        waited = False

        def get(self, timeout):
            if not self.waited:
                self.waited = True
                raise queue.Empty
            return "words"

    talk: Any = conversation()
    talk.news = Later()
    assert loop.wait(talk) == "words"


def test_a_loop_that_does_not_let_go_is_not_waited_for_for_ever(scripted):
    moments = iter(range(0, 10**9, 100))
    loop = Loop(lambda: float(next(moments)))
    talk = conversation()
    gate = Gate()
    scripted.on_turn = gate
    loop.begin(scripted, talk)
    gate.wait()
    with pytest.raises(queue.Empty):
        loop.end(talk)
    gate.open()
    loop.close(20)


def test_a_closed_loop_ends_its_streams_and_takes_no_more(loop, dial):
    stream = dial()
    events = stream.events(spacing=0.1, size=10 * BYTES)
    next(events)
    loop.close(20)
    with pytest.raises(ConnectionLost, match="the process stops"):
        list(events)
    with pytest.raises(ConnectionLost, match="the process stops"):
        next(dial().events())
    loop.close(20)
    Loop().close(20)


# ------------------------------------------------------------------------------------------------------------- fork


def in_a_child(do):
    """Do it in a forked child, which ends without a word and in bounded time; its exit status."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(30)
        try:
            os._exit(0 if do() else 1)
        except BaseException:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# From Python 3.12 on a fork beside other threads is warned of. The child uses nothing that they hold.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_starts_a_loop_of_its_own_and_the_parent_s_goes_on(loop, dial, emulator):
    parent = dial()
    events = parent.events(spacing=0.05)
    next(events)

    def child():
        exact = Dialled(loop, emulator.url, 4000).is_exact()
        figures = loop.figures()
        loop.close(20)
        return exact and figures["loop_audio_bytes"] == BYTES and figures["loop_restarts"] == 0

    assert in_a_child(child) == 0
    assert [event.sentence.text for event in events if isinstance(event, Final)] == sentences(0, BYTES)
    assert parent.recognizer.is_reusable()
    assert loop.figures()["loop_audio_bytes"] == BYTES


def test_what_a_child_finds_of_its_parent_s_it_leaves_alone(loop, dial, scripted):
    begun(loop, scripted)
    parent = loop._reactor
    loop._pid += 1  # as if this were another process, and it still had all threads
    assert dial().is_exact()
    assert loop._reactor is not parent and parent.is_alive()
    scripted.hears(final())
    until(lambda: not scripted.inbox, "its parent's goes on")
    parent.stop(20)


# ----------------------------------------------------------------------------------------------------------- gevent


GEVENT = """
    from gevent import monkey
    monkey.patch_all()
    import sys, threading, time
    from tests.worker.recognition.reactors import BYTES, Dialled
    from tests.chaos import sentences
    from worker.recognition import Loop

    url, count = sys.argv[1], 50
    loop, exact, over, ticks = Loop(), [], threading.Event(), []

    def tick():
        while not over.is_set():
            ticks.append(loop.figures()["loop_streams"])
            time.sleep(0.01)

    def one(first, spacing):
        exact.append(Dialled(loop, url, first).is_exact(spacing))

    # Some as fast as they can, some at a pace: neither may keep the others from running.
    streams = [threading.Thread(target=one, args=(1000 * n, 0.1 * (n % 2))) for n in range(count)]
    ticker = threading.Thread(target=tick)
    for thread in [ticker, *streams]:
        thread.start()
    for thread in streams:
        thread.join(60)
    over.set()
    ticker.join(10)
    assert exact == [True] * count, exact
    assert max(ticks) >= count // 2 and len(ticks) > 10, ticks
    figures = loop.figures()
    assert figures["loop_audio_bytes"] == count * BYTES and figures["loop_streams"] == 0
    loop.close(10)
"""


def test_greenlets_stream_like_threads_and_others_run_meanwhile(emulator):
    command = [sys.executable, "-c", textwrap.dedent(GEVENT), emulator.url]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr


def test_a_task_left_suspended_by_its_borrower_is_taken_back_when_the_recognizer_is_closed(loop, dial):
    stream, other = dial(), dial(7)
    events = stream.events(spacing=0.02)
    for event in events:
        if isinstance(event, Final):
            break
    assert loop.figures()["loop_streams"] == 1
    stream.recognizer.close()  # while `events` still stands in the midst of the task
    assert loop.figures()["loop_streams"] == 0 and stream.transport.fileno() == -1
    assert other.is_exact(0.01) and loop.figures()["loop_restarts"] == 0
    events.close()


def test_who_waits_beyond_the_deadline_is_told_so_whatever_the_loop_does(loop, scripted):
    talk: Any = begun(loop, scripted)
    talk.news, talk._deadline = NoNews(), -math.inf
    with pytest.raises(DeadlinePassed):
        loop.wait(talk)


class NoDescriptor:
    def __init__(self, clock):
        raise OSError("Too many open files")


class NoThread(Reactor):
    def start(self):
        raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("kind", [NoDescriptor, NoThread])
def test_a_loop_that_cannot_be_started_is_tried_again_by_the_next_stream(loop, scripted, dial, monkeypatch, kind):
    with monkeypatch.context() as patch:
        patch.setattr("worker.recognition.loop.Reactor", kind)
        with pytest.raises(ConnectionLost, match="the I/O loop cannot be"):
            loop.begin(scripted, conversation())
    assert dial(7).is_exact(0.01)


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="Linux alone has it")
def test_the_loop_is_no_batch_work_even_where_the_job_s_thread_is(loop, dial):
    def job():
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        return dial(7).is_exact(0.01)

    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(job).result(20)
    kinds = {os.sched_getscheduler(one.native_id or 0) for one in threading.enumerate() if one.name == "io-loop"}
    assert kinds == {os.SCHED_OTHER}


def test_where_there_is_no_such_thing_as_batch_work_there_is_nothing_to_choose(loop, dial, monkeypatch):
    monkeypatch.delattr(os, "SCHED_BATCH", raising=False)
    assert dial(7).is_exact(0.01)
