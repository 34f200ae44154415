import io
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from celery import Celery
from rich.console import Console

from cli import follow
from cli.client import Client, Job
from config.settings import settings
from tasks.job.record import JobRecord
from tests.cli.conftest import PATIENCE, record_of, result, taken, transcribed

JOB = Job("j", "https://host/call.mp3", "call.mp3")


class Screen(io.StringIO):
    """A screen that a test can watch: `shown` is set once a text has appeared on it."""

    def __init__(self, awaited: str = "") -> None:
        super().__init__()
        self.shown = threading.Event()
        self._awaited = awaited

    def write(self, text: str) -> int:
        written = super().write(text)
        if self._awaited and self._awaited in self.getvalue():
            self.shown.set()
        return written


def console(screen: io.StringIO, live: bool = False) -> Console:
    return Console(file=screen, width=200, force_terminal=live)


@pytest.fixture
def record(client: redis.Redis) -> JobRecord:
    return record_of(client)


@pytest.fixture
def steno(start_app: Callable[..., Celery], client: redis.Redis) -> Client:
    return Client(start_app(), client, settings())


def test_nothing_to_follow_ends_at_once(steno: Client) -> None:
    assert list(follow.follow(steno, [], console(io.StringIO()), total=0)) == []


def test_jobs_are_followed_until_all_have_ended(steno: Client, client: redis.Redis) -> None:
    records = [record_of(client, name) for name in ("a", "b", "c")]
    jobs = [Job(one.job_id, "", f"{one.job_id}.wav") for one in records]
    screen = Screen(awaited="Good mor")

    def work() -> None:
        taken(records[0], "https://host/a.wav").partial({"text": "Good mor"})
        assert screen.shown.wait(PATIENCE)
        for record in records[:2]:
            transcribed(record, "https://host/x")
        taken(records[2]).failed("not_audio", "It is not audio.")

    writer = threading.Thread(target=work, daemon=True)
    writer.start()
    lines = list(follow.follow(steno, jobs, console(screen, live=True), total=3))
    writer.join(PATIENCE)

    assert screen.shown.is_set()
    assert [line.fields["state"] for line in lines] == ["succeeded", "succeeded", "failed"]
    assert [line.job for line in lines] == jobs
    assert "2.0/2.0 s" in screen.getvalue() and "c.wav" in screen.getvalue()


class Staffed(Client):
    """Whose worker takes the first job when it is asked for."""

    asked = 0

    def workers(self) -> list[str]:
        self.asked += 1
        transcribed(record_of(self.redis), "https://host/call.mp3")
        return ["celery@a"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    assert follow.NO_WORKER_AFTER == 5.0
    monkeypatch.setattr(follow, "NO_WORKER_AFTER", 0.0)


def test_a_job_that_waits_long_without_any_worker_is_explained_once(
    steno: Client, record: JobRecord, impatient: None
) -> None:
    record.queued("https://host/call.mp3")
    screen = Screen(awaited="no worker answers")

    def work() -> None:
        assert screen.shown.wait(PATIENCE)
        transcribed(record, "https://host/call.mp3")

    writer = threading.Thread(target=work, daemon=True)
    writer.start()
    (line,) = follow.follow(steno, [JOB], console(screen), total=1)
    writer.join(PATIENCE)

    assert line.fields["state"] == "succeeded"
    assert screen.getvalue().count("no worker answers") == 1


def test_a_job_that_waits_while_a_worker_answers_is_not_explained(
    start_app: Callable[..., Any], client: redis.Redis, record: JobRecord, impatient: None
) -> None:
    record.queued("https://host/call.mp3")
    screen, staffed = Screen(), Staffed(start_app(), client, settings())

    (line,) = follow.follow(staffed, [JOB], console(screen), total=1)

    assert (line.fields["state"], staffed.asked) == ("succeeded", 1)
    assert "No worker" not in screen.getvalue()


def test_a_job_that_has_begun_is_never_a_reason_to_ask_for_workers(
    start_app: Callable[..., Any], client: redis.Redis, record: JobRecord, impatient: None
) -> None:
    taken(record)
    record.partial({"text": "Good mor"})
    screen, staffed = Screen(awaited="Good mor"), Staffed(start_app(), client, settings())

    def work() -> None:
        assert screen.shown.wait(PATIENCE)
        transcribed(record, "https://host/call.mp3")

    writer = threading.Thread(target=work, daemon=True)
    writer.start()
    list(follow.follow(staffed, [JOB], console(screen, live=True), total=1))
    writer.join(PATIENCE)

    assert staffed.asked == 0


class Desk:
    """Gives out jobs one by one, and knows which."""

    def __init__(self, count: int) -> None:
        self.given: list[str] = []
        self._count = count

    def __iter__(self) -> Iterator[Job]:
        for number in range(self._count):
            self.given.append(f"j{number}")
            yield Job(f"j{number}", "https://host/x", f"{number}.wav")


def test_no_more_jobs_are_taken_than_may_be_unfinished(steno: Client, client: redis.Redis) -> None:
    assert follow.MOST == 100
    desk = Desk(5)
    for number in range(5):
        transcribed(record_of(client, f"j{number}"), "https://host/x")
    held = []
    for line in follow.follow(steno, desk, console(io.StringIO()), total=5, most=2):
        held.append(len(desk.given))
        assert line.job.id == f"j{len(held) - 1}"
    assert held == [2, 2, 4, 4, 5]


def test_one_that_hangs_holds_up_those_after_it_only_where_their_order_matters(
    steno: Client, client: redis.Redis
) -> None:
    slow = taken(record_of(client, "j0"), "https://host/x")
    for number in (1, 2, 3):
        transcribed(record_of(client, f"j{number}"), "https://host/x")
    ended = []
    for line in follow.follow(steno, Desk(4), console(io.StringIO()), total=4, most=2, in_order=False):
        ended.append(line.job.id)
        if len(ended) == 3:
            slow.succeeded(result("x"))
    assert ended == ["j1", "j2", "j3", "j0"]


def test_a_job_that_has_been_yielded_is_let_go(steno: Client, client: redis.Redis) -> None:
    transcribed(record_of(client, "j0"), "https://host/x")
    taken(record_of(client, "j1"), "https://host/x")
    lines = follow.follow(steno, Desk(2), console(io.StringIO()), total=2)
    assert next(lines).job.id == "j0"
    lines.close()


def test_as_many_jobs_as_may_be_unfinished_end_like_any(steno: Client, client: redis.Redis) -> None:
    for number in range(2):
        transcribed(record_of(client, f"j{number}"), "https://host/x")
    lines = follow.follow(steno, Desk(2), console(io.StringIO()), total=2, most=2)
    assert [line.job.id for line in lines] == ["j0", "j1"]
