import logging
import threading

import pytest

from worker.pool.chores import Close, Open, Report, Wake
from worker.pool.crew import Crew
from worker.pool.entry import Entry, Reason
from worker.pool.ticket import Ticket

PATIENCE = 10.0
LONG = 1000.0  # seconds that the keeper is told to wait: it comes earlier only if it is hurried


class Notes:
    """Does a chore by writing down what and who; can raise, or be held up. Looks by counting."""

    def __init__(self):
        self.done = []
        self.errors = []
        self.holding = threading.Event()
        self.hold_closes = threading.Event()
        self.hold_closes.set()
        self.looks = 0
        self.pauses = []  # what the next looks answer, or raise
        self.changed = threading.Condition()

    def do(self, chore):
        if isinstance(chore, Close):
            self.holding.set()
            assert self.hold_closes.wait(PATIENCE)
        with self.changed:
            self.done.append((type(chore).__name__, threading.current_thread().name))
            self.changed.notify_all()
            if self.errors:
                raise self.errors.pop()

    def look(self):
        with self.changed:
            self.looks += 1
            self.changed.notify_all()
            pause = self.pauses.pop(0) if self.pauses else LONG
        if isinstance(pause, BaseException):
            raise pause
        return pause

    def until(self, count):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.done) >= count, PATIENCE)
        return self.done

    def until_looked(self, times):
        with self.changed:
            assert self.changed.wait_for(lambda: self.looks >= times, PATIENCE)


@pytest.fixture
def notes():
    return Notes()


@pytest.fixture
def make_crew(notes):
    crews = []

    def make(openers=0):
        """A crew, started with so many openers unless there are none."""
        crews.append(Crew("thing", notes.do, notes.look))
        if openers:
            crews[-1].start(openers)
        return crews[-1]

    yield make
    notes.hold_closes.set()
    for crew in crews:
        crew.stop(PATIENCE)


def closing():
    return Close(Entry("old", born=0.0), Reason.MAX_IDLE)


def names():
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("thing-")}


def roles(openers):
    return {f"thing-{role}-{number + 1}" for role in ("opener", "closer") for number in range(openers)}


# -- threads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("openers", [1, 2])
def test_no_thread_runs_before_the_start_and_none_after_the_stop(make_crew, openers):
    crew = make_crew()
    assert names() == set()
    crew.start(openers)
    crew.start(openers)
    assert names() == {"thing-keeper"} | roles(openers)
    crew.stop(PATIENCE)
    assert names() == set()


@pytest.mark.parametrize(("openers", "then"), [(1, 2), (2, 2), (2, 1)])
def test_a_second_start_hires_only_those_who_are_missing(make_crew, openers, then):
    crew = make_crew(openers)
    before = set(threading.enumerate())
    crew.start(then)
    assert names() == {"thing-keeper"} | roles(max(openers, then))
    assert before <= set(threading.enumerate())


def test_threads_do_not_keep_the_process_alive(make_crew):
    make_crew(openers=1)
    assert all(thread.daemon for thread in threading.enumerate() if thread.name in names())


@pytest.fixture
def no_more_threads(monkeypatch):
    """The system refuses one more thread, once, when a closer is to be started."""
    start = threading.Thread.start

    def refuse_once(thread):
        if thread.name == "thing-closer-1":
            monkeypatch.setattr(threading.Thread, "start", start)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_once)


@pytest.mark.usefixtures("no_more_threads")
def test_a_thread_that_could_not_be_started_is_started_by_the_next_call(make_crew):
    crew = make_crew()
    with pytest.raises(RuntimeError):
        crew.start(2)
    crew.start(2)
    assert names() == {"thing-keeper"} | roles(2)


@pytest.mark.usefixtures("no_more_threads")
def test_a_crew_can_be_stopped_though_a_thread_could_not_be_started(make_crew):
    crew = make_crew()
    with pytest.raises(RuntimeError):
        crew.start(1)
    crew.stop(PATIENCE)
    assert names() == set()


# -- chores ------------------------------------------------------------------------------------------------------------


def test_a_chore_taken_before_the_start_is_done_after_it(make_crew, notes):
    crew = make_crew()
    assert crew.take(Open())
    crew.start(1)
    assert notes.until(1) == [("Open", "thing-opener-1")]


def test_a_slow_close_holds_up_no_open(make_crew, notes):
    crew = make_crew(openers=1)
    notes.hold_closes.clear()
    crew.take(closing())
    crew.take(Open())
    assert notes.until(1) == [("Open", "thing-opener-1")]
    notes.hold_closes.set()
    assert notes.until(2)[1] == ("Close", "thing-closer-1")


@pytest.mark.parametrize("chore", [Wake(Ticket()), Report(Entry("kept", born=0.0), 1.0)], ids=["wake", "report"])
def test_waking_and_reporting_are_left_to_whoever_decided(make_crew, chore):
    assert not make_crew().take(chore)


@pytest.mark.parametrize("error", [ValueError("secret"), SystemExit("secret")], ids=["ordinary", "of the base class"])
def test_a_thread_survives_what_a_chore_raises_and_logs_its_type_only(make_crew, notes, caplog, error):
    crew = make_crew(openers=1)
    notes.errors.append(error)
    with caplog.at_level(logging.INFO, logger="worker.pool"):
        crew.take(Open())
        crew.take(Open())
        notes.until(2)
    assert caplog.messages == [f"thing: a chore failed: {type(error).__name__}"]
    assert "secret" not in caplog.text


# -- the keeper --------------------------------------------------------------------------------------------------------


def test_the_keeper_looks_at_once_and_again_when_its_pause_is_over(make_crew, notes):
    notes.pauses += [0.001, 0.002, -1.0]  # what is overdue is not slept for, nor is it spun for
    make_crew(openers=1)
    notes.until_looked(4)
    assert notes.looks == 4


def test_the_keeper_can_be_hurried(make_crew, notes):
    crew = make_crew(openers=1)
    for looks in (1, 2):
        notes.until_looked(looks)
        crew.hurry()
    notes.until_looked(3)


def test_a_hurry_during_a_look_is_not_lost(make_crew, notes):
    crew = make_crew()
    look = notes.look

    def hurried():
        if notes.looks == 0:
            crew.hurry()
        return look()

    crew._look = hurried
    crew.start(1)
    notes.until_looked(2)


def test_the_keeper_survives_a_look_that_raises_and_looks_again(make_crew, notes, caplog):
    notes.pauses += [ValueError("secret"), SystemExit("secret")]
    crew = make_crew(openers=1)
    for looks in (1, 2):
        notes.until_looked(looks)
        crew.hurry()  # it would look again by itself, but after a while
    notes.until_looked(3)
    assert caplog.messages == ["thing: a chore failed: ValueError", "thing: a chore failed: SystemExit"]


def test_the_keeper_does_not_hold_up_the_end(make_crew, notes):
    crew = make_crew(openers=1)
    notes.until_looked(1)
    crew.stop(PATIENCE)
    assert names() == set()


# -- stopping ----------------------------------------------------------------------------------------------------------


def test_all_threads_help_to_finish(make_crew, notes):
    crew = make_crew(openers=1)
    notes.hold_closes.clear()
    crew.take(closing())
    crew.take(closing())
    stopper = threading.Thread(target=crew.stop, args=(PATIENCE,))
    stopper.start()
    notes.hold_closes.set()
    stopper.join(PATIENCE)
    assert len(notes.done) == 2


def test_stopping_does_what_is_queued_even_where_nobody_had_begun(make_crew, notes):
    crew = make_crew(openers=1)
    notes.hold_closes.clear()
    crew.take(closing())
    assert notes.holding.wait(PATIENCE)
    for chore in (closing(), closing(), Open()):
        crew.take(chore)
    notes.hold_closes.set()
    crew.stop(PATIENCE)
    assert sorted(name for name, _ in notes.done) == ["Close", "Close", "Close", "Open"]


def test_a_stopped_crew_takes_nothing_more(make_crew):
    crew = make_crew()
    crew.stop(0)
    assert not crew.take(Open())


def test_stopping_does_not_wait_longer_than_it_may(make_crew, notes):
    crew = make_crew(openers=1)
    notes.hold_closes.clear()
    crew.take(closing())
    assert notes.holding.wait(PATIENCE)
    crew.stop(0)
    assert "thing-closer-1" in names()


def test_a_thread_of_the_crew_may_stop_it(notes):
    crew = Crew("thing", lambda chore: crew.stop(PATIENCE), notes.look)
    crew.start(1)
    threads = [thread for thread in threading.enumerate() if thread.name in names()]
    crew.take(Open())
    for thread in threads:
        thread.join(PATIENCE)
    assert names() == set()
