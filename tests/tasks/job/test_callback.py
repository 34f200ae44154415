import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import redis

from tasks.errors import BadInput, Unavailable
from tasks.job.callback import Callback, check_address
from tasks.job.record import MESSAGE_LOST, Claimed, JobRecord
from tasks.job.view import JobView
from tests.tasks.conftest import FickleRedis
from tests.tasks.job.conftest import KEYS, LEASE, TTL, claimed, due, everything, lapse, outbox
from worker.stops import LeaseLost

URL = "https://app.example/told?token=s3cret"
METADATA = {"case": 7, "name": "十"}
CALLBACK = Callback(url=URL, metadata=json.dumps(METADATA, ensure_ascii=False).encode(), queue="transcribe.bulk")
RESULT = {"duration_ms": 2000, "text": "十 it"}

Make = Callable[..., JobRecord]
End = Callable[[JobRecord], None]

ENDS: dict[str, tuple[End, Mapping[str, Any]]] = {
    "succeeded": (lambda record: record.succeeded(RESULT), {"result": RESULT, "error_code": None, "error": None}),
    "failed": (
        lambda record: record.failed("not_audio", "Give audio."),
        {"result": None, "error_code": "not_audio", "error": "Give audio."},
    ),
    "cancelled": (lambda record: record.cancelled(), {"result": None, "error_code": None, "error": None}),
}


@pytest.fixture
def make(client: redis.Redis) -> Make:
    """Makes the record of the job `j`, which asks for a callback, as one more worker has it."""
    return lambda connection=client, callback=CALLBACK: JobRecord(
        connection, "j", ttl=TTL, lease=LEASE, callback=callback
    )


@pytest.fixture
def ended(make: Make) -> None:
    """The job has succeeded."""
    record = make()
    claimed(record)
    record.succeeded(RESULT)


@pytest.fixture
def fields(client: redis.Redis) -> Callable[[], dict[str, str]]:
    """What Redis has of the callback."""

    def read() -> dict[str, str]:
        found: Any = client.hgetall(KEYS.callback)
        return {name.decode(): value.decode() for name, value in found.items()}

    return read


# -- which addresses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["https://app/told", "http://10.0.0.1:8080/", "https://[::1]:1/a?b=c#d", "https://h", URL, "HTTPS://h/a"]
)
def test_an_address_on_the_web_can_be_called(url: str) -> None:
    check_address(url)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (None, "it must be a text"),
        (["https://h/"], "it must be a text"),
        ("", "it must be an address"),
        ("app.example/s3cret", "it must be an address"),
        ("ftp://h/s3cret", "it must be an address"),
        ("file:///s3cret", "it must be an address"),
        ("https:///s3cret", "it must be an address"),
        ("https://h:0/s3cret", "it must be an address"),
        ("https://h:99999/s3cret", "its host or port cannot be read"),
        ("https://h:port/s3cret", "its host or port cannot be read"),
        ("https://[::1/s3cret", "its host or port cannot be read"),
        ("https://user:s3cret@h/", "it holds a name or a password"),
        ("https://s3cret@h/", "it holds a name or a password"),
        ("https://h/s3cret b", "it holds a character"),
        ("https://h/s3cret\r\nX-Y: z", "it holds a character"),
        ("https://hö/s3cret", "it holds a character"),
        ("https://h/" + "s3cret" * 400, "it is 2410 characters long; at most 2048"),
    ],
)
def test_another_is_refused_by_a_sentence_that_does_not_quote_it(url: object, why: str) -> None:
    with pytest.raises(BadInput) as error:
        check_address(url)
    assert error.value.code == "invalid_callback" and "s3cret" not in error.value.sentence
    assert error.value.sentence.startswith(f"callback_url is not valid: {why}")


# -- what a job asks for -----------------------------------------------------------------------------------------------


def test_a_job_s_options_say_whom_to_tell_whatever_is_wrong_with_the_others() -> None:
    options = {"callback_url": URL, "metadata": METADATA, "modle": "x", "pace": "fast"}
    found = Callback.of(options, "celery")
    assert found is not None and (found.url, found.queue) == (URL, "celery")
    assert json.loads(found.metadata) == METADATA


@pytest.mark.parametrize("options", [{}, {"callback_url": None}, {"callback_url": "ftp://h/"}, {"callback_url": 7}])
def test_no_address_or_none_that_can_be_called_is_no_callback(options: dict[str, Any]) -> None:
    assert Callback.of(options, "celery") is None


@pytest.mark.parametrize("metadata", [None, [], "text", {"x": float("nan")}, {"x": "y" * 70_000}, {1: {2}}])
def test_metadata_that_cannot_be_echoed_costs_no_callback(metadata: Any) -> None:
    found = Callback.of({"callback_url": URL, "metadata": metadata}, "celery")
    assert found is not None and found.metadata == b"{}"


def test_an_address_is_in_no_representation(client: redis.Redis, ended: None) -> None:
    assert "s3cret" not in repr(CALLBACK) + repr(due(outbox(client))) and "case" not in repr(CALLBACK)


# -- stored with the job's end -----------------------------------------------------------------------------------------


def test_while_the_job_lives_its_wish_is_kept_for_whoever_ends_it(
    make: Make, client: redis.Redis, view: JobView, fields: Callable[[], dict[str, str]]
) -> None:
    claimed(make())
    assert fields() == {"url": URL, "metadata": CALLBACK.metadata.decode(), "queue": "transcribe.bulk"}
    assert 0 < int(str(client.ttl(KEYS.callback))) <= TTL
    assert outbox(client).take(1.0) is None and "callback" not in view.fields()


@pytest.mark.parametrize("end", ENDS)
def test_with_the_end_it_is_due(make: Make, client: redis.Redis, view: JobView, end: str) -> None:
    act, expected = ENDS[end]
    record = make()
    claimed(record)
    act(record)

    assert view.fields()["callback"] == "due"
    found = due(outbox(client))
    told = json.loads(found.body)
    assert told == {
        "delivery_id": found.delivery,
        "job_id": "j",
        "state": end,
        "ended_at": float(view.fields()["ended_at"]),
        "metadata": METADATA,
        **expected,
    }
    assert (found.url, found.tries) == (URL, 1) and len(found.delivery) == 32


def test_the_result_is_told_in_the_very_bytes_that_the_record_has(
    ended: None, client: redis.Redis, view: JobView
) -> None:
    assert view.fields()["result"].encode() in due(outbox(client)).body


def test_there_is_no_moment_between_the_two(fickle: FickleRedis, make: Make, view: JobView) -> None:
    """The end whose answer was lost is the end, and its callback is due; one that was not heard is neither."""
    record = make(fickle)
    claimed(record)
    fickle.away = 1
    with pytest.raises(Unavailable):
        record.succeeded(RESULT)
    assert view.fields()["state"] == "running" and "callback" not in view.fields()
    fickle.deaf = 1
    with pytest.raises(Unavailable):
        record.succeeded(RESULT)
    assert (view.fields()["state"], view.fields()["callback"]) == ("succeeded", "due")


def test_an_end_that_is_written_twice_is_told_under_one_id(
    fickle: FickleRedis, make: Make, client: redis.Redis
) -> None:
    record = make(fickle)
    claimed(record)
    fickle.deaf = 1
    with pytest.raises(Unavailable):
        record.succeeded(RESULT)
    before = everything(client)
    record.succeeded(RESULT)
    assert everything(client) == before


def test_the_address_stands_nowhere_else(ended: None, client: redis.Redis) -> None:
    names: Any = client.keys("*")
    others = b"".join(client.dump(name) or b"" for name in names if name != KEYS.callback.encode())
    assert b"s3cret" not in others and b"app.example" not in others


def test_a_job_that_asks_for_none_has_none(client: redis.Redis, make: Make, view: JobView) -> None:
    record = make(callback=None)
    claimed(record)
    record.succeeded(RESULT)
    assert not client.exists(KEYS.callback) and "callback" not in view.fields()
    assert outbox(client).take(1.0) is None


@pytest.mark.parametrize("act", ["waiting", "handed_back", "not_begun"])
def test_one_that_goes_on_elsewhere_has_none_yet(make: Make, client: redis.Redis, act: str) -> None:
    record = make()
    claimed(record)
    {
        "waiting": lambda: record.waiting("throttled", "Later."),
        "handed_back": record.handed_back,
        "not_begun": lambda: record.not_begun("default 7"),
    }[act]()
    assert outbox(client).take(1.0) is None and client.hget(KEYS.callback, "url") == URL.encode()


def test_who_has_lost_the_job_makes_nothing_due(make: Make, client: redis.Redis) -> None:
    first, second = make(), make()
    claimed(first)
    lapse(client)
    claimed(second)
    with pytest.raises(LeaseLost):
        first.succeeded(RESULT)
    assert outbox(client).take(1.0) is None


def test_a_redis_that_has_lost_everything_gets_the_callback_with_the_end(
    make: Make, client: redis.Redis, view: JobView
) -> None:
    record = make()
    claimed(record)
    client.flushdb()
    record.succeeded(RESULT)
    assert view.fields()["callback"] == "due" and json.loads(due(outbox(client)).body)["result"] == RESULT


def test_the_wish_comes_back_with_the_record(make: Make, client: redis.Redis, fields: Any) -> None:
    record = make()
    claimed(record)
    client.flushdb()
    record.note(duration_ms=1)
    assert fields()["url"] == URL


def test_every_write_keeps_the_wish_alive(make: Make, client: redis.Redis) -> None:
    record = make()
    claimed(record)
    client.persist(KEYS.callback)
    record.note(duration_ms=1)
    assert 0 < int(str(client.ttl(KEYS.callback))) <= TTL


def test_a_job_that_is_begun_again_has_a_new_end_and_that_is_told(
    make: Make, client: redis.Redis, view: JobView
) -> None:
    record = make()
    claimed(record)
    record.failed(MESSAGE_LOST, "Send it again.")
    first = due(outbox(client))
    again = make()
    assert isinstance(again.claim("a", "w"), Claimed)
    assert outbox(client).take(1.0) is None and "callback" not in view.fields()

    again.succeeded(RESULT)
    second = due(outbox(client))
    assert second.delivery != first.delivery and json.loads(second.body)["state"] == "succeeded"
    assert second.tries == 1


def test_a_wish_that_redis_did_not_keep_comes_with_the_end(make: Make, client: redis.Redis) -> None:
    record = make()
    claimed(record)
    client.delete(KEYS.callback)  # as a Redis does that makes room
    record.cancelled()
    assert due(outbox(client)).url == URL
