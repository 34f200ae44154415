import threading
from typing import Any

import pytest
import redis

from tasks.errors import Unavailable
from tasks.job import checkpoint as module
from tasks.job.checkpoint import BATCH, KEEP, Batch, Checkpoint
from tasks.job.lease import GONE, OK, Lease
from tasks.job.record import JobRecord
from tasks.job.view import JobView
from tests.tasks.job.conftest import KEYS, LEASE, TTL, said

ALL = tuple(KEYS)


@pytest.fixture
def checkpoint() -> Checkpoint:
    return Checkpoint(Lease(ALL, seconds=LEASE, ttl=TTL))


def full(checkpoint: Checkpoint, sentences: int) -> Checkpoint:
    for number in range(sentences):
        checkpoint.add(said(number))
    return checkpoint


def following(checkpoint: Checkpoint) -> Batch:
    batch = checkpoint.next()
    assert batch is not None
    return batch


def what(batch: Batch) -> tuple[int, int, int]:
    """The number of the first sentence, how many there are, and how many the call carries."""
    return batch.first, batch.size, len(batch.call.given) - 1 - len(ALL) - 4


# -- bookkeeping -------------------------------------------------------------------------------------------------------


def test_nothing_waits_at_the_beginning(checkpoint: Checkpoint) -> None:
    assert (checkpoint.count, checkpoint.end_ms(), checkpoint.sentences, checkpoint.is_late) == (0, None, [], False)
    assert checkpoint.next() is None


def test_a_sentence_waits_until_redis_has_it(checkpoint: Checkpoint) -> None:
    full(checkpoint, 1)
    assert repr(checkpoint) == "<Checkpoint 1 sentences, unsaved 1>"
    batch = following(checkpoint)
    assert what(batch) == (0, 1, 1) and checkpoint.next() == batch
    checkpoint.saved(batch)
    assert checkpoint.next() is None and checkpoint.sentences == [said(0)]
    checkpoint.add(said(1))
    assert what(following(checkpoint)) == (1, 1, 1) and (checkpoint.count, checkpoint.end_ms()) == (2, 180)


@pytest.mark.parametrize(
    ("waiting", "sizes"),
    [
        (BATCH - 1, [BATCH - 1]),
        (BATCH, [BATCH]),
        (BATCH + 1, [BATCH, 1]),
        (2 * BATCH + 1, [BATCH, BATCH, 1]),
    ],
)
def test_many_are_written_in_batches(checkpoint: Checkpoint, waiting: int, sizes: list[int]) -> None:
    assert BATCH == 200
    full(checkpoint, waiting)
    found = []
    while (batch := checkpoint.next()) is not None:
        found.append(what(batch))
        checkpoint.saved(batch)
    assert found == [(sum(sizes[:n]), size, size) for n, size in enumerate(sizes)]


def test_what_redis_has_is_no_news_to_it(checkpoint: Checkpoint) -> None:
    checkpoint.load([said(0), said(1)])
    assert checkpoint.next() is None
    assert (checkpoint.count, checkpoint.end_ms(), checkpoint.sentences) == (2, 180, [said(0), said(1)])
    checkpoint.add(said(2))
    assert what(following(checkpoint)) == (2, 1, 1)


def test_after_a_loss_all_is_to_be_written_again(checkpoint: Checkpoint) -> None:
    checkpoint.load([said(0), said(1)])
    checkpoint.add(said(2))
    checkpoint.replay()
    assert what(following(checkpoint)) == (0, 3, 3)


def test_a_batch_that_both_threads_have_sent_is_taken_off_once(checkpoint: Checkpoint) -> None:
    first = following(full(checkpoint, 2))
    checkpoint.add(said(2))
    second = following(checkpoint)  # which holds the first one's sentences, too
    checkpoint.saved(first)
    assert what(following(checkpoint)) == (2, 1, 1)
    checkpoint.saved(second)
    assert checkpoint.next() is None
    checkpoint.saved(first)
    checkpoint.saved(second)
    checkpoint.add(said(3))
    assert what(following(checkpoint)) == (3, 1, 1)


def test_it_is_late_until_nothing_waits_any_more(checkpoint: Checkpoint) -> None:
    full(checkpoint, BATCH + 1)
    checkpoint.is_late = True
    checkpoint.saved(following(checkpoint))
    assert checkpoint.is_late
    checkpoint.saved(following(checkpoint))
    assert not checkpoint.is_late


def test_a_sign_that_redis_is_there_ends_that_only_if_nothing_waits(checkpoint: Checkpoint) -> None:
    checkpoint.reached()
    assert not checkpoint.is_late
    checkpoint.is_late = True
    checkpoint.add(said(0))
    checkpoint.reached()
    assert checkpoint.is_late
    checkpoint.saved(following(checkpoint))
    checkpoint.is_late = True
    checkpoint.reached()
    assert not checkpoint.is_late


def test_too_much_that_waits_is_an_error_that_passes_and_what_is_there_is_kept(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert module.MOST_UNSAVED == 16 * 1024**2
    monkeypatch.setattr(module, "MOST_UNSAVED", 100)
    with pytest.raises(Unavailable) as error:
        full(checkpoint, 100)
    assert error.value.code == "redis_unavailable"
    count, waiting = checkpoint.count, following(checkpoint)
    assert 1 < count == waiting.size < 5
    checkpoint.saved(waiting)
    checkpoint.add(said(count))
    assert what(following(checkpoint)) == (count, 1, 1)


def test_it_can_be_filled_and_emptied_by_two_threads(checkpoint: Checkpoint) -> None:
    number = 2000
    kept: list[Any] = []
    filler = threading.Thread(target=full, args=(checkpoint, number))
    filler.start()
    while len(kept) < number:
        if (batch := checkpoint.next()) is not None:
            assert batch.first == len(kept)
            kept += batch.call.given[-batch.size :]
            checkpoint.saved(batch)
    filler.join()
    assert checkpoint.next() is None and [one["text"] for one in checkpoint.sentences] == [
        f"s{n}" for n in range(number)
    ]


# -- the script --------------------------------------------------------------------------------------------------------


def keep(client: redis.Redis, record: JobRecord, first: int, *texts: bytes) -> Any:
    return record.lease.call(KEEP, first, *texts).run(client)


def kept(client: redis.Redis) -> tuple[Any, list[bytes]]:
    """The list, and what those who follow were told."""
    events: Any = client.xrange(KEYS.events)
    return client.lrange(KEYS.sentences, 0, -1), [e[b"data"] for _, e in events if e[b"type"] == b"final"]


@pytest.mark.parametrize(
    ("first", "texts", "there"),
    [
        (2, [b"2", b"3"], [b"0", b"1", b"2", b"3"]),  # the next ones
        (0, [b"0", b"1"], [b"0", b"1"]),  # a second sending
        (1, [b"1", b"2"], [b"0", b"1", b"2"]),  # partly one
    ],
)
def test_a_sentence_is_kept_and_told_if_the_list_is_as_long_as_its_writer_believes(
    client: redis.Redis, record: JobRecord, first: int, texts: list[bytes], there: list[bytes]
) -> None:
    keep(client, record, 0, b"0", b"1")
    assert keep(client, record, first, *texts) == OK
    assert kept(client) == (there, there)


def test_a_list_that_is_shorter_than_its_writer_believes_is_a_loss_that_he_learns(
    client: redis.Redis, record: JobRecord
) -> None:
    keep(client, record, 0, b"0", b"1")
    assert keep(client, record, 3, b"3", b"4") == GONE
    assert kept(client) == ([b"0", b"1"], [b"0", b"1"])


@pytest.mark.parametrize(("first", "left"), [(0, b"0"), (1, b"3")])
def test_whose_list_grows_has_not_tried_in_vain(
    client: redis.Redis, record: JobRecord, first: int, left: bytes
) -> None:
    client.hset(KEYS.job, "fruitless", 3)
    keep(client, record, first, b"x")
    assert client.hget(KEYS.job, "fruitless") == left


def test_a_whole_batch_is_one_write(client: redis.Redis, record: JobRecord) -> None:
    batch = following(full(record.checkpoint, BATCH + 1))
    assert batch.call.run(client) == OK
    assert JobView(client, "j").sentences() == [said(n) for n in range(BATCH)]


def test_half_a_surrogate_pair_costs_a_character_and_not_the_sentence(client: redis.Redis, record: JobRecord) -> None:
    record.final({"text": "so \ud83d", "end_time": 5})
    assert JobView(client, "j").sentences() == [{"text": "so ?", "end_time": 5}]
