import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery import Celery
from celery.exceptions import Reject, Retry

from config.settings import JobSettings
from emulator.background import BackgroundEmulator
from emulator.faults import Fault
from emulator.stack import free_port
from tasks.errors import BadInput, JobError, Refused, Unavailable
from tasks.job.record import JobRecord
from tasks.job.view import JobView
from tasks.transcribe import transcribe
from worker.runtime import redis_client, runtime

Ready = Callable[..., Celery]
DRAWS = 20
"""Draws of a random back-off that a test looks at."""


@pytest.fixture
def view(client: redis.Redis) -> JobView:
    return JobView(client, "j")


def states(view: JobView) -> list[str]:
    """The states that those who followed the job were told of, in order."""
    return [data["state"] for kind, data in view.events() if kind == "state"]


def attempt(*args: Any, number: int = 1, **options: Any) -> Any:
    """One attempt of the job `j` as a worker runs it: unlike `apply`, a retry goes back to the queue."""
    transcribe.push_request(
        id="j", args=args, kwargs=options, retries=number - 1, called_directly=False, hostname="w@h", delivery_info={}
    )
    try:
        return transcribe.run(*args, **options)
    finally:
        transcribe.pop_request()


def test_a_recording_becomes_a_transcript_in_the_result_and_in_the_record(
    worker: Ready, counted: str, view: JobView, emulator: BackgroundEmulator
) -> None:
    worker()

    result = transcribe.apply((counted,), {"pace": 0, "metadata": {"case": 7}}, task_id="j").get()

    assert (result["job_id"], result["text"], result["attempts"]) == ("j", "0-3199", 1)
    assert (result["audio"], result["duration_ms"], result["metadata"]) == (counted, 200, {"case": 7})
    fields = view.fields()
    assert json.loads(fields["result"]) == result
    assert (fields["state"], fields["attempts"], states(view)) == ("succeeded", "1", ["running", "succeeded"])
    assert (emulator.logbook.connections, emulator.logbook.streams) == (1, 1)


def test_the_next_job_of_a_process_reuses_the_connection(
    worker: Ready, counted: str, emulator: BackgroundEmulator
) -> None:
    worker()

    timings = [transcribe.apply((counted,), {"pace": 0}).get()["timing"] for _ in range(3)]

    assert [timing["reused_connection"] for timing in timings] == [False, True, True]
    assert (emulator.logbook.connections, emulator.logbook.streams) == (1, 3)


def test_a_job_knows_how_long_it_was_queued(worker: Ready, counted: str, client: redis.Redis) -> None:
    worker()
    JobRecord(client, "j", ttl=100).queued(counted)
    result = transcribe.apply((counted,), {"pace": 0}, task_id="j").get()
    assert 0 <= result["timing"]["queued_ms"] < 60_000


@pytest.mark.parametrize("task_id", ["", "a b", "a{b}", "a\nb", "x" * 201])
def test_an_id_that_would_break_keys_or_log_lines_is_refused(worker: Ready, counted: str, task_id: str) -> None:
    worker()
    transcribe.push_request(id=task_id, args=(counted,), kwargs={}, retries=0, called_directly=False)
    try:
        with pytest.raises(BadInput) as error:
            transcribe.run(counted)
    finally:
        transcribe.pop_request()
    assert error.value.code == "bad_request" and "\n" not in error.value.sentence


def test_the_message_of_the_next_try_shows_no_secret(worker: Ready) -> None:
    worker()
    address = "https://u:p@h/a.mp3?sig=secret"
    transcribe.push_request(id="j", args=(address,), kwargs={"metadata": {"x": "secret"}}, retries=0)
    try:
        signature = transcribe.signature_from_request()
    finally:
        transcribe.pop_request()
    assert signature.args == (address,)
    assert signature.options["argsrepr"] == "('https://h/a.mp3',)"
    assert signature.options["kwargsrepr"] == "{'metadata': '…'}"


@pytest.mark.parametrize(
    ("args", "options", "code"),
    [
        ((), {}, "bad_request"),
        (("file:///a", "file:///b"), {}, "bad_request"),
        ((7,), {}, "bad_request"),
        (("file:///a",), {"modle": "x"}, "bad_request"),
        (("file:///a",), {"formats": ["srt"]}, "unsupported_option"),
        (("gopher://host/a",), {}, "unsupported_scheme"),
        (("file:///outside",), {}, "forbidden_path"),
        (("http://127.0.0.1:1/a.wav",), {}, "forbidden_address"),
    ],
)
def test_bad_input_fails_at_once_and_asks_nothing_of_the_service(
    worker: Ready, view: JobView, emulator: BackgroundEmulator, args: Any, options: dict[str, Any], code: str
) -> None:
    worker()

    failed = transcribe.apply(args, options, task_id="j")

    assert failed.state == "FAILURE" and type(failed.result) is BadInput
    assert failed.result.code == code and failed.result.__suppress_context__
    fields = view.fields()
    assert (fields["state"], fields["error_code"], fields["error"]) == ("failed", code, failed.result.sentence)
    assert float(fields["ended_at"]) > 0 and "queued" not in states(view)
    assert emulator.logbook.tcp == 0


def test_what_the_service_declines_is_not_tried_again(
    worker: Ready, counted: str, view: JobView, emulator: BackgroundEmulator
) -> None:
    worker()

    failed = transcribe.apply((counted,), {"pace": 0, "model": "parrot-1"}, task_id="j")

    assert type(failed.result) is Refused and failed.result.code == "unknown_model"
    assert (view.fields()["attempts"], states(view)) == ("1", ["running", "failed"])
    assert len(emulator.logbook.tasks) == 1


def test_a_fault_of_the_service_is_tried_again_until_it_is_over(
    worker: Ready, counted: str, view: JobView, emulator: BackgroundEmulator
) -> None:
    worker()
    emulator.faults.add(Fault(kind="task_failed", times=2))

    result = transcribe.apply((counted,), {"pace": 0}, task_id="j").get()

    assert (result["text"], result["attempts"]) == ("0-3199", 3)
    assert states(view) == ["running", "queued"] * 2 + ["running", "succeeded"]
    assert "error" not in view.fields() and "error_code" not in view.fields()


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_a_fault_that_stays_ends_the_job_after_the_retries_that_are_allowed(
    worker: Ready, counted: str, view: JobView, emulator: BackgroundEmulator, retries: int
) -> None:
    worker(STENOPOOL_JOB_RETRIES=str(retries))
    emulator.faults.add(Fault(kind="task_failed", times=99))

    failed = transcribe.apply((counted,), {"pace": 0}, task_id="j")

    assert type(failed.result) is Unavailable and failed.result.code == "server_fault"
    assert states(view) == ["running", "queued"] * retries + ["running", "failed"]
    assert (view.fields()["attempts"], view.fields()["error_code"]) == (str(retries + 1), "server_fault")
    assert len(emulator.logbook.tasks) == retries + 1


def test_between_two_attempts_the_record_says_why_and_the_job_is_on_the_queue(
    worker: Ready, counted: str, view: JobView, emulator: BackgroundEmulator, client: redis.Redis
) -> None:
    app = worker()
    emulator.faults.add(Fault(kind="task_failed"))

    with pytest.raises(Retry) as again:
        attempt(counted, pace=0)

    assert isinstance(again.value.exc, Unavailable)
    fields = view.fields()
    assert (fields["state"], fields["error_code"]) == ("queued", "server_fault") and "ended_at" not in fields
    with app.connection_for_read() as connection:
        waiting: Any = connection.SimpleQueue("transcribe").get(block=False)
    assert (waiting.headers["id"], waiting.headers["retries"]) == ("j", 1)
    assert waiting.payload[:2] == [[counted], {"pace": 0}] and waiting.headers["eta"]


@pytest.mark.parametrize(
    ("number", "most"),
    [(1, 2.0), (2, 4.0), (3, 5.0), (100, 5.0)],
)
def test_the_wait_doubles_up_to_its_bound_and_is_drawn_from_all_of_it(
    worker: Ready, counted: str, emulator: BackgroundEmulator, number: int, most: float
) -> None:
    assert (JobSettings().backoff, JobSettings().backoff_max) == (2.0, 120.0)
    worker(STENOPOOL_JOB_RETRIES="100", STENOPOOL_JOB_BACKOFF_MAX="5")
    emulator.faults.add(Fault(kind="task_failed", times=DRAWS))

    waits: list[Any] = []
    for _ in range(DRAWS):
        with pytest.raises(Retry) as again:
            attempt(counted, number=number, pace=0)
        waits.append(again.value.when)

    assert all(isinstance(wait, float) and 0 <= wait <= most for wait in waits)
    # Full jitter: twenty draws that all fall into one half come once in half a million runs.
    assert min(waits) < most / 2 < max(waits)


def test_the_last_attempt_fails_with_the_error_itself(
    worker: Ready, counted: str, view: JobView, emulator: BackgroundEmulator
) -> None:
    worker(STENOPOOL_JOB_RETRIES="1")
    emulator.faults.add(Fault(kind="task_failed"))

    with pytest.raises(Unavailable) as error:
        attempt(counted, number=2, pace=0)

    assert error.value.code == "server_fault" and error.value.__suppress_context__
    assert view.fields()["state"] == "failed"


def test_a_fault_of_ours_is_an_internal_error_that_the_log_can_place_without_quoting_it(
    worker: Ready, view: JobView, caplog: pytest.LogCaptureFixture
) -> None:
    worker()
    broken: Any = runtime()
    http, broken.http = broken.http, None

    with caplog.at_level(logging.ERROR, "worker.tasks"):
        failed = transcribe.apply(("https://host/a.wav?sig=secret",), task_id="j")
    broken.http = http

    assert type(failed.result) is JobError
    code, sentence = failed.result.args
    assert code == "internal_error" and sentence.startswith("A fault in Stenopool (AttributeError)")
    assert failed.result.__suppress_context__
    assert (view.fields()["state"], view.fields()["error_code"]) == ("failed", "internal_error")
    assert states(view) == ["running", "failed"]
    (logged,) = [record for record in caplog.records if record.name == "worker.tasks"]
    assert logged.getMessage().startswith("job j failed unexpectedly: AttributeError at ")
    assert "transcription.py" in logged.getMessage() and "secret" not in logged.getMessage()


def test_a_record_that_cannot_be_written_leaves_the_job_to_another_try(worker: Ready, counted: str) -> None:
    worker()
    broken: Any = runtime()
    broken.redis = redis_client(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(Retry) as again:
        attempt(counted, pace=0)
    assert "redis_unavailable" in str(again.value.exc)


def test_a_queue_that_takes_no_next_try_keeps_the_message_it_has(worker: Ready, counted: str) -> None:
    worker(STENOPOOL_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(Reject) as rejected:
        attempt(counted, pace=0)
    reject: Any = rejected.value  # whose stub lacks it
    assert reject.requeue is True


def test_the_limits_of_the_settings_hold_for_the_audio(worker: Ready, counted: str) -> None:
    worker(STENOPOOL_AUDIO_MAX_SECONDS="0.1")
    failed: Any = transcribe.apply((counted,), {"pace": 0}).result
    assert failed.code == "audio_too_long"
