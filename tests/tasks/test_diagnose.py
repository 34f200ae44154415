from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery import Celery

from emulator.background import BackgroundEmulator
from emulator.faults import Fault
from tasks.diagnose import NOTHING, diagnose, recognise_tone
from tasks.errors import BadInput, Refused, Unavailable
from tasks.job.request import JobRequest
from tests.fakes import FakeRecognizer
from worker.quota import Allowance, Ledger, Wish
from worker.quota.ledger import lane_key
from worker.recognition import NoSpeech, Unauthorized
from worker.runtime import runtime

Ready = Callable[..., Celery]


def test_a_healthy_worker_says_how_long_each_part_took(worker: Ready, emulator: BackgroundEmulator) -> None:
    worker(RECOGNITION_OBJECTPOOL_SIZE="1")

    first, second = (diagnose.apply().get() for _ in range(2))

    assert (first["reused_connection"], second["reused_connection"]) == (False, True)
    assert first["model"] == "paraformer-realtime-v2" and first["worker"]
    assert first["borrow_ms"] >= 0 and first["recognition_ms"] >= 1000 * 0.9
    assert (second["pool"]["leases"], second["pool"]["leased"]) == (2, 0)
    assert (emulator.logbook.connections, emulator.logbook.streams) == (1, 2)


def test_the_model_can_be_chosen(worker: Ready, emulator: BackgroundEmulator) -> None:
    worker()
    assert diagnose.apply(kwargs={"model": "paraformer-realtime-8k-v2"}).get()["model"] == "paraformer-realtime-8k-v2"
    (task,) = emulator.logbook.tasks
    assert (task.model, task.parameters["sample_rate"], task.audio_bytes) == ("paraformer-realtime-8k-v2", 8000, 16_000)


def test_a_refusal_says_what_is_wrong(worker: Ready) -> None:
    worker()
    failed = diagnose.apply(kwargs={"model": "parrot-1"})
    assert type(failed.result) is Refused and failed.result.code == "unknown_model"


def test_a_fault_of_the_service_is_said_and_not_tried_again(worker: Ready, emulator: BackgroundEmulator) -> None:
    worker()
    emulator.faults.add(Fault(kind="task_failed"))
    failed = diagnose.apply()
    assert type(failed.result) is Unavailable and failed.result.code == "server_fault"
    assert len(emulator.logbook.tasks) == 1


def test_a_worker_without_a_key_says_so(worker: Ready) -> None:
    worker(DASHSCOPE_API_KEY="")
    failed: Any = diagnose.apply().result
    assert failed.code == "missing_api_key"


def test_a_test_has_a_slot_of_the_account_s_and_gives_it_back(worker: Ready, client: redis.Redis) -> None:
    worker(STENOPOOL_QUOTA_STREAMS="1")
    for turn in (1, 2):
        diagnose.apply(kwargs={"account": "default", "tenant": "acme"}).get()
        assert client.hget(lane_key("default", "paraformer-realtime-v2"), "turns") == str(turn).encode()
        assert runtime().accounts.stats()["quota_slots"] == 0


def test_without_quota_it_says_so(worker: Ready, client: redis.Redis, emulator: BackgroundEmulator) -> None:
    worker(STENOPOOL_QUOTA_STREAMS="1", STENOPOOL_QUOTA_PATIENCE="0.1")
    other = Ledger(client, "default", Allowance(streams=1, starts_per_second=20.0, opens_per_second=20.0))
    assert other.ask("other.1", Wish(model="paraformer-realtime-v2"), 1.0, "try").given
    failed = diagnose.apply()
    assert type(failed.result) is Unavailable and failed.result.code == "throttled"
    assert "quota" in failed.result.sentence and failed.result.__suppress_context__ and not emulator.logbook.tasks


def test_an_account_that_there_is_not_is_refused(worker: Ready) -> None:
    worker()
    failed = diagnose.apply(kwargs={"account": "second"})
    assert type(failed.result) is BadInput and "it has default" in failed.result.sentence


def test_a_tone_has_no_words_and_that_is_no_failure() -> None:
    recognizer: Any = FakeRecognizer(NoSpeech("x"))
    recognise_tone(recognizer, JobRequest(audio=NOTHING, model="m"))
    assert len(recognizer.heard) == 32_000 and recognizer.asked["model"] == "m"


def test_any_other_refusal_of_a_tone_is_a_failure() -> None:
    recognizer: Any = FakeRecognizer(Unauthorized("no"))
    with pytest.raises(Unauthorized):
        recognise_tone(recognizer, JobRequest(audio=NOTHING, model="m"))


@pytest.mark.parametrize(
    ("args", "options"), [((), {"model": 5}), ((), {"model": ""}), ((), {"modle": "x"}), (("m",), {})]
)
def test_a_test_that_is_asked_for_wrongly_is_refused_like_a_job(worker: Ready, args: Any, options: Any) -> None:
    worker()
    failed: Any = diagnose.apply(args, options).result
    assert type(failed) is BadInput and failed.code == "bad_request"
