"""The shell and what it calls, as one process: real Valkey, real HTTP."""

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery import Celery
from celery.exceptions import Ignore

from emulator import Fault
from emulator.background import BackgroundEmulator
from tasks.errors import JobError
from tasks.generate import generate
from tasks.text import asking

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")  # which is Celery's own

Ready = Callable[..., Celery]

SPOKEN = [f"Sentence {number} has seven words in it." for number in range(40)]
LONG = " ".join(SPOKEN)
ANSWERS = "stenopool:job:{j}:answers"
LEASE = "stenopool:job:{j}:lease"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(asking, "LOOK_EVERY", 0.05)


@pytest.fixture
def ready(worker: Ready) -> None:
    worker(STENOPOOL_JOB_BACKOFF="0.001")


def done(*args: Any, **options: Any) -> dict[str, Any]:
    """The result of the job `j`, whose message comes again as often as the task wants."""
    result: dict[str, Any] = generate.apply(args, options, task_id="j").get()
    return result


def attempt(*args: Any, retries: int = 0, **options: Any) -> Any:
    """One attempt at the job `j`, as a worker calls it."""
    generate.push_request(id="j", args=args, kwargs=options, retries=retries, is_eager=False, delivery_info={})
    try:
        return generate.run(*args, **options)
    finally:
        generate.pop_request()


def failure(*args: Any, **options: Any) -> JobError:
    with pytest.raises(JobError) as caught:
        done(*args, **options)
    return caught.value


# -- what comes out ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("ready")
def test_a_short_text_is_one_request(emulator: BackgroundEmulator) -> None:
    result = done("one two three", instruction="Repeat:", metadata={"call": 7}, model="qwen-turbo")

    assert result.pop("timing")["wall_ms"] >= 0
    assert result == {
        "job_id": "j",
        "model": "qwen-turbo",
        "parts": 1,
        "requests": 1,
        "truncated": 0,
        "usage": {"input_tokens": 4, "output_tokens": 8},
        "metadata": {"call": 7},
        "text": "You said 4 words: Repeat: one two three",
    }
    assert emulator.logbook.generations == 1
    assert not [one for one in threading.enumerate() if one.name == "generation"]  # no event loop for a single one


@pytest.mark.usefixtures("ready")
def test_a_long_text_is_asked_in_parts_and_joined_in_order(emulator: BackgroundEmulator) -> None:
    emulator.faults.add(Fault(kind="generation_delay", value=50, times=20))

    result = done(LONG, part_chars=200)

    said = result["text"].split("You said ")[1:]
    firsts = [int(part.split("Sentence ")[1].split()[0]) for part in said]
    assert len(said) == result["parts"] == result["requests"] == emulator.logbook.generations >= 8
    assert firsts == sorted(firsts) and firsts[0] == 0
    assert sum(int(part.split()[0]) for part in said) == result["usage"]["input_tokens"] == 280
    assert emulator.logbook.generations_max > 1


@pytest.mark.usefixtures("ready")
def test_to_reduce_asks_the_same_of_the_answers(emulator: BackgroundEmulator) -> None:
    result = done(LONG, part_chars=400, merge="reduce", instruction="Sum up.")

    assert result["parts"] == 4
    assert result["requests"] == emulator.logbook.generations > 4
    assert result["text"].startswith("You said ") and result["text"].count("You said") <= 2


@pytest.mark.usefixtures("ready")
def test_answers_that_do_not_get_shorter_end_the_job(emulator: BackgroundEmulator) -> None:
    error = failure("aa bb cc dd ee ff " * 20, part_chars=100, merge="reduce")

    assert error.code == "answers_too_long" and "part_chars" in error.sentence
    assert emulator.logbook.generations <= 10


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("text", ["", " \n", {"text": "", "sentences": []}])
def test_of_a_recording_that_is_silent_nothing_is_asked(emulator: BackgroundEmulator, text: Any) -> None:
    result = done(text, instruction="Sum up.")

    assert (result["text"], result["parts"], result["requests"]) == ("", 0, 0)
    assert emulator.logbook.tcp == 0


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (
            {"value": 400, "code": "DataInspectionFailed", "message": "Input data may be inappropriate."},
            "invalid_request",
        ),
        ({"value": 400, "code": "InvalidParameter"}, "invalid_request"),
        ({"value": 404, "code": "ModelNotFound"}, "unknown_model"),
        ({"value": 403, "code": "AccessDenied"}, "access_denied"),
        ({"value": 401, "code": "InvalidApiKey"}, "unauthorized"),
        ({"value": 400, "code": "Arrearage"}, "account_blocked"),
    ],
)
def test_a_refusal_ends_the_job_at_once(emulator: BackgroundEmulator, fault: dict[str, Any], code: str) -> None:
    emulator.faults.add(Fault(kind="generation_status", **fault))

    assert failure("one two three").code == code
    assert emulator.logbook.generations_asked == 1


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="generation_status", value=500, times=4),
        Fault(kind="generation_status", value=429, code="Throttling.RateQuota", retry_after=0, times=4),
        Fault(kind="generation_garbage", times=4),
        Fault(kind="generation_cut", times=4),
    ],
)
def test_a_fault_that_passes_costs_a_try(emulator: BackgroundEmulator, fault: Fault) -> None:
    emulator.faults.add(fault)

    assert done("one two three")["text"] == "You said 3 words: one two three"
    assert (emulator.logbook.generations_asked, emulator.logbook.generations) == (5, 1)


@pytest.mark.parametrize("retries", [0, 1])
def test_one_that_stays_ends_the_job_after_the_retries_that_are_allowed(
    worker: Ready, emulator: BackgroundEmulator, retries: int
) -> None:
    worker(STENOPOOL_JOB_BACKOFF="0.001", STENOPOOL_JOB_RETRIES=str(retries))
    emulator.faults.add(Fault(kind="generation_status", value=500, times=100))

    assert failure("one two three").code == "server_fault"
    assert emulator.logbook.generations_asked == 3 * (retries + 1)


def test_the_rate_limit_of_an_account_is_no_fault_of_the_jobs(worker: Ready, emulator: BackgroundEmulator) -> None:
    worker(STENOPOOL_JOB_BACKOFF="0.001", STENOPOOL_JOB_RETRIES="0")
    emulator.faults.add(Fault(kind="generation_status", value=429, times=7))

    assert done("one two three")["requests"] == 1
    assert emulator.logbook.generations_asked == 8


@pytest.mark.usefixtures("ready")
def test_parts_that_were_answered_are_not_paid_for_again(emulator: BackgroundEmulator) -> None:
    emulator.faults.add(Fault(kind="generation_status", value=503, retry_after=30))
    with pytest.raises(Ignore):  # it is left to the queue until then
        attempt(LONG, part_chars=200)
    answered = emulator.logbook.generations

    result = attempt(LONG, part_chars=200)

    assert emulator.logbook.generations == result["requests"] == result["parts"] == answered + 1
    assert attempt(LONG, part_chars=200)["text"] == result["text"]
    assert emulator.logbook.generations == answered + 1


@pytest.mark.usefixtures("ready")
def test_a_worker_that_is_lost_again_and_again_ends_the_job(client: redis.Redis, emulator: BackgroundEmulator) -> None:
    client.hset(ANSWERS, "fruitless", 6)

    assert failure("one").code == "worker_lost"
    assert emulator.logbook.tcp == 0


def test_without_a_key_it_says_so(worker: Ready) -> None:
    worker(DASHSCOPE_API_KEY="")
    assert failure("one").code == "missing_api_key"


@pytest.mark.usefixtures("ready")
def test_an_account_that_nobody_has_is_bad_input() -> None:
    error = failure("one", account="nobody")
    assert error.code == "bad_request" and "it has default" in error.sentence


def test_a_job_is_asked_in_the_name_of_the_account_that_it_names(worker: Ready, tmp_path: Any, start_app: Any) -> None:
    accounts = tmp_path / "accounts.toml"
    accounts.write_text('[other]\napi_key = "right"\nworkspace_id = "w"\n')
    with BackgroundEmulator(api_key="right") as strict:
        start_app(
            DASHSCOPE_HTTP_BASE_URL=strict.api_url, DASHSCOPE_API_KEY="wrong", STENOPOOL_ACCOUNTS_FILE=str(accounts)
        )
        assert failure("one").code == "unauthorized"
        assert done("one", account="other")["requests"] == 1


@pytest.mark.usefixtures("ready")
def test_no_error_repeats_the_text(emulator: BackgroundEmulator) -> None:
    said = "Alice told Bob about her illness"
    emulator.faults.add(Fault(kind="generation_status", value=400, code="InvalidParameter", message=f"bad: {said}"))
    assert "Alice" not in repr(failure(said))


# -- twice, cancelled, ending ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("ready")
def test_a_second_delivery_of_a_job_that_is_done_does_nothing(emulator: BackgroundEmulator) -> None:
    generate.backend.mark_as_done("j", {"text": "x"})

    with pytest.raises(Ignore):
        attempt("one two three")
    assert emulator.logbook.tcp == 0


@pytest.mark.usefixtures("ready")
def test_a_second_delivery_of_one_under_way_is_put_off(client: redis.Redis, emulator: BackgroundEmulator) -> None:
    client.set(LEASE, "another", px=9000)

    with pytest.raises(Ignore):
        attempt("one two three")

    assert emulator.logbook.tcp == 0
    message: Any = client.lindex("transcribe", 0)
    assert b'"task": "tasks.generate"' in message and b"argsrepr" in message


@pytest.mark.usefixtures("ready")
def test_one_that_is_to_be_tried_again_is_a_new_message_that_shows_no_text(
    client: redis.Redis, emulator: BackgroundEmulator
) -> None:
    emulator.faults.add(Fault(kind="generation_status", value=500, times=3))

    with pytest.raises(Ignore):
        attempt("Alice", instruction="Translate.")

    queued: Any = client.lindex("transcribe", 0)
    message = json.loads(queued)
    message.pop("body")
    assert (message["headers"]["argsrepr"], message["headers"]["kwargsrepr"]) == ("('…',)", "{'instruction': '…'}")
    assert "Alice" not in json.dumps(message) and "Translate" not in json.dumps(message)
    assert generate.backend.get_state("j") == "PENDING"
    assert not client.exists(LEASE)


@pytest.mark.usefixtures("ready")
def test_one_that_was_cancelled_before_it_began_is_revoked(client: redis.Redis, emulator: BackgroundEmulator) -> None:
    client.set("stenopool:job:{j}:cancel", "revoked")

    with pytest.raises(Ignore):
        attempt("one")
    assert generate.backend.get_state("j") == "REVOKED"
    assert emulator.logbook.tcp == 0


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("part_chars", [100, 6000], ids=["async", "sync"])
def test_one_that_is_cancelled_while_a_model_thinks_ends_within_seconds(
    client: redis.Redis, emulator: BackgroundEmulator, part_chars: int
) -> None:
    emulator.faults.add(Fault(kind="generation_silent", times=50))
    cancel = threading.Thread(
        target=lambda: (
            emulator.logbook.wait_until(lambda book: book.generations_open > 0),
            client.set("stenopool:job:{j}:cancel", "revoked"),
        )
    )
    cancel.start()

    with pytest.raises(Ignore):
        attempt("one two three four. " * 10, part_chars=part_chars)

    cancel.join(5)
    assert generate.backend.get_state("j") == "REVOKED"
