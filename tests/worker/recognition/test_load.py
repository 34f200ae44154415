import random
import threading

import pytest

from worker.recognition.load import LATE, WINDOW, Load, Strain

QUIET = {"late_share": 0, "blocked_share": 0, "throttled": 0, "late_ms_max": 0, "blocked_ms_max": 0}


@pytest.fixture
def load(clock):
    return Load(clock)


def send(load, count, *, late=0.0, blocked=0.0):
    """Chunks of a tenth of a second, told one by one."""
    for _ in range(count):
        strain = Strain()
        strain.sent(late=late, elapsed=0.1)
        if blocked:
            strain.hold(blocked)
        load.add(strain)


def test_the_thresholds():
    assert (WINDOW, LATE) == (30.0, 0.05)


def test_a_strain_gathers_what_its_chunks_met():
    strain = Strain()
    for late in (0.01, 0.07, 0.06):
        strain.sent(late=late, elapsed=0.1)
    strain.hold(0.3)
    strain.hold(0.2)
    assert (strain.chunks, strain.late, strain.most_late) == (3, 2, 0.07)
    assert [strain.seconds, strain.blocked, strain.most_blocked] == pytest.approx([0.3, 0.5, 0.3])


def test_what_a_stream_tells_at_once_counts_like_what_many_tell(load, clock):
    together, another = Strain(), Load(clock)
    for late in (0.0, 0.1, 0.02):
        send(another, 1, late=late)
        together.sent(late=late, elapsed=0.1)
    send(another, 1, blocked=0.2)
    together.sent(late=0.0, elapsed=0.1)
    together.hold(0.2)
    load.add(together)
    assert load.figures() == another.figures()


def test_what_was_told_is_not_changed_by_what_follows(load):
    strain = Strain()
    strain.sent(late=0.1, elapsed=0.1)
    load.add(strain)
    strain.sent(late=0.2, elapsed=0.1)
    assert load.figures()["late_ms_max"] == 100


def test_figures_of_others_are_told_with_them(clock):
    more: dict[str, int | float] = {"loop_streams": 3}
    load = Load(clock, more=lambda: more)
    assert load.figures() == QUIET | more
    assert load.limits() == ()


def test_without_streams_there_is_no_limit(load):
    assert load.figures() == QUIET
    assert load.limits() == ()
    assert repr(load) == "<Load limits none>"


def test_late_is_a_share_of_the_chunks_and_blocked_one_of_the_time(load):
    send(load, 997, late=0.0123)
    send(load, 1, late=0.0514)
    send(load, 2, blocked=1.5)
    assert load.figures() == {
        "late_share": 0.001,
        "blocked_share": 0.03,
        "throttled": 0,
        "late_ms_max": 51,
        "blocked_ms_max": 1500,
    }


@pytest.mark.parametrize(("seconds", "counts"), [(0.0, 0), (0.05, 0), (0.0501, 1), (30.0, 1)])
def test_a_chunk_is_late_above_fifty_milliseconds(load, seconds, counts):
    send(load, 1, late=seconds)
    assert load.figures()["late_share"] == counts


@pytest.mark.parametrize(("bad", "good", "tells"), [(49, 0, 0), (50, 0, 1), (1, 49, 1), (1, 99, 0), (2, 98, 1)])
def test_the_processor_is_the_limit_above_one_percent_of_at_least_fifty_chunks(load, bad, good, tells):
    send(load, bad, late=0.1)
    send(load, good)
    assert load.limits() == ("cpu",) * tells


@pytest.mark.parametrize(("blocked", "chunks", "tells"), [(4.0, 49, 0), (0.249, 50, 0), (0.26, 50, 1), (4.9, 1000, 0)])
def test_the_network_is_the_limit_above_five_percent_of_the_time_also_in_one_block(load, blocked, chunks, tells):
    send(load, 1, blocked=blocked)
    send(load, chunks - 1)
    assert load.limits() == ("bandwidth",) * tells


def test_one_refusal_of_the_quota_is_enough(load):
    load.throttled()
    assert load.figures() == QUIET | {"throttled": 1}
    assert load.limits() == ("quota",)


def test_limits_come_in_one_order(load):
    send(load, 50, late=0.1, blocked=0.1)
    load.throttled()
    assert load.limits() == ("quota", "bandwidth", "cpu")
    assert repr(load) == "<Load limits quota, bandwidth, cpu>"


@pytest.mark.parametrize("after", [0.0, 5.0, 24.9])
def test_what_was_within_the_window_counts(load, clock, after):
    load.throttled()
    clock.advance(after)
    send(load, 1)
    assert load.figures()["throttled"] == 1


@pytest.mark.parametrize("busy", [False, True])
def test_what_was_before_the_window_is_forgotten(load, clock, busy):
    load.throttled()
    send(load, 50, late=0.1, blocked=0.1)
    for _ in range(6):
        clock.advance(5.0)
        if busy:
            send(load, 1)
    assert load.figures() == QUIET
    assert load.limits() == ()


def test_a_bucket_is_dropped_as_a_whole(load, clock):
    clock.advance(2.5)
    load.throttled()
    clock.advance(2.5)
    load.throttled()
    clock.advance(25.0)
    assert load.figures()["throttled"] == 1


def test_the_window_is_the_sum_of_its_buckets(load, clock):
    generator = random.Random(7)
    worst = 0.0
    for _ in range(6):
        worst = max(worst, late := generator.random())
        send(load, 10, late=late)
        clock.advance(4.99)
    assert load.figures()["late_ms_max"] == round(1000 * worst)


def test_no_count_is_lost_between_threads(load):
    threads = [threading.Thread(target=send, args=(load, 5000), kwargs={"late": 0.1}) for _ in range(4)]
    threads.append(threading.Thread(target=lambda: [load.throttled() for _ in range(5000)]))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert load.figures()["throttled"] == 5000
    send(load, 20_000)
    assert load.figures()["late_share"] == 0.5
