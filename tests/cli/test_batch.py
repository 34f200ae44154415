import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from rich.console import Console

from cli.batch import Batch
from cli.board import Line, progress
from cli.client import Client, Job
from cli.journal import Journal
from cli.output import MANY
from cli.references import Recording
from config.settings import settings
from tasks.job.record import JobRecord
from tests.cli.conftest import record_of, result, taken

A, B = Recording("https://host/a?sig=1", "a"), Recording("https://host/b", "x/b")
Run = Callable[..., Batch]


@pytest.fixture
def app(start_app: Callable[..., Celery]) -> Celery:
    return start_app()


@pytest.fixture
def steno(app: Celery, client: redis.Redis) -> Client:
    return Client(app, client, settings())


@pytest.fixture
def run(steno: Client, tmp_path: Path) -> Iterator[Run]:
    """Runs the command once more, after the run before has ended somewhere."""
    batches: list[Batch] = []

    def begin(*recordings: Recording, forms: tuple[str, ...] = ("txt",), **options: Any) -> Batch:
        for batch in batches:
            batch.close()
        batches.append(Batch(steno, tmp_path / "out", forms, recordings or (A,), options, "transcribe"))
        return batches[-1]

    yield begin
    for batch in batches:
        batch.close()


@pytest.fixture
def sent(client: redis.Redis) -> Callable[[], list[str]]:
    """Takes the messages from the queue; the ids of their jobs."""

    def ids() -> list[str]:
        raw: Any = client.lrange("transcribe", 0, -1)
        client.delete("transcribe")
        return [json.loads(message)["headers"]["id"] for message in reversed(raw)]

    return ids


def only(batch: Batch) -> Job:
    (job,) = batch.jobs()
    return job


def record(client: redis.Redis, job: Job) -> JobRecord:
    return taken(record_of(client, job.id), job.audio)


def ended(steno: Client, client: redis.Redis, job: Job, text: str = "Hello.") -> Line:
    """The line of a job that a worker has ended."""
    record(client, job).succeeded(result(text))
    line = Line(job, steno.view(job.id), progress(Console()))
    line.refresh()
    return line


# -- what is sent ------------------------------------------------------------------------------------------------------


def test_each_recording_is_sent_when_its_job_is_taken(run: Run, sent: Callable[[], list[str]]) -> None:
    jobs = run(A, B).jobs()
    first = next(jobs)
    assert sent() == [first.id] and first.name == "a"
    second = next(jobs)
    assert sent() == [second.id] and second.name == "x/b"


@pytest.mark.parametrize("state", ["queued", "running", "succeeded"])
def test_what_is_on_its_way_is_not_sent_again(
    run: Run, sent: Callable[[], list[str]], client: redis.Redis, state: str
) -> None:
    job = only(run())
    if state != "queued":
        own = record(client, job)
        if state == "succeeded":
            own.succeeded(result("Hello."))
    assert sent() == [job.id]
    assert only(run()) == job and sent() == []


def test_what_was_chosen_and_never_sent_is_sent_under_its_id(
    run: Run, sent: Callable[[], list[str]], tmp_path: Path
) -> None:
    run().close()
    journal = Journal(tmp_path / "out", {})
    entry = journal.begin(A.audio, A.name)
    journal.close()
    assert only(run()).id == entry.job and sent() == [entry.job]


def test_so_is_what_has_a_record_and_perhaps_no_message(
    run: Run, sent: Callable[[], list[str]], tmp_path: Path, client: redis.Redis
) -> None:
    run().close()
    journal = Journal(tmp_path / "out", {})
    entry = journal.begin(A.audio, A.name)
    journal.close()
    record_of(client, entry.job).queued("https://host/a")
    assert only(run()).id == entry.job and sent() == [entry.job]


def test_so_is_what_redis_has_forgotten(run: Run, sent: Callable[[], list[str]], client: redis.Redis) -> None:
    job = only(run())
    client.flushdb()
    assert only(run()) == job and sent() == [job.id]


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_what_failed_is_tried_again_under_a_new_id(
    run: Run, sent: Callable[[], list[str]], client: redis.Redis, state: str
) -> None:
    job = only(run())
    own = record(client, job)
    own.cancelled() if state == "cancelled" else own.failed("not_audio", "It is not audio.")
    assert sent() == [job.id]
    again = only(run())
    assert again.id != job.id and sent() == [again.id] and only(run()) == again


def test_other_options_are_another_job_unless_they_change_no_transcript(run: Run) -> None:
    job = only(run(model="m", pace=1.0))
    assert only(run(model="m", pace=2.0, live=True, tenant="t", account="a")) == job
    assert only(run(model="n")).id != job.id


def test_only_of_few_recordings_each_is_told_about(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert MANY == 20
    many = [Recording(f"https://host/{number}", str(number)) for number in range(MANY + 1)]
    list(run(*many[:-1]).jobs())
    assert capsys.readouterr().err.count(": job ") == MANY
    list(run(*many, model="m").jobs())
    assert capsys.readouterr().err == ""


# -- what is written ---------------------------------------------------------------------------------------------------


def test_what_is_written_is_done(run: Run, steno: Client, client: redis.Redis, tmp_path: Path) -> None:
    batch = run(B, forms=("txt", "srt"))
    batch.write(ended(steno, client, only(batch)))
    assert (tmp_path / "out" / "x" / "b.txt").read_text() == "Hello.\n"
    assert (tmp_path / "out" / "x" / "b.srt").read_text() == "1\n00:00:00,000 --> 00:00:02,000\nHello.\n\n"
    assert sorted(path.name for path in (tmp_path / "out" / "x").iterdir()) == ["b.srt", "b.txt"]
    client.flushdb()
    assert run(B, forms=("txt", "srt")).left == run(B).left == []


@pytest.mark.parametrize("forms", [("txt",), ("txt", "vtt")])
def test_a_file_that_is_not_there_is_written_from_what_redis_has(
    run: Run, steno: Client, client: redis.Redis, sent: Callable[[], list[str]], tmp_path: Path, forms: tuple[str, ...]
) -> None:
    batch = run(A)
    line = ended(steno, client, only(batch))
    batch.write(line)
    if forms == ("txt",):
        (tmp_path / "out" / "a.txt").unlink()
    sent()
    batch = run(A, forms=forms)
    assert batch.left == [A] and only(batch) == line.job and sent() == []
    batch.write(line)
    assert run(A, forms=forms).left == []


def test_a_run_that_ended_between_the_file_and_its_note_has_done_it(
    run: Run, steno: Client, client: redis.Redis, tmp_path: Path
) -> None:
    only(run())
    (tmp_path / "out" / "a.txt").write_text("Hello.\n")
    assert run().left == []


def test_a_file_of_other_options_is_written_over(run: Run, steno: Client, client: redis.Redis, tmp_path: Path) -> None:
    batch = run(model="m")
    batch.write(ended(steno, client, only(batch)))
    batch = run(model="n")
    job = only(batch)
    assert run(model="n").left == [A]
    run(model="n").write(ended(steno, client, job, "Hallo."))
    assert (tmp_path / "out" / "a.txt").read_text() == "Hallo.\n"
    assert run(model="n").left == [] and run(model="m").left == [A]


def test_recordings_of_one_name_have_files_of_their_own(
    run: Run, steno: Client, client: redis.Redis, tmp_path: Path
) -> None:
    twins = [Recording("https://one/a", "a"), Recording("https://two/a", "a")]
    batch = run(*twins)
    for job in batch.jobs():
        batch.write(ended(steno, client, job, job.audio))
    assert (tmp_path / "out" / "a.txt").read_text() == "https://one/a\n"
    assert (tmp_path / "out" / "a.2.txt").read_text() == "https://two/a\n"
    assert run(*reversed(twins)).left == []


def test_a_file_that_cannot_be_written_is_a_sentence_that_says_where_the_transcript_is(
    run: Run, steno: Client, client: redis.Redis, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = run()
    job = only(batch)
    (tmp_path / "out" / "a.txt").mkdir()
    with pytest.raises(SystemExit):
        batch.write(ended(steno, client, job))
    said = " ".join(capsys.readouterr().err.split())
    assert "a.txt cannot be written: Is a directory. The transcript is kept: stenopool watch" in said


def test_a_folder_that_cannot_be_used_is_a_sentence(
    steno: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(SystemExit):
        Batch(steno, tmp_path / "out", ("txt",), [A], {})
    assert "out cannot be used: File exists." in " ".join(capsys.readouterr().err.split())


def test_a_folder_that_another_run_uses_is_a_sentence(
    run: Run, steno: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run()
    with pytest.raises(SystemExit):
        Batch(steno, tmp_path / "out", ("txt",), [A], {})
    assert "Another stenopool writes to the folder" in capsys.readouterr().err
