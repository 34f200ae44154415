import logging
import threading

import pytest

from worker.pool.chores import Close, Crew, Open, Tend, Wake
from worker.pool.entry import Entry, Reason
from worker.pool.ticket import Ticket

PATIENCE = 10.0


class Notes:
    """Does a chore by writing down what and who; can raise, or be held up."""

    def __init__(self):
        self.done = []
        self.errors = []
        self.holding = threading.Event()
        self.hold_closes = threading.Event()
        self.hold_closes.set()
        self.changed = threading.Condition()

    def __call__(self, chore):
        if isinstance(chore, Close):
            self.holding.set()
            assert self.hold_closes.wait(PATIENCE)
        with self.changed:
            self.done.append((type(chore).__name__, threading.current_thread().name))
            self.changed.notify_all()
            if self.errors:
                raise self.errors.pop()

    def until(self, count):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.done) >= count, PATIENCE)
        return self.done


@pytest.fixture
def notes():
    return Notes()


@pytest.fixture
def make_crew(notes, clock):
    crews = []

    def make(openers=1):
        crews.append(Crew("thing", openers, notes, clock))
        return crews[-1]

    yield make
    notes.hold_closes.set()
    for crew in crews:
        crew.stop(PATIENCE)


def closing():
    return Close(Entry("old", born=0.0), Reason.MAX_IDLE)


def names():
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("thing-")}


@pytest.mark.parametrize("openers", [1, 2])
def test_no_thread_runs_before_the_start_and_none_after_the_stop(make_crew, openers):
    crew = make_crew(openers)
    assert names() == set()
    crew.start()
    crew.start()
    roles = {f"thing-{role}-{number + 1}" for role in ("opener", "closer") for number in range(openers)}
    assert names() == {"thing-keeper"} | roles
    crew.stop(PATIENCE)
    assert names() == set()


def test_threads_do_not_keep_the_process_alive(make_crew):
    make_crew().start()
    assert all(thread.daemon for thread in threading.enumerate() if thread.name in names())


def test_a_chore_taken_before_the_start_is_done_after_it(make_crew, notes):
    crew = make_crew()
    assert crew.take(Open())
    crew.start()
    assert notes.until(1) == [("Open", "thing-opener-1")]


def test_a_slow_close_holds_up_no_open(make_crew, notes):
    crew = make_crew()
    crew.start()
    notes.hold_closes.clear()
    crew.take(closing())
    crew.take(Open())
    assert notes.until(1) == [("Open", "thing-opener-1")]
    notes.hold_closes.set()
    assert notes.until(2)[1] == ("Close", "thing-closer-1")


def test_a_delayed_chore_is_done_when_it_is_due_and_not_before(make_crew, notes, clock):
    crew = make_crew()
    crew.start()
    crew.take(Open(delay=5.0))
    crew.take(Open())
    assert len(notes.until(1)) == 1
    clock.advance(5.0)
    crew.take(Open())  # also makes it look at the clock
    assert len(notes.until(3)) == 3


def test_waking_is_left_to_whoever_decided(make_crew):
    assert not make_crew().take(Wake(Ticket()))


@pytest.mark.parametrize("error", [ValueError("secret"), SystemExit("secret")], ids=["ordinary", "of the base class"])
def test_a_thread_survives_what_a_chore_raises_and_logs_its_type_only(make_crew, notes, caplog, error):
    crew = make_crew()
    crew.start()
    notes.errors.append(error)
    with caplog.at_level(logging.INFO, logger="worker.pool"):
        crew.take(Open())
        crew.take(Open())
        notes.until(2)
    assert caplog.messages == [f"Open failed: {type(error).__name__}"]
    assert "secret" not in caplog.text


def test_stopping_does_what_is_queued_even_before_it_is_due(make_crew, notes):
    crew = make_crew()
    crew.start()
    crew.take(Tend(delay=60.0))
    crew.take(Open(delay=60.0))
    crew.take(closing())
    crew.stop(PATIENCE)
    assert sorted(name for name, _ in notes.done) == ["Close", "Open", "Tend"]


def test_all_threads_help_to_finish(make_crew, notes):
    crew = make_crew(openers=1)
    crew.start()
    notes.hold_closes.clear()
    crew.take(closing())
    crew.take(closing())
    stopper = threading.Thread(target=crew.stop, args=(PATIENCE,))
    stopper.start()
    notes.hold_closes.set()
    stopper.join(PATIENCE)
    assert len(notes.done) == 2


def test_a_stopped_crew_takes_nothing_more(make_crew):
    crew = make_crew()
    crew.stop(0)
    assert not crew.take(Open())


def test_stopping_does_not_wait_longer_than_it_may(make_crew, notes):
    crew = make_crew()
    crew.start()
    notes.hold_closes.clear()
    crew.take(closing())
    assert notes.holding.wait(PATIENCE)
    crew.stop(0)
    assert "thing-keeper" in names()


def test_a_thread_of_the_crew_may_stop_it(notes, clock):
    crew = Crew("thing", 1, lambda chore: crew.stop(PATIENCE), clock)
    crew.start()
    threads = [thread for thread in threading.enumerate() if thread.name in names()]
    crew.take(Open())
    for thread in threads:
        thread.join(PATIENCE)
    assert names() == set()
