import io
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery import Celery
from rich.console import Console
from rich.progress import Progress

from cli import follow
from cli.client import Client, Job
from cli.follow import Line
from config.settings import settings
from tasks.job.record import JobRecord
from tasks.job.view import JobView
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
def progress() -> Progress:
    """The rows as they would be drawn, undrawn."""
    return Progress(console=console(io.StringIO()), auto_refresh=False)


@pytest.fixture
def line(client: redis.Redis, progress: Progress) -> Line:
    return Line(JOB, JobView(client, "j"), progress)


@pytest.fixture
def steno(start_app: Callable[..., Celery], client: redis.Redis) -> Client:
    return Client(start_app(), client, settings())


def said(progress: Progress) -> str:
    return str(progress.tasks[0].fields["said"])


# -- one line ----------------------------------------------------------------------------------------------------------


def test_a_line_of_a_job_without_a_record_is_queued(line: Line, progress: Progress) -> None:
    line.refresh()
    (row,) = progress.tasks
    assert (row.description, row.completed, row.total) == ("call.mp3", 0, None)
    assert row.fields == {"said": "queued", "seconds": "0.0 s", "speed": ""} and not line.ended


def test_a_line_shows_how_much_of_the_recording_was_sent(line: Line, record: JobRecord, progress: Progress) -> None:
    taken(record).note(progress_ms=1500)
    line.refresh()
    assert (progress.tasks[0].total, progress.tasks[0].fields["seconds"]) == (None, "1.5 s")

    record.note(duration_ms=2000)
    line.refresh()
    assert (progress.tasks[0].completed, progress.tasks[0].total) == (1500, 2000)
    assert progress.tasks[0].fields["seconds"] == "1.5/2.0 s"


def test_a_line_shows_the_newest_text(line: Line, record: JobRecord, progress: Progress) -> None:
    taken(record)
    line.refresh()
    assert said(progress) == "running"
    record.partial({"text": "good mor"})
    line.refresh()
    assert said(progress) == "good mor"
    record.final({"text": "Good morning.", "end_time": 9})
    line.refresh()
    assert said(progress) == "Good morning."


def test_of_a_long_text_the_end_is_shown(line: Line, record: JobRecord, progress: Progress) -> None:
    taken(record)
    record.final({"text": "x" + "y" * follow.WIDTH, "end_time": 9})
    line.refresh()
    assert said(progress) == "y" * follow.WIDTH


def test_a_line_of_a_job_that_will_be_tried_again_says_why(line: Line, record: JobRecord, progress: Progress) -> None:
    taken(record)
    record.final({"text": "Good morning.", "end_time": 9})
    record.waiting("server_fault", "The service has a fault.")
    line.refresh()
    assert said(progress) == "queued: The service has a fault." and not line.ended


@pytest.mark.parametrize("text", ["", "Good morning."])
def test_a_line_of_a_job_that_waits_for_quota_says_so_until_it_goes_on(
    line: Line, record: JobRecord, progress: Progress, text: str
) -> None:
    taken(record)
    if text:
        record.final({"text": text, "end_time": 9})
    record.waits()
    line.refresh()
    assert said(progress) == follow.WAITS and not line.ended
    record.goes()
    line.refresh()
    assert said(progress) == (text or "running")


def test_so_does_one_of_a_job_that_has_gone_back_to_the_queue(
    line: Line, record: JobRecord, progress: Progress
) -> None:
    taken(record).not_begun("default 1.5")
    line.refresh()
    assert said(progress) == follow.WAITS and line.state == "queued"


def test_why_the_last_attempt_failed_is_more_than_that_it_waited(
    line: Line, record: JobRecord, progress: Progress
) -> None:
    taken(record).waits()
    record.waiting("server_fault", "The service has a fault.")
    line.refresh()
    assert said(progress) == "queued: The service has a fault."


def test_a_job_that_ended_while_it_waited_waits_no_more(line: Line, record: JobRecord, progress: Progress) -> None:
    taken(record).waits()
    record.cancelled()
    line.refresh()
    assert said(progress) == "cancelled" and line.ended


@pytest.mark.parametrize("end", ["succeeded", "failed"])
def test_a_line_of_an_ended_job_is_read_no_more(
    line: Line, record: JobRecord, progress: Progress, client: redis.Redis, end: str
) -> None:
    taken(record)
    if end == "succeeded":
        record.succeeded(result("one"))
    else:
        record.failed("not_audio", "It is not audio.")
    line.refresh()
    assert line.ended and said(progress).startswith(end)

    client.flushdb()
    line.refresh()
    assert line.ended and line.fields["state"] == end


def test_the_speed_is_of_audio_against_the_time_it_took(
    line: Line, record: JobRecord, progress: Progress, client: redis.Redis
) -> None:
    taken(record).succeeded({"text": "", "duration_ms": 30_000})
    client.hset("stenopool:job:{j}", mapping={"started_at": 100.0, "ended_at": 110.0})
    line.refresh()
    assert progress.tasks[0].fields["speed"] == "×3.0"


def test_the_speed_of_a_running_job_is_that_so_far(
    line: Line, record: JobRecord, progress: Progress, client: redis.Redis
) -> None:
    taken(record).note(progress_ms=10_000)
    client.hset("stenopool:job:{j}", "started_at", time.time() - 10)
    line.refresh()
    assert 0.5 <= float(progress.tasks[0].fields["speed"].removeprefix("×")) <= 1.0


def test_clocks_that_disagree_show_no_speed(
    line: Line, record: JobRecord, progress: Progress, client: redis.Redis
) -> None:
    taken(record).note(progress_ms=1000)
    client.hset("stenopool:job:{j}", "started_at", time.time() + 1000)
    line.refresh()
    assert progress.tasks[0].fields["speed"] == ""


# -- following ---------------------------------------------------------------------------------------------------------


def test_nothing_to_follow_ends_at_once(steno: Client) -> None:
    assert follow.follow(steno, [], console(io.StringIO())) == []


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
    lines = follow.follow(steno, jobs, console(screen, live=True))
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
    (line,) = follow.follow(steno, [JOB], console(screen))
    writer.join(PATIENCE)

    assert line.fields["state"] == "succeeded"
    assert screen.getvalue().count("no worker answers") == 1


def test_a_job_that_waits_while_a_worker_answers_is_not_explained(
    start_app: Callable[..., Any], client: redis.Redis, record: JobRecord, impatient: None
) -> None:
    record.queued("https://host/call.mp3")
    screen, staffed = Screen(), Staffed(start_app(), client, settings())

    (line,) = follow.follow(staffed, [JOB], console(screen))

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
    follow.follow(staffed, [JOB], console(screen, live=True))
    writer.join(PATIENCE)

    assert staffed.asked == 0
