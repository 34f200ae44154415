from array import array

import pytest

from worker.recognition.conversation import RECHECK, Limits
from worker.recognition.errors import ConnectionLost, DeadlinePassed, NoSpeech, UnknownModel, UpstreamSilent
from worker.recognition.probe import hear_tone, tone, warm_up
from worker.recognition.recognizer import Recognizer


@pytest.fixture
def recognizer(scripted, inline, clock):
    return Recognizer(scripted, Limits(started=5.0, finished=7.0), loop=inline, clock=clock, new_id=lambda: "t1")


def message(event, **header):
    return {"header": {"task_id": "t1", "event": event, **header}, "payload": {}}


@pytest.fixture
def obliging(scripted):
    """A service that starts and finishes tasks."""

    def answer(sent):
        if isinstance(sent, dict):
            event = {"run-task": "task-started", "finish-task": "task-finished"}[sent["header"]["action"]]
            scripted.says(0.1, message(event))

    scripted.on_send = answer
    return scripted


@pytest.mark.parametrize("rate", [8000, 16000])
def test_a_tone_is_a_second_of_sound_in_tenths(rate):
    chunks = [chunk.data for chunk in tone(rate)]
    samples = array("h", b"".join(chunks))
    assert [len(data) for data in chunks] == [rate // 5] * 10
    assert max(samples) == 8000
    rises = sum(1 for before, after in zip(samples, samples[1:], strict=False) if before < 0 <= after)
    assert rises in (439, 440)  # without a jump where chunks meet


@pytest.mark.parametrize("spacing", [0.0, 0.1])
def test_a_tone_is_sent_at_once_or_as_a_speaker_would_bring_it(spacing):
    assert [chunk.due for chunk in tone(8000, spacing=spacing)] == [number * spacing for number in range(10)]


def test_the_task_of_a_tone_is_the_one_that_is_asked_for(obliging, recognizer, clock):
    asked = {"sample_rate": 8000, "heartbeat": True}
    resources = [{"resource_id": "p"}]
    hear_tone(recognizer, model="m", parameters=asked, resources=resources, spacing=0.1, deadline=clock.now + 9)
    (_, start), *audio, _ = obliging.sent
    payload = start["payload"]
    assert (payload["model"], payload["parameters"], payload["resources"]) == ("m", asked, resources)
    assert [at for at, _ in audio] == pytest.approx([0.1 + number * 0.1 for number in range(10)])


@pytest.mark.parametrize(
    ("model", "rate"), [("paraformer-realtime-v2", 16000), ("paraformer-realtime-8k-v2", 8000), ("fun-asr", 16000)]
)
def test_a_warm_up_is_a_whole_task_at_the_model_s_rate(obliging, recognizer, clock, model, rate):
    warm_up(recognizer, model, deadline=clock.now + 60)
    (_, start), *audio, _ = obliging.sent
    assert start["payload"]["model"] == model
    assert start["payload"]["parameters"] == {"format": "pcm", "sample_rate": rate}
    assert b"".join(data for _, data in audio) == b"".join(chunk.data for chunk in tone(rate))
    assert clock.now == pytest.approx(1000.2, abs=2 * RECHECK)  # nothing but the service's own time
    assert recognizer.is_reusable() and recognizer.tasks == 1


@pytest.mark.parametrize(("code", "kind"), [("ModelNotFound", UnknownModel), ("NO_VALID_AUDIO_ERROR", NoSpeech)])
def test_a_refusal_of_the_warm_up_is_raised_as_what_it_means(scripted, recognizer, clock, code, kind):
    scripted.says(0.1, message("task-failed", error_code=code, error_message=""))
    with pytest.raises(kind):
        warm_up(recognizer, "m", deadline=clock.now + 60)
    assert not recognizer.is_reusable()


def test_a_service_that_does_not_answer_the_warm_up_is_silent(recognizer, clock):
    with pytest.raises(UpstreamSilent, match="no task-started within 5 s"):
        warm_up(recognizer, "m", deadline=clock.now + 60)


def test_a_warm_up_that_runs_out_of_time_is_no_job_that_did(recognizer, clock):
    with pytest.raises(UpstreamSilent, match="did not end in time") as caught:
        warm_up(recognizer, "m", deadline=clock.now + 3)
    assert caught.value.retryable and not DeadlinePassed.retryable


def test_a_connection_that_does_not_outlast_its_warm_up_is_lost(obliging, recognizer, clock):
    answer = obliging.on_send

    def last(sent):
        answer(sent)
        obliging.open = isinstance(sent, bytes) or sent["header"]["action"] != "finish-task"

    obliging.on_send = last
    with pytest.raises(ConnectionLost, match="warm-up"):
        warm_up(recognizer, "m", deadline=clock.now + 60)
