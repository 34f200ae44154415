import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from emulator.stack import free_port
from worker import beat, stops
from worker.beat import Beat, impatient
from worker.stops import Cancelled, Drained, LeaseLost, Stop, Stopped, Stops

PATIENCE = 10.0
"""Seconds for what another thread does; never reached unless something is broken."""

Eventually = Callable[..., None]


def why(stop: Stop) -> Stopped | None:
    try:
        stop.check()
    except Stopped as error:
        return error
    return None


# -- one job's ear -----------------------------------------------------------------------------------------------------


def test_who_was_not_asked_goes_on() -> None:
    stop = Stop()
    stop.check()
    stop.wait(0)
    with stop.breaking(lambda why: None):
        stop.check()
    assert repr(stop) == "<Stop not asked>"


@pytest.mark.parametrize("at_once", [True, False])
def test_who_was_asked_is_told_why_wherever_he_looks(at_once: bool) -> None:
    stop, reason = Stop(), Drained()
    stop.ask(reason, at_once=at_once)
    assert why(stop) is reason and why(stop) is reason
    with pytest.raises(Drained):
        stop.wait(PATIENCE)
    assert repr(stop) == "<Stop Drained>"


SOFT, SOFT_TOO, URGENT, URGENT_TOO = Drained(), Drained(), Cancelled(), LeaseLost()


@pytest.mark.parametrize(
    ("asked", "last"),
    [
        ([SOFT, SOFT_TOO], SOFT),
        ([SOFT, URGENT], URGENT),
        ([URGENT, SOFT], URGENT),
        ([URGENT, URGENT_TOO], URGENT),
        ([SOFT, URGENT, SOFT_TOO, URGENT_TOO], URGENT),
    ],
)
def test_the_more_urgent_has_the_last_word(asked: list[Stopped], last: Stopped) -> None:
    stop = Stop()
    for one in asked:
        stop.ask(one, at_once=one in (URGENT, URGENT_TOO))
    assert why(stop) is last


@pytest.mark.parametrize("at_once", [True, False])
def test_a_wait_ends_as_soon_as_another_thread_asks(at_once: bool) -> None:
    stop, waits, woken = Stop(), threading.Event(), threading.Event()

    def job() -> None:
        waits.set()
        with pytest.raises(Cancelled):
            stop.wait(10 * PATIENCE)
        woken.set()

    thread = threading.Thread(target=job, daemon=True)
    thread.start()
    assert waits.wait(PATIENCE)
    stop.ask(Cancelled(), at_once=at_once)
    assert woken.wait(PATIENCE)
    thread.join(PATIENCE)


# -- parts of a job ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_asked_first", [True, False])
@pytest.mark.parametrize("at_once", [True, False])
def test_the_parts_of_a_job_hear_what_it_is_asked(is_asked_first: bool, at_once: bool) -> None:
    stop, parts, reason = Stop(), [Stop(), Stop()], Drained()
    if is_asked_first:
        stop.ask(reason, at_once=at_once)
    with stop.heard_by(parts):
        if not is_asked_first:
            stop.ask(reason, at_once=at_once)
        assert [why(part) for part in parts] == [reason, reason]
        broken: list[Exception] = []
        if not at_once:
            with parts[0].breaking(broken.append):
                stop.ask(URGENT)
            assert broken == [URGENT] and why(parts[1]) is URGENT


def test_what_a_part_is_asked_the_job_does_not_hear_nor_after_the_block_the_part() -> None:
    stop, part = Stop(), Stop()
    with stop.heard_by([part]):
        pass
    stop.ask(Drained())
    assert why(part) is None
    other = Stop()
    with other.heard_by([part]):
        part.ask(Cancelled())
    assert why(other) is None


def test_a_shaken_job_shakes_its_parts() -> None:
    stop, part = Stop(), Stop()
    broken: list[Exception] = []
    error = RuntimeError()
    with stop.heard_by([part]), part.breaking(broken.append):
        stop.shake(error)
    assert broken == [error] and why(part) is None


# -- breaking off a wait -----------------------------------------------------------------------------------------------


def test_a_wait_is_broken_off_by_why_the_job_is_to_stop() -> None:
    stop, reason = Stop(), Cancelled()
    broken: list[Exception] = []
    with stop.breaking(broken.append):
        stop.ask(reason)
    assert broken == [reason]


@pytest.mark.parametrize("again", [Cancelled(), LeaseLost()])
@pytest.mark.parametrize("at_once", [True, False])
def test_who_goes_on_all_the_same_is_broken_off_again_by_the_same_reason(again: Stopped, at_once: bool) -> None:
    """His wait was perhaps just about to begin."""
    stop, reason = Stop(), Cancelled()
    broken: list[Exception] = []
    with stop.breaking(broken.append):
        stop.ask(reason)
        stop.ask(again, at_once=at_once)
    assert broken == [reason, reason] and why(stop) is reason


def test_who_is_asked_softly_comes_to_the_end_of_his_sentence_unless_it_gets_urgent() -> None:
    stop = Stop()
    broken: list[Exception] = []
    with stop.breaking(broken.append):
        stop.ask(Drained(), at_once=False)
        stop.ask(Drained(), at_once=False)
        assert broken == []
        stop.ask(urgent := Drained(), at_once=True)
        assert broken == [urgent]


def test_a_wait_begins_although_a_soft_wish_is_known_and_not_after_an_urgent_one() -> None:
    stop = Stop()
    stop.ask(Drained(), at_once=False)
    broken: list[Exception] = []
    with stop.breaking(broken.append):
        pass
    stop.ask(Cancelled())
    with pytest.raises(Cancelled), stop.breaking(broken.append):
        pytest.fail("it began")
    assert broken == []


@pytest.mark.parametrize("act", [lambda stop: stop.ask(Cancelled()), lambda stop: stop.shake(OSError())])
def test_after_the_wait_nothing_is_broken_off(act: Callable[[Stop], None]) -> None:
    stop = Stop()
    broken: list[Exception] = []
    with pytest.raises(ZeroDivisionError), stop.breaking(broken.append):
        raise ZeroDivisionError
    act(stop)
    assert broken == []


def test_a_job_can_be_shaken_and_go_on() -> None:
    stop, error = Stop(), OSError("stands still")
    broken: list[Exception] = []
    with stop.breaking(broken.append):
        stop.shake(error)
        stop.shake(error)
    assert broken == [error, error] and why(stop) is None


def test_however_threads_race_a_wait_is_never_broken_off_after_it_has_ended() -> None:
    late: list[int] = []
    shaken = 0

    def race(number: int) -> None:
        """A job whose wait ends while two others shake it and ask it to stop."""
        nonlocal shaken
        stop, inside, ready = Stop(), True, threading.Barrier(3)

        def act(why: Exception) -> None:
            nonlocal shaken
            shaken += 1
            if not inside:
                late.append(number)

        def shake() -> None:
            ready.wait(PATIENCE)
            for _ in range(20):
                stop.shake(OSError())

        def ask() -> None:
            ready.wait(PATIENCE)
            stop.ask(Cancelled())

        threads = [threading.Thread(target=target, daemon=True) for target in (shake, ask)]
        for thread in threads:
            thread.start()
        with stop.breaking(act):
            ready.wait(PATIENCE)
            stop.shake(OSError())
        inside = False
        for thread in threads:
            thread.join(PATIENCE)

    for number in range(200):
        race(number)
    assert late == [] and shaken >= 200


@pytest.mark.parametrize("how", ["ask", "shake"])
def test_the_end_of_a_wait_waits_for_a_call_under_way(how: str) -> None:
    stop, called, go_on, ended = Stop(), threading.Event(), threading.Event(), threading.Event()

    def act(why: Exception) -> None:
        called.set()
        assert go_on.wait(PATIENCE)

    breaking_off = threading.Thread(target=getattr(stop, how), args=(Cancelled(),), daemon=True)

    def job() -> None:
        with stop.breaking(act):
            breaking_off.start()
            assert called.wait(PATIENCE)
        ended.set()

    working = threading.Thread(target=job, daemon=True)
    working.start()
    assert called.wait(PATIENCE) and not ended.wait(0.05)
    go_on.set()
    assert ended.wait(PATIENCE)
    breaking_off.join(PATIENCE)
    working.join(PATIENCE)


# -- all jobs of a process ---------------------------------------------------------------------------------------------


class Ending:
    """For how many seconds the worker has been ending."""

    def __init__(self) -> None:
        self.seconds: float | None = None

    def __call__(self) -> float | None:
        return self.seconds


@pytest.fixture
def ending() -> Ending:
    return Ending()


@pytest.fixture
def ears(ending: Ending) -> Stops:
    return Stops(ending, patience=15.0)


def ask(ears: Stops, client: redis.Redis) -> list[str]:
    """One beat: the keys that were looked for."""
    call = ears.tell()
    if call is None:
        return []
    ears.told(call.run(client))
    return [str(key) for key in call.given[1:]]


def test_a_process_without_jobs_asks_nothing(ears: Stops, ending: Ending) -> None:
    ending.seconds = 1.0
    assert ears.tell() is None and repr(ears) == "<Stops 0 jobs>"


def test_whose_key_appears_is_cancelled_and_no_other(ears: Stops, client: redis.Redis) -> None:
    jobs = [Stop() for _ in range(5)]
    with ExitStack() as running:
        for number, stop in enumerate(jobs):
            running.enter_context(ears.listening(f"c{number}", stop))
        assert repr(ears) == "<Stops 5 jobs>"
        assert ask(ears, client) == ["c0", "c1", "c2", "c3", "c4"] and not any(map(why, jobs))
        client.set("c1", "")
        client.set("c4", "1")
        ask(ears, client)
    assert [type(why(stop)) for stop in jobs] == [type(None), Cancelled, type(None), type(None), Cancelled]
    assert ears.tell() is None


def test_a_job_that_ended_while_redis_was_asked_is_not_missed(ears: Stops, client: redis.Redis) -> None:
    client.set("c", "1")
    gone, successor = Stop(), Stop()
    with ears.listening("c", gone):
        call = ears.tell()
    assert call is not None
    ears.told(call.run(client))
    assert why(gone) is None
    with ears.listening("c", successor):
        ears.told(call.run(client))  # it is the same job, here again
    assert isinstance(why(successor), Cancelled)


def test_who_comes_back_under_the_same_key_is_not_forgotten_when_the_first_leaves(
    ears: Stops, client: redis.Redis
) -> None:
    client.set("c", "1")
    first, second = ears.listening("c", Stop()), ears.listening("c", stop := Stop())
    first.__enter__()
    with second:
        first.__exit__(None, None, None)
        ask(ears, client)
        assert isinstance(why(stop), Cancelled)


@pytest.mark.parametrize("most", [1, 2, 3, 4])
def test_many_jobs_take_turns_and_each_is_looked_at(
    ears: Stops, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    assert stops.MOST == 2000
    monkeypatch.setattr(stops, "MOST", most)
    jobs = {f"c{number}": Stop() for number in range(5)}
    client.mset(dict.fromkeys(jobs, "1"))
    with ExitStack() as running:
        for key, stop in jobs.items():
            running.enter_context(ears.listening(key, stop))
        turns = [ask(ears, client) for _ in range(2 * -(-5 // most))]
    assert all(len(turn) <= most for turn in turns)
    assert sorted(key for turn in turns for key in turn) == sorted([*jobs, *jobs])
    assert all(isinstance(why(stop), Cancelled) for stop in jobs.values())


def test_when_some_have_left_the_turns_begin_anew(
    ears: Stops, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stops, "MOST", 2)
    with ears.listening("a", Stop()):
        with ears.listening("b", Stop()), ears.listening("c", Stop()):
            assert ask(ears, client) == ["a", "b"]
        assert ask(ears, client) == ["a"] and ask(ears, client) == ["a"]


def test_more_jobs_than_one_command_takes_are_asked_for_in_two_beats(ears: Stops, client: redis.Redis) -> None:
    jobs = [Stop() for _ in range(stops.MOST + 1)]
    client.set(f"c{stops.MOST}", "1")
    with ExitStack() as running:
        for number, stop in enumerate(jobs):
            running.enter_context(ears.listening(f"c{number}", stop))
        assert len(ask(ears, client)) == stops.MOST and not any(map(why, jobs))
        assert len(ask(ears, client)) == 1 and isinstance(why(jobs[-1]), Cancelled)


# -- the end of the worker ---------------------------------------------------------------------------------------------


def test_when_the_worker_ends_its_jobs_may_finish_their_sentence_for_a_while(
    ears: Stops, ending: Ending, client: redis.Redis
) -> None:
    stop = Stop()
    broken: list[Exception] = []
    with ears.listening("c", stop), stop.breaking(broken.append):
        ask(ears, client)
        assert why(stop) is None
        ending.seconds = 0.0
        ask(ears, client)
        assert isinstance(why(stop), Drained) and broken == []
        ending.seconds = 14.9
        ask(ears, client)
        assert broken == []
        ending.seconds = 15.0
        for times in (1, 2):
            ask(ears, client)
            assert [type(error) for error in broken] == [Drained] * times


@pytest.mark.parametrize(("seconds", "begins"), [(0.0, True), (14.9, True), (15.0, False), (99.0, False)])
def test_who_begins_while_the_worker_ends_is_told_at_once(
    ears: Stops, ending: Ending, seconds: float, begins: bool
) -> None:
    ending.seconds = seconds
    stop = Stop()
    with ears.listening("c", stop):
        assert isinstance(why(stop), Drained)
        try:
            with stop.breaking(lambda why: None):
                assert begins
        except Drained:
            assert not begins


def test_a_cancelled_job_is_cancelled_though_the_worker_ends(ears: Stops, ending: Ending, client: redis.Redis) -> None:
    stop = Stop()
    client.set("c", "1")
    ending.seconds = 1.0
    with ears.listening("c", stop):
        ask(ears, client)
    assert isinstance(why(stop), Cancelled)


# -- carried by a heartbeat --------------------------------------------------------------------------------------------


@pytest.fixture
def beating(valkey: str, ears: Stops, monkeypatch: pytest.MonkeyPatch) -> Iterator[Beat]:
    assert beat.BEAT_EVERY == 1.0
    monkeypatch.setattr(beat, "BEAT_EVERY", 0.01)
    made = Beat(impatient(valkey))
    made.carry(ears)
    yield made
    made.stop()
    made.join(PATIENCE)


def test_a_job_that_waits_is_woken_by_its_key(ears: Stops, client: redis.Redis, beating: Beat) -> None:
    stop, other = Stop(), Stop()
    with ears.listening("c", stop), ears.listening("d", other):
        client.set("c", "1")
        with pytest.raises(Cancelled):
            stop.wait(PATIENCE)
    assert why(other) is None


def test_a_job_that_waits_is_woken_by_the_worker_s_end(
    ears: Stops, ending: Ending, beating: Beat, eventually: Eventually
) -> None:
    stop = Stop()
    broken: list[Any] = []
    with ears.listening("c", stop), stop.breaking(broken.append):
        ending.seconds = 0.0
        with pytest.raises(Drained):
            stop.wait(PATIENCE)
        ending.seconds = 15.0
        eventually(lambda: broken, "it is broken off")


def test_a_redis_that_is_away_does_not_keep_a_worker_from_ending(ears: Stops, ending: Ending, beating: Beat) -> None:
    beating._redis = impatient(f"redis://127.0.0.1:{free_port()}/0")
    stop = Stop()
    with ears.listening("c", stop), pytest.raises(Drained):
        ending.seconds = 99.0
        stop.wait(PATIENCE)
