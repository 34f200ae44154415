"""Channels, parts of a recording, models of the telephone's rate, and work that is not done twice: in real workers."""

import uuid
import wave
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Site = Any
Counter = Callable[[float], Path]

RATE = 16_000


def several(folder: Path, starts: Iterable[int], seconds: int) -> Path:
    """A recording of several channels, each of which counts up from another number."""
    counting = np.arange(seconds * RATE, dtype=np.int64)
    channels = np.stack([(counting + start) % 65_536 for start in starts], axis=1).astype("<u2")
    path = folder / f"{uuid.uuid4().hex}.wav"
    with wave.open(str(path), "wb") as out:
        out.setnchannels(channels.shape[1])
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(channels.tobytes())
    return path


def spoken(result: dict[str, Any]) -> list[tuple[int, int, str]]:
    return [(one["begin_time"], one["channel"], one["text"]) for one in result["sentences"]]


AGENT, CUSTOMER = 100, 30_000
CALL = [
    (0, 0, "100-16099"),
    (0, 1, "30000-45999"),
    (1000, 0, "16100-32099"),
    (1000, 1, "46000-61999"),
]


def test_each_channel_is_transcribed_on_its_own(site: Site, marker: str) -> None:
    call = several(site.folder, [AGENT, CUSTOMER], 2)

    result = site.transcribe(call.as_uri(), pace=0, channels="split", formats=["vtt"], parameters={"marker": marker})

    assert spoken(result) == CALL
    assert (result["duration_ms"], result["usage"]) == (2000, {"audio_ms": 4000, "sent_ms": 4000, "streams": 2})
    assert result["captions"]["vtt"].count("-->") == len(CALL)
    assert sorted(task["outcome"] for task in site.tasks(marker)) == ["finished", "finished"]


def test_a_channel_that_breaks_goes_on_and_no_sentence_is_lost_or_doubled(threads: Site, marker: str) -> None:
    call = several(threads.folder, [AGENT, CUSTOMER], 2)
    threads.fault(kind="abort", at="audio", after_ms=1500, marker=marker)

    result = threads.transcribe(call.as_uri(), pace=0, channels="split", parameters={"marker": marker})

    assert spoken(result) == CALL and (result["attempts"], result["resumes"]) == (1, 1)


def test_channels_follow_each_other_where_the_account_has_room_for_one_stream(alone: Callable[..., Site]) -> None:
    site = alone("threads", STENOPOOL_QUOTA_STREAMS="1", STENOPOOL_QUOTA_PATIENCE="0.2")
    call = several(site.folder, [AGENT, CUSTOMER], 2)

    result = site.transcribe(call.as_uri(), pace=4, channels="split")

    assert spoken(result) == CALL and result["attempts"] == 1


def test_a_part_is_transcribed_with_the_times_of_the_whole(threads: Site, counter: Counter) -> None:
    result = threads.transcribe(counter(4).as_uri(), pace=0, start_ms=1000, end_ms=3000)

    assert spoken(result) == [(1000, 0, "16000-31999"), (2000, 0, "32000-47999")]
    assert result["duration_ms"] == 4000
    assert result["usage"] == {"audio_ms": 2000, "sent_ms": 2000, "streams": 1}


def test_a_part_beyond_the_end_is_a_sentence(threads: Site, counter: Counter, marker: str) -> None:
    code, sentence = threads.failure(counter(1).as_uri(), pace=0, start_ms=5000, parameters={"marker": marker})

    assert code == "bad_request" and "start_ms=5000 lies beyond the end" in sentence and "1000 ms" in sentence
    assert threads.tasks(marker) == []


def test_a_telephone_model_hears_its_own_rate(threads: Site, counter: Counter, marker: str) -> None:
    options = {"model": "paraformer-realtime-8k-v2", "parameters": {"marker": marker}}

    assert threads.transcribe(counter(2).as_uri(), pace=0, **options)["duration_ms"] == 2000

    (task,) = threads.tasks(marker)
    assert (task["parameters"]["sample_rate"], task["audio_bytes"]) == (8000, 2 * 8000 * 2)


# -- work that is not done twice ---------------------------------------------------------------------------------------


def test_the_same_key_again_returns_the_first_result_and_does_no_work(
    threads: Site, counter: Counter, marker: str
) -> None:
    options = {"pace": 0, "idempotency_key": marker, "parameters": {"marker": marker}}
    first = threads.transcribe(counter(1).as_uri(), **options)

    again = threads.transcribe((threads.folder / "none.wav").as_uri(), **options)

    assert again == first and len(threads.tasks(marker)) == 1


def test_jobs_of_one_key_that_come_at_once_are_done_once(site: Site, counter: Counter, marker: str) -> None:
    recording = counter(2).as_uri()
    options = {"pace": 2, "idempotency_key": marker, "parameters": {"marker": marker}}

    first, *others = site.run([recording] * 3, **options)

    assert [one["job_id"] for one in others] == [first["job_id"]] * 2
    assert first["text"] == "0-15999 16000-31999" and len(site.tasks(marker)) == 1


def test_the_same_content_is_not_transcribed_twice(threads: Site, counter: Counter, marker: str) -> None:
    recording = counter(1)
    copy = recording.with_name(f"{marker}.wav")
    copy.write_bytes(recording.read_bytes())
    options = {"pace": 0, "deduplicate": True, "parameters": {"marker": marker}}
    first = threads.transcribe(recording.as_uri(), **options)

    again = threads.transcribe(copy.as_uri(), metadata={"n": 2}, **options)

    assert again["sentences"] == first["sentences"] and again["metadata"] == {"n": 2}
    assert again["audio"].endswith(copy.name) and again["usage"] == {"audio_ms": 1000, "sent_ms": 0, "streams": 0}
    assert len(threads.tasks(marker)) == 1


@pytest.mark.parametrize("other", [{"language_hints": ["en"]}, {"tenant": "other"}])
def test_other_options_or_another_tenant_are_other_work(
    threads: Site, counter: Counter, marker: str, other: dict[str, Any]
) -> None:
    options = {"pace": 0, "deduplicate": True, "parameters": {"marker": marker}}
    recording = counter(1).as_uri()
    threads.transcribe(recording, **options)
    threads.transcribe(recording, **options, **other)
    assert len(threads.tasks(marker)) == 2
