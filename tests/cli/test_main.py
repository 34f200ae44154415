import json
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from click.testing import CliRunner, Result

from cli import main as module
from cli.main import cli, main
from config.queues import BULK, INTERACTIVE, QUEUE
from config.settings import settings
from emulator.background import BackgroundEmulator
from emulator.stack import free_port
from tasks.job.record import Claimed, JobRecord
from tests.cli.conftest import PATIENCE, record_of, result, taken, transcribed

Start = Callable[..., Celery]
Hire = Callable[..., Any]


def compact(value: Any) -> str:
    """A line of JSON as a worker writes it."""
    return json.dumps(value, separators=(",", ":")) + "\n"


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is wrapped."""
    monkeypatch.setenv("COLUMNS", "500")


@pytest.fixture
def app(start_app: Start) -> Celery:
    return start_app()


@pytest.fixture
def record(client: redis.Redis) -> JobRecord:
    return record_of(client)


def stenopool(*words: str, given: str = "") -> Result:
    return CliRunner().invoke(cli, words, input=given)


def refused(record: JobRecord, audio: str) -> None:
    """What a worker writes of bad input, here: of every recording that is no wav."""
    if audio.endswith(".wav"):
        transcribed(record, audio)
    else:
        taken(record, audio).failed("not_audio", "It is not audio.")


# -- transcribe --------------------------------------------------------------------------------------------------------


def test_one_transcript_goes_to_stdout_and_all_else_to_stderr(app: Celery, hire: Hire) -> None:
    worker = hire(app)

    done = stenopool("transcribe", "https://host/call.wav?sig=secret")

    assert (done.exit_code, done.stdout) == (0, "call.wav\n")
    (message,) = worker.messages
    assert f"call.wav: job {message.headers['id']}" in done.stderr and "2.0/2.0 s" in done.stderr
    assert "secret" not in done.stderr


def test_several_transcripts_get_a_heading_each_in_the_order_asked_for(app: Celery, hire: Hire) -> None:
    hire(app)
    done = stenopool("transcribe", "https://host/b.wav", "https://host/a.wav")
    assert (done.exit_code, done.stdout) == (0, "== b.wav\nb.wav\n== a.wav\na.wav\n")


def test_several_json_results_are_a_line_each(app: Celery, hire: Hire) -> None:
    hire(app)
    done = stenopool("transcribe", "--format", "json", "https://host/b.wav", "https://host/a.wav")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [result("b.wav"), result("a.wav")]


@pytest.mark.parametrize(("form", "content"), [("txt", "a.wav\n"), ("json", compact(result("a.wav")))])
def test_results_can_go_to_a_folder_that_is_made(
    app: Celery, hire: Hire, tmp_path: Path, form: str, content: str
) -> None:
    hire(app)

    done = stenopool("transcribe", "--format", form, "-o", str(tmp_path / "new" / "out"), "https://host/a.wav")

    assert (done.exit_code, done.stdout) == (0, "")
    assert (tmp_path / "new" / "out" / f"a.wav.{form}").read_text() == content
    assert f"wrote {tmp_path / 'new' / 'out' / f'a.wav.{form}'}" in done.stderr


def test_a_failed_recording_is_a_sentence_and_an_exit_code_and_the_others_are_given(app: Celery, hire: Hire) -> None:
    hire(app, refused)
    done = stenopool("transcribe", "https://host/a.txt", "https://host/b.wav")
    assert (done.exit_code, done.stdout) == (1, "== b.wav\nb.wav\n")
    assert "a.txt: It is not audio.\n" in done.stderr


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        ([], {}),
        (["--live"], {"live": True}),
        (["--pace", "0"], {"pace": 0.0}),
        (["--model", "fun-asr-realtime"], {"model": "fun-asr-realtime"}),
        (["--language", "en", "--language", "de"], {"language_hints": ["en", "de"]}),
        (["--tenant", "acme"], {"tenant": "acme"}),
        (["--account", "second"], {"account": "second"}),
        (["--start", "1:30"], {"start_ms": 90_000}),
        (["--start", "0", "--end", "00:01:30.5"], {"start_ms": 0, "end_ms": 90_500}),
        (["--channels", "split"], {"channels": "split"}),
    ],
)
def test_only_what_was_asked_for_is_sent(app: Celery, hire: Hire, words: list[str], sent: dict[str, Any]) -> None:
    worker = hire(app)
    assert stenopool("transcribe", *words, "https://host/a.wav").exit_code == 0
    assert [message.payload[:2] for message in worker.messages] == [[["https://host/a.wav"], sent]]


@pytest.mark.parametrize(
    ("words", "queue"),
    [([], QUEUE), (["--queue", "interactive"], INTERACTIVE), (["--queue", "bulk"], BULK)],
)
def test_a_job_goes_to_the_queue_that_was_asked_for(app: Celery, hire: Hire, words: list[str], queue: str) -> None:
    worker = hire(app)
    assert stenopool("transcribe", *words, "https://host/a.wav").exit_code == 0
    (message,) = worker.messages
    assert message.delivery_info["routing_key"] == queue and message.payload[1] == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["/no/such/file.wav"], "there is no file /no/such/file.wav"),
        (["https://host/a.wav", "/no/such/file.wav"], "there is no file /no/such/file.wav"),
        (["--pace", "-1", "https://host/a.wav"], "--pace"),
        (["--pace", "101", "https://host/a.wav"], "--pace"),
        (["--format", "doc", "https://host/a.wav"], "--format"),
        (["--queue", "celery", "https://host/a.wav"], "--queue"),
        (["--start", "soon", "https://host/a.wav"], "'soon' is no place in a recording"),
        (["--start", "9", "--end", "9", "https://host/a.wav"], "--end must be later than --start"),
        (["--end", "0", "https://host/a.wav"], "--end must be later than --start"),
        (["--channels", "left", "https://host/a.wav"], "--channels"),
        (["--jobs", "0", "https://host/a.wav"], "--jobs"),
        (["--format", "txt", "--format", "srt", "https://host/a.wav"], "give a folder with -o"),
        (["."], "there is no recording in ."),
        ([], "REF"),
    ],
)
def test_a_mistake_on_the_command_line_is_said_before_anything_is_sent(
    app: Celery, client: redis.Redis, words: list[str], said: str
) -> None:
    done = stenopool("transcribe", *words)
    assert (done.exit_code, done.stdout) == (2, "") and said in done.stderr
    assert client.keys() == []


SRT = "1\n00:00:00,000 --> 00:00:02,000\n{}\n\n"


def test_captions_have_headings_like_texts(app: Celery, hire: Hire) -> None:
    hire(app)
    done = stenopool("transcribe", "--format", "srt", "https://host/b.wav", "https://host/a.wav")
    assert done.stdout == "== b.wav\n" + SRT.format("b.wav") + "== a.wav\n" + SRT.format("a.wav")


def test_references_can_come_from_stdin(app: Celery, hire: Hire) -> None:
    hire(app)
    done = stenopool("transcribe", "-", given="https://host/b.wav\n\nhttps://host/a.wav\n")
    assert (done.exit_code, done.stdout) == (0, "== b.wav\nb.wav\n== a.wav\na.wav\n")


def test_of_many_on_stdin_the_transcripts_are_told_and_nothing_else(app: Celery, hire: Hire) -> None:
    hire(app)
    done = stenopool("transcribe", "-", given="".join(f"https://host/{number}.wav\n" for number in range(21)))
    assert done.stdout == "".join(f"== {number}.wav\n{number}.wav\n" for number in range(21))
    assert ": job " not in done.stderr


def test_the_same_command_again_sends_nothing_that_is_done(app: Celery, hire: Hire, tmp_path: Path) -> None:
    for name in ("a.wav", "x/a.wav", "x/b.txt"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    worker = hire(app)
    command = ("transcribe", "--format", "txt", "--format", "srt", "-o", str(tmp_path / "out"), str(tmp_path / "in"))

    assert stenopool(*command).exit_code == 0
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")}
    assert written == {".stenopool.jsonl", "a.wav.txt", "a.wav.srt", "x/a.wav.txt", "x/a.wav.srt"}

    again = stenopool(*command)
    assert (again.exit_code, again.stdout) == (0, "") and "2 of 2 were done before." in again.stderr
    assert len(worker.messages) == 2


def test_a_recording_that_failed_is_tried_again_by_the_same_command(app: Celery, hire: Hire, tmp_path: Path) -> None:
    worker = hire(app, refused)
    command = ("transcribe", "-o", str(tmp_path), "https://host/a.wav", "https://host/b.txt")
    assert [stenopool(*command).exit_code for _ in range(2)] == [1, 1]
    assert [message.payload[0][0] for message in worker.messages].count("https://host/b.txt") == 2
    assert len({message.headers["id"] for message in worker.messages}) == 3


def test_of_many_recordings_not_each_one_is_told_about(app: Celery, hire: Hire, tmp_path: Path) -> None:
    hire(app, refused)
    (tmp_path / "list").write_text("".join(f"https://host/{n}.wav\n" for n in range(30)) + "https://host/bad.txt\n")
    done = stenopool("transcribe", "-o", str(tmp_path / "out"), "--jobs", "7", f"@{tmp_path / 'list'}")
    assert done.exit_code == 1 and len(list((tmp_path / "out").glob("*.txt"))) == 30
    assert "bad.txt: It is not audio." in done.stderr and "31 of 31 done 1 failed" in " ".join(done.stderr.split())
    assert len(done.stderr.splitlines()) < 5


# -- watch and status --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "given_out"),
    [
        ("txt", "Hello.\n"),
        ("json", compact(result("Hello."))),
        ("vtt", "WEBVTT\n\n1\n00:00:00.000 --> 00:00:02.000\nHello.\n\n"),
        ("tsv", "start\tend\ttext\n0\t2000\tHello.\n"),
    ],
)
def test_a_job_that_another_client_sent_can_be_watched(
    app: Celery, record: JobRecord, form: str, given_out: str
) -> None:
    record.queued("https://host/calls/call.mp3")
    taken(record, "https://host/calls/call.mp3").succeeded(result("Hello."))
    done = stenopool("watch", "--format", form, "j")
    assert (done.exit_code, done.stdout) == (0, given_out)
    assert "call.mp3" in done.stderr and "calls" not in done.stderr


def test_an_output_that_is_full_is_a_sentence_that_says_where_the_transcript_is(app: Celery, record: JobRecord) -> None:
    transcribed(record, "https://host/call.wav")
    command = [str(Path(sys.executable).with_name("stenopool")), "watch", "j"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    said = "The output cannot be written: No space left on device. The transcript is kept: stenopool watch j\n"
    assert done.returncode == 1 and said in done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


def test_a_watched_job_that_was_cancelled_is_a_failure(app: Celery, record: JobRecord, client: redis.Redis) -> None:
    record.queued("https://host/call.mp3")
    client.hset("stenopool:job:{j}", "state", "cancelled")
    done = stenopool("watch", "j")
    assert (done.exit_code, done.stdout) == (1, "") and "call.mp3: cancelled" in done.stderr


def test_the_status_is_a_line_for_each_field_but_the_result(app: Celery, record: JobRecord) -> None:
    record.queued("https://host/call.mp3")
    taken(record, "https://host/calls/call.mp3").succeeded(result("Hello."))
    done = stenopool("status", "j")
    assert done.exit_code == 0 and "Hello." not in done.stdout
    assert "state        succeeded\n" in done.stdout and "duration_ms  2000\n" in done.stdout


def test_the_status_as_json_is_one_object(app: Celery, record: JobRecord) -> None:
    record.queued("https://host/Gespräch.mp3")
    done = stenopool("status", "--json", "j")
    fields = json.loads(done.stdout)
    assert (done.exit_code, fields["state"], fields["audio"]) == (0, "queued", "https://host/Gespräch.mp3")
    assert "Gespräch" in done.stdout


def test_the_status_of_a_job_that_waits_for_quota_says_since_when(
    app: Celery, record: JobRecord, client: redis.Redis
) -> None:
    taken(record).not_begun("default 1.5")
    client.hset("stenopool:job:{j}", "waiting_since", 1_700_000_000)
    moment = datetime.fromtimestamp(1_700_000_000).astimezone().isoformat(" ", "seconds")
    lines = dict(line.split(None, 1) for line in stenopool("status", "j").stdout.splitlines())
    assert (lines["state"], lines["waiting_since"]) == ("queued", moment)
    fields = json.loads(stenopool("status", "--json", "j").stdout)
    assert (fields["waiting_since"], fields["place"]) == (1_700_000_000, "default 1.5")


@pytest.mark.parametrize("command", ["status", "watch"])
def test_an_unknown_job_is_a_sentence(app: Celery, command: str) -> None:
    done = stenopool(command, "no-such-job")
    assert (done.exit_code, done.stdout) == (1, "") and "Redis knows no job no-such-job" in done.stderr


# -- cancel ------------------------------------------------------------------------------------------------------------

CANCEL = "stenopool:job:{j}:cancel"


@pytest.mark.parametrize("is_known", [True, False])
def test_a_job_that_has_not_begun_is_cancelled_when_its_turn_comes(
    app: Celery, record: JobRecord, client: redis.Redis, is_known: bool
) -> None:
    if is_known:
        record.queued("https://host/call.mp3")
    done = stenopool("cancel", "j")
    assert (done.exit_code, done.stdout) == (0, "") and "cancelled when its turn comes" in done.stderr
    assert 0 < int(str(client.ttl(CANCEL))) <= settings().job.ttl
    claim = record.claim("https://host/call.mp3", "w@h")
    assert isinstance(claim, Claimed) and claim.cancelled


def test_so_is_one_that_waits_for_its_next_attempt(app: Celery, record: JobRecord, client: redis.Redis) -> None:
    taken(record).waiting("throttled", "Later.")
    assert "cancelled when its turn comes" in stenopool("cancel", "j").stderr and client.exists(CANCEL)


def test_so_is_one_that_waits_for_quota_in_the_queue(app: Celery, record: JobRecord, client: redis.Redis) -> None:
    taken(record).not_begun("default 1.5")
    assert "cancelled when its turn comes" in stenopool("cancel", "j").stderr and client.exists(CANCEL)


class Obedient(threading.Thread):
    """A worker that looks for a job's key, and ends it."""

    def __init__(self, record: JobRecord, client: redis.Redis, end: Callable[[JobRecord], None]) -> None:
        super().__init__(daemon=True)
        self._record, self._client, self._end = record, client, end

    def run(self) -> None:
        until = time.monotonic() + PATIENCE
        while not self._client.exists(CANCEL):
            assert time.monotonic() < until
            time.sleep(0.01)
        self._end(self._record)


def test_one_that_waits_for_quota_in_a_worker_is_waited_for(
    app: Celery, record: JobRecord, client: redis.Redis
) -> None:
    taken(record).waits()
    worker = Obedient(record, client, lambda record: record.cancelled())
    worker.start()
    done = stenopool("cancel", "j")
    worker.join(PATIENCE)
    assert (done.exit_code, done.stderr) == (0, "Cancelled.\n")


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (lambda record: record.cancelled(), "Cancelled.\n"),
        (lambda record: record.succeeded(result("Hello.")), "The job is asked to stop; see: stenopool status j\n"),
    ],
    ids=["it is cancelled", "it ends before"],
)
def test_one_that_runs_is_waited_for(
    app: Celery, record: JobRecord, client: redis.Redis, end: Callable[[JobRecord], None], said: str
) -> None:
    worker = Obedient(taken(record), client, end)
    worker.start()
    done = stenopool("cancel", "j")
    worker.join(PATIENCE)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", said)


def test_one_that_does_not_end_in_time_is_said_to_be_asked(
    app: Celery, record: JobRecord, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert module.CANCEL_TAKES == 5.0
    monkeypatch.setattr(module, "CANCEL_TAKES", 0.0)
    taken(record)
    done = stenopool("cancel", "j")
    assert done.exit_code == 0 and "is asked to stop; see: stenopool status j" in done.stderr
    assert client.exists(CANCEL)


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (lambda record: record.succeeded(result("Hello.")), "succeeded"),
        (lambda record: record.failed("not_audio", "It is not audio."), "failed"),
        (lambda record: record.cancelled(), "cancelled"),
    ],
    ids=["succeeded", "failed", "cancelled"],
)
def test_of_one_that_has_ended_nothing_is_left_to_cancel(
    app: Celery, record: JobRecord, client: redis.Redis, end: Callable[[JobRecord], None], state: str
) -> None:
    end(taken(record))
    done = stenopool("cancel", "j")
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"Nothing is left to cancel: the job is {state}." in done.stderr and not client.exists(CANCEL)


@pytest.mark.parametrize("command", ["status", "watch", "cancel"])
def test_an_id_that_no_job_can_have_is_a_sentence(
    app: Celery, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert run_main(monkeypatch, command, "no such job") == 1
    assert "no such job" in capsys.readouterr().err


# -- doctor and the rest -----------------------------------------------------------------------------------------------


def test_the_doctor_s_exit_code_is_0_when_all_is_well(start_app: Start, hire: Hire) -> None:
    with BackgroundEmulator() as emulator:
        hire(start_app(DASHSCOPE_WEBSOCKET_BASE_URL=emulator.url, DASHSCOPE_API_KEY="k"))
        done = stenopool("doctor")
    assert (done.exit_code, done.stderr) == (0, "") and "✗" not in done.stdout


def test_the_doctor_s_exit_code_is_1_when_something_is_wrong(
    given: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    given()
    monkeypatch.setenv("STENOPOOL_JOB_TTL", "1")
    done = stenopool("doctor")
    assert done.exit_code == 1 and "STENOPOOL_JOB_TTL=1" in done.stdout


def run_main(monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    """The exit code of the console script."""
    monkeypatch.setattr(sys, "argv", ["stenopool", *words])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


@pytest.mark.parametrize("words", [("status", "j"), ("cancel", "j"), ("transcribe", "https://host/a.wav")])
def test_no_redis_is_a_sentence(
    start_app: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    start_app(STENOPOOL_REDIS_URL=f"redis://:hush@127.0.0.1:{free_port()}/0")

    assert run_main(monkeypatch, *words) == 1

    shown = capsys.readouterr()
    assert "Redis cannot be used" in shown.err and "stenopool doctor" in shown.err
    assert shown.out == "" and "hush" not in shown.err and "Traceback" not in shown.err


def test_help_needs_no_settings(given: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    given()
    monkeypatch.setenv("STENOPOOL_JOB_TTL", "1")
    done = stenopool("--help")
    assert done.exit_code == 0
    assert all(
        command in done.stdout for command in ("transcribe", "status", "watch", "cancel", "pool", "quota", "doctor")
    )


def test_the_version_is_that_of_the_package() -> None:
    assert "0.1.0" in stenopool("--version").stdout


def test_python_m_cli_is_the_console_script(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["stenopool", "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("cli", run_name="__main__")
    assert end.value.code == 0 and "Turn audio references into transcripts." in capsys.readouterr().out
