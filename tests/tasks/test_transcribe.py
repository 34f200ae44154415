import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from queue import Empty
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery import Celery
from celery.app.trace import build_tracer
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded, TaskRevokedError
from celery.result import denied_join_result

from emulator.background import BackgroundEmulator
from emulator.faults import Fault
from emulator.stack import free_port
from tasks.errors import BadInput, JobError, Refused, Unavailable
from tasks.job.keys import JobKeys
from tasks.job.outbox import Due, Outbox
from tasks.job.record import JobRecord
from tasks.job.view import JobView
from tasks.shell import JobTask
from tasks.transcribe import transcribe
from tests.fakes import FakePlaces, FakeRecognizer, FakeRecognizers
from tests.receivers import SECRET
from tests.recordings import counting, written
from tests.tasks.scene import states
from worker import beat
from worker.quota import Allowance, Ledger, NoQuota, Wish
from worker.runtime import redis_client, runtime
from worker.stops import Stops

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")
"""Celery's backend is behind redis-py."""

Ready = Callable[..., Celery]
KEYS = JobKeys("j")
LEASE = 15.0
SIGNED = "https://u:p@h/a.mp3?sig=secret"

LONG = "0-15999 16000-31999 32000-47999 48000-63999"
"""The transcript of four seconds of samples that count up."""


@pytest.fixture
def long(tmp_path: Path) -> str:
    """The reference of such a recording."""
    return written(tmp_path, counting(4)).as_uri()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The heart beats fast."""
    assert beat.BEAT_EVERY == 1.0
    monkeypatch.setattr(beat, "BEAT_EVERY", 0.02)


def attempt(*args: Any, retries: int = 0, waits: bool = False, queue: str = "", **options: Any) -> Any:
    """One attempt of the job `j` as a worker runs it: unlike `apply`, a retry goes back to the queue.

    `waits`: tasks may wait for the results of others, as Celery allows under gevent and nowhere else. `queue`: by which
    the message has come; if it is not given, the message does not say so.
    """
    transcribe.push_request(
        id="j",
        args=args,
        kwargs=options,
        retries=retries,
        called_directly=False,
        hostname="w@h",
        delivery_info={"exchange": "", "routing_key": queue, "priority": 0} if queue else {},
    )
    try:
        with nullcontext() if waits else denied_join_result():
            return transcribe.run(*args, **options)
    finally:
        transcribe.pop_request()


def queued(app: Celery, name: str = "transcribe") -> list[Any]:
    """The messages on a queue, that of our own clients if none is named."""
    with app.connection_for_read() as connection:
        queue: Any = connection.SimpleQueue(name)
        found = []
        with suppress(Empty):
            while True:
                found.append(queue.get(block=False))
        return found


def holder(client: redis.Redis) -> JobRecord:
    """Another worker has the job."""
    record = JobRecord(client, "j", ttl=100, lease=LEASE)
    record.claim("https://h/a.mp3", "other@h")
    return record


@contextmanager
def places(recognizers: FakeRecognizers) -> Iterator[FakePlaces]:
    """Where jobs of this process get quota and recognisers, for the length of the block."""
    house: Any = runtime()
    accounts, found = house.accounts, FakePlaces(lambda: recognizers)
    house.accounts = SimpleNamespace(place=found, all=())
    try:
        yield found
    finally:
        house.accounts = accounts


def requeues(rejected: Any) -> bool:
    """Whether a message that was rejected goes back to the queue; Celery's stub lacks it."""
    return rejected.requeue is True


# -- a job that goes well ----------------------------------------------------------------------------------------------


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


def test_who_is_first_with_a_key_is_known_for_as_long_as_a_job_may_take(
    worker: Ready, counted: str, client: redis.Redis
) -> None:
    """Also when what jobs leave is forgotten sooner."""
    worker(STENOPOOL_JOB_TTL="60", STENOPOOL_JOB_DEADLINE="1000")
    transcribe.apply((counted,), {"pace": 0, "idempotency_key": "k"}, task_id="j").get()
    (key,) = client.scan_iter("stenopool:same:*")
    assert 900 < int(client.ttl(key)) <= 1000


def test_a_job_knows_how_long_it_was_queued(worker: Ready, counted: str, client: redis.Redis) -> None:
    worker()
    JobRecord(client, "j", ttl=100, lease=LEASE).queued(counted)
    result = transcribe.apply((counted,), {"pace": 0}, task_id="j").get()
    assert 0 <= result["timing"]["queued_ms"] < 60_000


def test_a_stream_that_breaks_is_gone_on_with_from_its_last_sentence(
    worker: Ready, long: str, view: JobView, emulator: BackgroundEmulator
) -> None:
    worker(STENOPOOL_JOB_BACKOFF="0.01")
    for _ in range(2):
        emulator.faults.add(Fault(kind="abort", after_ms=1500))

    result = attempt(long, pace=20)

    assert result["text"] == LONG and (result["attempts"], result["resumes"]) == (1, 2)
    assert [one["begin_time"] for one in result["sentences"]] == [0, 1000, 2000, 3000]
    assert result["sentences"] == view.sentences() and result["usage"]["streams"] == 3
    firsts = [task.first_sample for task in emulator.logbook.tasks]
    assert firsts == [0, 16_000, 32_000] and states(view) == ["running", "succeeded"]


@pytest.mark.parametrize("kind", ["abort", "no_task_finished"])
def test_one_that_breaks_when_all_was_heard_costs_nothing(
    worker: Ready, long: str, view: JobView, emulator: BackgroundEmulator, kind: str
) -> None:
    worker(STENOPOOL_JOB_BACKOFF="0.01", DASHSCOPE_READ_TIMEOUT="0.3")
    emulator.faults.add(Fault(kind=kind, at="finish"))

    result = attempt(long, pace=0)

    assert result["text"] == LONG and (result["attempts"], result["resumes"]) == (1, 0)
    assert (result["duration_ms"], result["usage"]["sent_ms"]) == (4000, 4000)
    assert [task.audio_bytes for task in emulator.logbook.tasks] == [128_000]


def test_the_limits_of_the_settings_hold_for_the_audio(worker: Ready, counted: str) -> None:
    worker(STENOPOOL_AUDIO_MAX_SECONDS="0.1")
    failed: Any = transcribe.apply((counted,), {"pace": 0}).result
    assert failed.code == "audio_too_long"


# -- failed ------------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("args", "options", "code", "audio"),
    [
        ((), {}, "bad_request", None),
        (("file:///a", "file:///b"), {}, "bad_request", "file:///a"),
        ((7,), {}, "bad_request", None),
        (("file:///a",), {"modle": "x"}, "bad_request", "file:///a"),
        ((), {"audio": "file:///a", "modle": "x"}, "bad_request", "file:///a"),
        (("file:///a",), {"formats": ["doc"]}, "bad_request", "file:///a"),
        (("gopher://host/a",), {}, "unsupported_scheme", None),
        (("file:///outside",), {}, "forbidden_path", "file:///outside"),
        (("http://u:p@127.0.0.1:1/a.wav?sig=secret",), {}, "forbidden_address", "http://127.0.0.1:1/a.wav"),
    ],
)
def test_bad_input_fails_at_once_and_asks_nothing_of_the_service(
    worker: Ready,
    view: JobView,
    emulator: BackgroundEmulator,
    args: Any,
    options: dict[str, Any],
    code: str,
    audio: str | None,
) -> None:
    worker()

    failed = transcribe.apply(args, options, task_id="j")

    assert failed.state == "FAILURE" and type(failed.result) is BadInput
    assert failed.result.code == code and failed.result.__suppress_context__
    fields = view.fields()
    assert (fields["state"], fields["error_code"], fields["error"]) == ("failed", code, failed.result.sentence)
    assert float(fields["ended_at"]) > 0 and states(view) == ["running", "failed"]
    assert emulator.logbook.tcp == 0 and fields.get("audio") == audio


def test_what_the_service_declines_is_not_tried_again(
    worker: Ready, counted: str, view: JobView, emulator: BackgroundEmulator
) -> None:
    worker()

    failed = transcribe.apply((counted,), {"pace": 0, "model": "parrot-1"}, task_id="j")

    assert type(failed.result) is Refused and failed.result.code == "unknown_model"
    assert (view.fields()["attempts"], states(view)) == ("1", ["running", "failed"])
    assert len(emulator.logbook.tasks) == 1


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


def test_a_time_limit_of_the_worker_s_is_said(worker: Ready, counted: str, view: JobView) -> None:
    worker()
    with places(FakeRecognizers(SoftTimeLimitExceeded())), pytest.raises(JobError) as error:
        attempt(counted, pace=0)

    assert type(error.value) is JobError and error.value.code == "time_limit"
    assert view.fields()["error_code"] == "time_limit"


# -- tried again -------------------------------------------------------------------------------------------------------


def test_a_fault_of_the_service_is_tried_again_until_it_is_over(
    worker: Ready, counted: str, view: JobView, emulator: BackgroundEmulator
) -> None:
    worker()
    emulator.faults.add(Fault(kind="task_failed", times=2))

    result = transcribe.apply((counted,), {"pace": 0}, task_id="j").get()

    assert (result["text"], result["attempts"], result["resumes"]) == ("0-3199", 3, 0)
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
    worker: Ready, counted: str, view: JobView, emulator: BackgroundEmulator
) -> None:
    app = worker()
    emulator.faults.add(Fault(kind="task_failed"))

    with pytest.raises(Ignore):
        attempt(counted, pace=0)

    fields = view.fields()
    assert (fields["state"], fields["error_code"]) == ("queued", "server_fault") and "ended_at" not in fields
    (waiting,) = queued(app)
    assert (waiting.headers["id"], waiting.headers["retries"]) == ("j", 1)
    assert waiting.payload[:2] == [[counted], {"pace": 0}] and waiting.headers["eta"]
    assert waiting.headers["argsrepr"] == f"('{counted}',)"


def test_that_a_job_is_tried_again_is_told_by_an_event(
    worker: Ready, counted: str, emulator: BackgroundEmulator, caplog: pytest.LogCaptureFixture
) -> None:
    app = worker()
    emulator.faults.add(Fault(kind="task_failed"))
    heard: list[dict[str, Any]] = []
    with app.connection_for_read() as connection:
        receiver: Any = app.events.Receiver(connection, handlers={"task-retried": heard.append})
        with receiver.consumer_context() as (listening, _, _), caplog.at_level(logging.INFO, "worker.tasks"):
            with suppress(TimeoutError):
                listening.drain_events(timeout=0.01)  # listening begins with the first look
            with pytest.raises(Ignore):
                attempt(counted, pace=0)
            while not heard:
                listening.drain_events(timeout=10)
    assert [one["uuid"] for one in heard] == ["j"] and heard[0]["exception"].startswith("Unavailable('server_fault'")
    assert re.search(r"job j is tried again in [0-2]\.\d s: server_fault", caplog.text)


def test_that_nobody_can_be_told_of_it_changes_nothing_for_the_job(
    worker: Ready, counted: str, emulator: BackgroundEmulator, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    app = worker()
    emulator.faults.add(Fault(kind="task_failed"))
    monkeypatch.setattr(JobTask, "send_event", lambda *_, **__: 1 / 0)
    with pytest.raises(Ignore):
        attempt(counted, pace=0)
    assert len(queued(app)) == 1
    assert "job j: nobody could be told of its task-retried (ZeroDivisionError)" in caplog.text


def test_an_attempt_that_is_left_writes_nothing_where_the_next_one_s_result_belongs(
    worker: Ready, counted: str, emulator: BackgroundEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one may have ended before the first has come to say that there will be one."""
    app = worker()
    emulator.faults.add(Fault(kind="task_failed"))
    stored: list[str] = []
    store = app.backend.store_result

    def noted(task_id: str, result: object, state: str, **more: Any) -> Any:
        stored.append(state)
        return store(task_id, result, state, **more)

    monkeypatch.setattr(app.backend, "store_result", noted)
    trace: Any = build_tracer(transcribe.name, app.tasks[transcribe.name], app=app)
    request = {"id": "j", "hostname": "w@h", "delivery_info": {}, "is_eager": False}
    with denied_join_result():
        trace("j", [counted], {"pace": 0}, request)
        assert stored == ["STARTED"] and len(queued(app)) == 1
        trace("j", [counted], {"pace": 0}, request)
    assert stored == ["STARTED", "STARTED", "SUCCESS"]


def test_celery_s_own_count_of_tries_ends_no_job(worker: Ready, counted: str, emulator: BackgroundEmulator) -> None:
    app = worker()
    emulator.faults.add(Fault(kind="task_failed"))
    with pytest.raises(Ignore):
        attempt(counted, retries=1000, pace=0)
    assert [one.headers["retries"] for one in queued(app)] == [1001]


def test_the_last_attempt_fails_with_the_error_itself(
    worker: Ready, counted: str, view: JobView, emulator: BackgroundEmulator
) -> None:
    worker(STENOPOOL_JOB_RETRIES="1")
    emulator.faults.add(Fault(kind="task_failed", times=2))

    with pytest.raises(Ignore):
        attempt(counted, pace=0)
    with pytest.raises(Unavailable) as error:
        attempt(counted, pace=0)

    assert error.value.code == "server_fault" and error.value.__suppress_context__
    assert view.fields()["state"] == "failed"


def test_a_record_that_cannot_be_written_leaves_the_job_to_another_try(
    worker: Ready, counted: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = worker()
    broken: Any = runtime()
    broken.redis = redis_client(f"redis://127.0.0.1:{free_port()}/0")
    with caplog.at_level(logging.INFO, "worker.tasks"), pytest.raises(Ignore):
        attempt(counted, pace=0)
    assert re.search(r"job j is tried again in [1-5]\.\d s: redis_unavailable", caplog.text)
    assert len(queued(app)) == 1


def test_a_queue_that_takes_no_next_try_keeps_the_message_it_has(worker: Ready, counted: str) -> None:
    worker(STENOPOOL_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(Reject) as rejected:
        attempt(counted, pace=0)
    assert requeues(rejected.value) and rejected.value.__suppress_context__


# -- the account's quota -----------------------------------------------------------------------------------------------

MODEL = "paraformer-realtime-v2"


@pytest.mark.parametrize("queue", ["transcribe.interactive", "transcribe", "celery", "transcribe.bulk"])
def test_a_job_wishes_for_quota_by_the_queue_that_its_message_came_by(worker: Ready, counted: str, queue: str) -> None:
    worker()
    with places(FakeRecognizers(FakeRecognizer())) as found:
        attempt(counted, queue=queue, pace=0, tenant="acme", account="default")
    assert found.wishes == [Wish(model=MODEL, queue=queue, tenant="acme", account="default")]


@pytest.mark.parametrize("delivery", [None, {}, {"routing_key": None}])
def test_a_message_that_does_not_say_where_it_came_from_is_done_all_the_same(
    worker: Ready, counted: str, delivery: Any
) -> None:
    worker()
    request = {"id": "j", "args": (counted,), "kwargs": {"pace": 0}, "called_directly": False, "hostname": "w@h"}
    transcribe.push_request(**request, delivery_info=delivery)
    try:
        with places(FakeRecognizers(FakeRecognizer())) as found:
            transcribe.run(counted, pace=0)
    finally:
        transcribe.pop_request()
    assert found.wishes == [Wish(model=MODEL, queue="")]


def test_a_job_that_waits_for_quota_in_vain_is_sent_again_for_later_to_its_queue_and_that_is_no_new_try(
    worker: Ready, counted: str, view: JobView, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = worker()
    events: list[str] = []
    monkeypatch.setattr(JobTask, "send_event", lambda _, kind, **__: events.append(kind))
    began = time.time()
    with places(FakeRecognizers()) as found, caplog.at_level(logging.INFO, "worker.tasks"):
        found.errors = [NoQuota("default 7")]
        with pytest.raises(Ignore) as ignored:
            attempt(counted, queue="transcribe.bulk", retries=3, pace=0)

    assert ignored.value.__suppress_context__
    (message,) = queued(app, "transcribe.bulk")
    assert (message.headers["id"], message.headers["retries"], queued(app)) == ("j", 3, [])
    assert message.payload[:2] == [[counted], {"pace": 0}]
    eta = time.mktime(time.strptime(message.headers["eta"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    assert 0 <= eta - began <= 5  # one to three seconds, of which it shows the whole ones
    assert events == [] and "is tried again" not in caplog.text
    assert (view.fields()["state"], view.fields()["place"]) == ("queued", "default 7")
    assert app.AsyncResult("j").state == "PENDING"


def test_it_is_the_first_of_its_queue_again(worker: Ready, counted: str) -> None:
    app = worker()
    app.send_task("tasks.transcribe", (counted,), task_id="other")
    with places(FakeRecognizers()) as found, pytest.raises(Ignore):
        found.errors = [NoQuota("default 7")]
        attempt(counted, queue="transcribe", pace=0)
    assert [message.headers["id"] for message in queued(app)] == ["j", "other"]


def test_a_queue_that_does_not_take_it_keeps_the_message_it_has(worker: Ready, counted: str, client: Any) -> None:
    worker(STENOPOOL_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    house: Any = runtime()
    house.redis = client
    with places(FakeRecognizers()) as found, pytest.raises(Reject) as rejected:
        found.errors = [NoQuota("default 7")]
        attempt(counted, pace=0)
    assert requeues(rejected.value) and rejected.value.__suppress_context__


def test_whoever_has_the_account_s_last_slot_is_waited_for_and_then_the_job_goes(
    worker: Ready, counted: str, client: redis.Redis, view: JobView, emulator: BackgroundEmulator
) -> None:
    app = worker(STENOPOOL_QUOTA_STREAMS="1", STENOPOOL_QUOTA_PATIENCE="0.1")
    other = Ledger(client, "default", Allowance(streams=1, starts_per_second=20.0, opens_per_second=20.0))
    assert other.ask("other.1", Wish(model=MODEL), 1.0, "try").given

    with pytest.raises(Ignore):
        attempt(counted, queue="transcribe", pace=0)

    assert states(view) == ["running", "waiting for quota"] and not emulator.logbook.tasks
    place = view.fields()["place"]
    assert re.fullmatch(r"default [\d.e+]+", place) and len(queued(app)) == 1

    other.give_back(MODEL, "other.1")
    result = attempt(counted, queue="transcribe", pace=0)

    assert (result["text"], result["attempts"]) == ("0-3199", 1)
    assert states(view) == ["running", "succeeded"] and "place" not in view.fields()


# -- delivered twice ---------------------------------------------------------------------------------------------------


def test_who_finds_the_job_held_stands_down_and_leaves_a_message_like_his_own(
    worker: Ready, client: redis.Redis, view: JobView, emulator: BackgroundEmulator
) -> None:
    app = worker()
    holder(client)
    client.pexpire(KEYS.lease, 5000)
    before = view.fields()
    began = time.time()

    with pytest.raises(Ignore):
        attempt(SIGNED, retries=3, metadata={"x": "secret"})

    (message,) = queued(app)
    assert (message.headers["task"], message.headers["id"], message.headers["retries"]) == ("tasks.transcribe", "j", 3)
    assert message.payload[:2] == [[SIGNED], {"metadata": {"x": "secret"}}]
    assert (message.headers["argsrepr"], message.headers["kwargsrepr"]) == ("('https://h/a.mp3',)", "{'metadata': '…'}")
    eta = time.mktime(time.strptime(message.headers["eta"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    assert 3 <= eta - began <= 8
    assert view.fields() == before and emulator.logbook.tcp == 0
    assert app.AsyncResult("j").state == "PENDING"  # that it waits is no news of the job


def test_who_has_lost_the_job_leaves_a_message_too(
    worker: Ready, long: str, client: redis.Redis, view: JobView, emulator: BackgroundEmulator
) -> None:
    app = worker()

    def overtake() -> None:
        wait_for_a_sentence(view)
        client.delete(KEYS.lease)
        holder(client)

    overtaking = threading.Thread(target=overtake, daemon=True)
    overtaking.start()
    with pytest.raises(Ignore):
        attempt(long, pace=2)
    overtaking.join()

    (message,) = queued(app)
    assert message.headers["id"] == "j" and message.headers["eta"]
    assert (view.fields()["state"], view.fields()["worker"]) == ("running", "other@h")


@pytest.mark.parametrize("waits", [False, True], ids=["prefork, threads, solo", "gevent"])
def test_a_queue_that_takes_no_message_of_one_who_stands_down_keeps_his_own(
    worker: Ready, client: redis.Redis, waits: bool
) -> None:
    app = worker(STENOPOOL_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    app.conf.result_backend_transport_options = {"retry_policy": {"max_retries": 1, "interval_max": 0.01}}
    house: Any = runtime()
    house.redis = client
    holder(client)
    with pytest.raises(Reject) as rejected:
        attempt(SIGNED, waits=waits)
    assert requeues(rejected.value) and rejected.value.__suppress_context__


def test_a_second_delivery_of_a_job_that_succeeded_gives_its_result_and_opens_nothing(
    worker: Ready, counted: str, view: JobView, emulator: BackgroundEmulator
) -> None:
    worker()
    first = transcribe.apply((counted,), {"pace": 0}, task_id="j").get()
    before, streams = view.fields(), emulator.logbook.streams

    second = transcribe.apply((counted,), {"pace": 0}, task_id="j")

    assert (second.state, second.result) == ("SUCCESS", first)
    assert view.fields() == before and emulator.logbook.streams == streams
    assert states(view) == ["running", "succeeded"]


def test_one_of_a_job_that_failed_gives_its_error(
    worker: Ready, counted: str, view: JobView, emulator: BackgroundEmulator
) -> None:
    worker()
    first: Any = transcribe.apply((counted,), {"pace": 0, "model": "parrot-1"}, task_id="j").result
    before, tasks = view.fields(), len(emulator.logbook.tasks)

    second = transcribe.apply((counted,), {"pace": 0, "model": "parrot-1"}, task_id="j")

    assert second.state == "FAILURE" and isinstance(second.result, JobError)
    assert second.result.args == first.args and not second.result.retryable
    assert view.fields() == before and len(emulator.logbook.tasks) == tasks


@pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")  # which is Celery's own
@pytest.mark.parametrize("how", ["done", "failed"])
def test_one_whose_end_celery_knows_tells_it_no_more_so_that_nothing_linked_to_it_is_done_twice(
    worker: Ready, counted: str, how: str
) -> None:
    app = worker()
    options: dict[str, Any] = {"pace": 0} | ({"model": "parrot-1"} if how == "failed" else {})
    ended: Any = transcribe.apply((counted,), options, task_id="j")
    if ended.state == "SUCCESS":
        app.backend.mark_as_done("j", ended.result)
    else:
        app.backend.mark_as_failure("j", ended.result)
    with pytest.raises(Ignore):
        attempt(counted, **options)


# -- the worker ends ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [False, True], ids=["after its sentence", "at once"])
def test_a_job_is_handed_back_to_the_queue_when_the_worker_ends(
    worker: Ready,
    long: str,
    client: redis.Redis,
    view: JobView,
    emulator: BackgroundEmulator,
    hasty: None,
    at_once: bool,
) -> None:
    app = worker()
    began: list[float] = []
    house: Any = runtime()
    house.stops = Stops(lambda: 1.0 if began else None, patience=0.5 if at_once else 60.0)

    def end() -> None:
        wait_for_a_sentence(view)
        began.append(time.monotonic())

    ending = threading.Thread(target=end, daemon=True)
    ending.start()
    with pytest.raises(Reject) as rejected:
        attempt(long, pace=1)
    ending.join()

    assert requeues(rejected.value) and rejected.value.__suppress_context__
    assert time.monotonic() - began[0] < (0.9 if at_once else 1.9)  # a sentence lasts a second
    assert queued(app) == []  # the message itself goes back
    fields = view.fields()
    kept = len(view.sentences())
    assert fields["state"] == "queued" and "error" not in fields and not client.exists(KEYS.lease)
    assert kept == (1 if at_once else 2)

    began.clear()
    result = attempt(long, pace=0)

    assert result["text"] == LONG and (result["attempts"], result["resumes"]) == (2, 1)
    assert emulator.logbook.tasks[-1].first_sample == 16_000 * kept


# -- cancelled ---------------------------------------------------------------------------------------------------------


def test_a_cancelled_job_is_revoked_to_celery_and_those_who_wait_for_it(
    worker: Ready, counted: str, client: redis.Redis, view: JobView, emulator: BackgroundEmulator
) -> None:
    app = worker()
    client.set(KEYS.cancel, "1", ex=100)
    heard: list[Any] = []
    with app.connection_for_read() as connection:
        receiver: Any = app.events.Receiver(connection, handlers={"task-revoked": heard.append})
        with receiver.consumer_context() as (listening, _, _):
            with suppress(TimeoutError):
                listening.drain_events(timeout=0.01)  # listening begins with the first look
            with pytest.raises(Ignore) as ignored:
                attempt(counted, pace=0)
            while not heard:
                listening.drain_events(timeout=5)

    assert ignored.value.__suppress_context__
    result: Any = app.AsyncResult("j")
    assert result.state == "REVOKED"
    with pytest.raises(TaskRevokedError):
        result.get(timeout=1)
    assert view.fields()["state"] == "cancelled" and emulator.logbook.tcp == 0
    assert [one["uuid"] for one in heard] == ["j"]


def test_one_that_runs_ends_within_a_beat_and_its_stream_is_closed(
    worker: Ready, long: str, client: redis.Redis, view: JobView, emulator: BackgroundEmulator, hasty: None
) -> None:
    app = worker()
    asked: list[float] = []

    def cancel() -> None:
        wait_for_a_sentence(view)
        asked.append(time.monotonic())
        client.set(KEYS.cancel, "1", ex=100)

    cancelling = threading.Thread(target=cancel, daemon=True)
    cancelling.start()
    with pytest.raises(Ignore):
        attempt(long, pace=1)
    cancelling.join()

    assert time.monotonic() - asked[0] < 0.9  # before the next sentence is complete
    result: Any = app.AsyncResult("j")
    assert result.state == "REVOKED" and view.fields()["state"] == "cancelled"
    assert [one["text"] for one in view.sentences()] == ["0-15999"] and not client.exists(KEYS.lease, KEYS.cancel)
    assert emulator.logbook.wait_until(lambda book: book.tasks[0].outcome == "lost")
    assert runtime().accounts.all[0].pool.stats()["leased"] == 0


def wait_for_a_sentence(view: JobView) -> None:
    until = time.monotonic() + 20
    while not view.sentences():
        assert time.monotonic() < until
        time.sleep(0.01)


# -- its end is told ---------------------------------------------------------------------------------------------------

APP = "https://app.example/told?token=token-4711"


def told(client: redis.Redis) -> dict[str, Any]:
    """The callback that is due."""
    found = Outbox(client, "j", ttl=100).take(1.0)
    assert isinstance(found, Due) and found.url == APP
    body: dict[str, Any] = json.loads(found.body)
    return body


def notices(app: Celery, queue: str = "transcribe") -> list[Any]:
    """What the messages on a queue that have callbacks delivered are about."""
    return [message.payload[0] for message in queued(app, queue) if message.headers["task"] == "tasks.notify"]


@pytest.mark.parametrize("queue", ["transcribe", "transcribe.bulk"])
def test_a_job_that_succeeds_calls_back(
    worker: Ready, counted: str, client: redis.Redis, view: JobView, queue: str
) -> None:
    app = worker(STENOPOOL_CALLBACK_SECRET=SECRET)

    result = attempt(counted, queue=queue, pace=0, callback_url=APP, metadata={"case": 7})

    body = told(client)
    assert (body["state"], body["result"], body["metadata"]) == ("succeeded", result, {"case": 7})
    assert notices(app, queue) == [["j"]] and view.fields()["callback"] == "due"


def test_so_does_one_that_fails(worker: Ready, counted: str, client: redis.Redis) -> None:
    app = worker(STENOPOOL_CALLBACK_SECRET=SECRET)
    with pytest.raises(Refused):
        attempt(counted, pace=0, model="parrot-1", callback_url=APP)
    body = told(client)
    assert (body["state"], body["error_code"], body["result"]) == ("failed", "unknown_model", None)
    assert notices(app) == [["j"]]


def test_so_does_one_that_was_cancelled_before_it_began(worker: Ready, counted: str, client: redis.Redis) -> None:
    app = worker(STENOPOOL_CALLBACK_SECRET=SECRET)
    client.set(KEYS.cancel, "1", ex=100)
    with pytest.raises(Ignore):
        attempt(counted, pace=0, callback_url=APP, metadata={"case": 7})
    body = told(client)
    assert (body["state"], body["error_code"], body["metadata"]) == ("cancelled", None, {"case": 7})
    assert notices(app) == [["j"]]


@pytest.mark.parametrize("wrong", [{"modle": "x"}, {"metadata": "text"}, {"pace": "fast"}, {"formats": ["pdf"]}])
def test_so_does_one_whose_other_options_are_wrong(
    worker: Ready, counted: str, client: redis.Redis, wrong: dict[str, Any]
) -> None:
    app = worker(STENOPOOL_CALLBACK_SECRET=SECRET)
    with pytest.raises(BadInput):
        attempt(counted, callback_url=APP, **{"metadata": {"case": 7}} | wrong)
    body = told(client)
    assert (body["state"], body["error_code"]) == ("failed", "bad_request")
    assert body["metadata"] == ({} if "metadata" in wrong else {"case": 7}) and notices(app) == [["j"]]


def test_one_whose_address_is_wrong_fails_and_calls_nobody(worker: Ready, counted: str, view: JobView) -> None:
    app = worker(STENOPOOL_CALLBACK_SECRET=SECRET)
    with pytest.raises(BadInput) as error:
        attempt(counted, callback_url="ftp://app.example/token-4711")
    assert error.value.code == "invalid_callback" and "token-4711" not in error.value.sentence
    assert "callback" not in view.fields() and notices(app) == []


def test_without_a_secret_it_is_refused_by_a_sentence_that_names_it(
    worker: Ready, counted: str, view: JobView, client: redis.Redis, emulator: BackgroundEmulator
) -> None:
    app = worker()
    with pytest.raises(BadInput) as error:
        attempt(counted, callback_url=APP)
    assert error.value.code == "callback_unsigned" and "set STENOPOOL_CALLBACK_SECRET" in error.value.sentence
    assert view.fields()["state"] == "failed" and emulator.logbook.tcp == 0
    assert notices(app) == [] and not client.exists(KEYS.callback)


def test_a_job_that_asks_for_nothing_sends_nothing(worker: Ready, counted: str, client: redis.Redis) -> None:
    app = worker(STENOPOOL_CALLBACK_SECRET=SECRET)
    attempt(counted, pace=0)
    assert notices(app) == [] and not client.exists(KEYS.callback)


def test_one_that_is_tried_again_calls_nobody_yet(
    worker: Ready, counted: str, client: redis.Redis, emulator: BackgroundEmulator
) -> None:
    app = worker(STENOPOOL_CALLBACK_SECRET=SECRET)
    emulator.faults.add(Fault(kind="task_failed"))
    with pytest.raises(Ignore):
        attempt(counted, pace=0, callback_url=APP)
    assert notices(app) == [] and Outbox(client, "j", ttl=100).take(1.0) is None


def test_a_second_delivery_sends_again_for_what_the_first_may_not_have_come_to_send_for(
    worker: Ready, counted: str, client: redis.Redis
) -> None:
    app = worker(STENOPOOL_CALLBACK_SECRET=SECRET)
    for _ in range(2):
        attempt(counted, pace=0, callback_url=APP)
    assert notices(app) == [["j"]] * 2


def test_a_queue_that_takes_no_message_for_it_does_not_undo_the_end(
    worker: Ready, counted: str, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    worker(STENOPOOL_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0", STENOPOOL_CALLBACK_SECRET=SECRET)
    house: Any = runtime()
    house.redis = client
    with places(FakeRecognizers(FakeRecognizer())):
        assert attempt(counted, pace=0, callback_url=APP)["job_id"] == "j"
    assert "job j: its callback is delivered later" in caplog.text and "token-4711" not in caplog.text
    assert told(client)["state"] == "succeeded"
