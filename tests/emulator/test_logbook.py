import hashlib
import threading

import pytest

from emulator.logbook import History, Logbook, TaskRecord
from tests.emulator.client import counter


def record(book: Logbook, connection: int = 1) -> TaskRecord:
    return book.task_asked(connection, "t", "m", {})


def test_connections_and_streams_are_counted_now_and_at_most():
    book = Logbook()
    assert [book.connection_opened(), book.connection_opened()] == [1, 2]
    book.connection_closed()
    for now in (0.0, 0.5, 1.2):
        book.stream_opened(now)
    book.stream_closed()
    assert (book.connections, book.connections_open, book.connections_max) == (2, 1, 2)
    assert (book.streams, book.streams_open, book.streams_max, book.starts.most) == (3, 2, 3, 2)
    assert repr(book) == "<Logbook connections 2 (1 open), streams 3 (2 open, max 3) | rejected 0, errors 0>"


def test_clearing_keeps_what_is_open():
    book = Logbook()
    book.connection_opened()
    book.stream_opened(0.0)
    book.generation_asked(is_first=True)
    book.protocol_error("x")
    book.clear()
    assert (book.connections, book.connections_open, book.streams_max) == (0, 1, 1)
    assert (book.generation_connections, book.generations_open, book.generations_max) == (0, 1, 1)
    assert not book.errors


def test_events_are_counted_for_each_second_since_the_book_was_made():
    times = iter((100.0, 100.1, 101.0))
    book = Logbook(clock=lambda: next(times))
    assert book.summary()["per_second"] == {"upgrades": [], "starts": [], "refused": []}
    book.connection_opened()
    book.upgrade_rejected(429)
    for now in (100.9, 103.0, 103.99):
        book.stream_opened(now)
    book.stream_refused(101.5)
    summary = book.summary()
    assert summary["per_second"] == {"upgrades": [1, 1, 0, 0], "starts": [1, 0, 0, 2], "refused": [0, 1, 0, 0]}
    assert (summary["refused"], summary["streams"], summary["streams_open"]) == (1, 3, 3)


def test_clearing_begins_a_new_history():
    times = iter((100.0, 200.0))
    book = Logbook(clock=lambda: next(times))
    book.stream_refused(150.0)
    book.clear()
    book.stream_opened(199.9)
    book.stream_opened(200.5)
    assert book.summary()["per_second"] == {"upgrades": [0], "starts": [2], "refused": [0]}
    assert book.summary()["refused"] == 0


def test_a_history_is_an_hour_long():
    history = History(10.0, "a")
    for now in (10.0, 3608.9, 3609.0, 3610.0, 99999.0):
        history.note("a", now)
    counts = history.to_wire()["a"]
    assert (len(counts), counts[0], counts[-2], counts[-1]) == (3600, 1, 1, 3)


def test_the_summary_counts_outcomes_and_tasks_per_connection():
    book = Logbook()
    for connection in (1, 1, 2):
        book.task_ended(record(book, connection), "finished")
    book.task_ended(record(book, 3), "failed", "X")
    book.upgrade_rejected(401)
    summary = book.summary()
    assert summary["outcomes"] == {"finished": 3, "failed": 1}
    assert summary["tasks_per_connection"] == {"1": 2, "2": 1, "3": 1}
    assert summary["rejected"] == {"401": 1}


def test_audio_is_known_by_size_and_digest_and_kept_only_if_asked():
    plain, keeping = record(Logbook()), record(Logbook(keep_audio=True))
    for each in (plain, keeping):
        each.took(b"abc", 1.0)
        each.took(b"d", 2.0)
    assert (plain.audio_bytes, plain.chunks) == (4, [(1.0, 3), (2.0, 1)])
    assert plain.sha256 == hashlib.sha256(b"abcd").hexdigest() == plain.to_wire()["sha256"]
    assert (plain.audio, keeping.audio) == (b"", b"abcd")


def test_the_detail_of_chunks_is_bounded():
    each = record(Logbook())
    for _ in range(1001):
        each.took(b"x", 0.0)
    assert (len(each.chunks), each.audio_bytes) == (1000, 1001)


@pytest.mark.parametrize(
    ("parts", "good"),
    [
        ([counter(10), counter(5, first=11)], True),
        ([counter(10, first=65530), b"", counter(2, first=4)], True),
        ([counter(10), counter(5, first=12)], False),
        ([counter(10), counter(10)], False),
        ([b"\0\0\0\0"], False),
    ],
)
def test_the_counter_is_followed_over_chunks(parts, good):
    each = record(Logbook())
    for part in parts:
        each.heard(part)
    assert each.counter_ok is good


def test_first_and_last_sample_are_noted():
    each = record(Logbook())
    each.heard(counter(10, first=7))
    assert (each.first_sample, each.last_sample) == (7, 16)


def test_waiting_ends_with_the_condition_or_the_time():
    book = Logbook()
    threading.Timer(0.01, book.tcp_opened).start()
    assert book.wait_until(lambda it: it.tcp == 1)
    assert not book.wait_until(lambda it: it.tcp == 2, timeout=0.01)


def test_old_tasks_lose_their_detail_and_very_old_ones_are_forgotten():
    book = Logbook()
    for _ in range(10_001):
        record(book).took(b"x", 0.0)
    tasks = book.tasks
    assert len(tasks) == 10_000
    assert [len(task.chunks) for task in tasks[-1001:-998]] == [0, 1, 1]
