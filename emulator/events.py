"""The events the service sends, as JSON text. Written by hand here and shared with no client, so that a client's
mistakes are not hidden by ours."""

import json
import math
from typing import Any

from emulator.engines import Result, Word

__all__ = ["heartbeat", "result", "task_failed", "task_finished", "task_started"]


def task_started(task_id: str) -> str:
    """The service is ready for audio."""
    return _event(task_id, "task-started", {})


def result(task_id: str, found: Result, sentence_id: int, audio_ms: float) -> str:
    """A sentence, open or finished.

    The official SDK takes a sentence for finished when `end_time` is not null, and reads `usage` beside it, so both
    keys are always there: null while the sentence is open, then the whole seconds of audio billed so far.
    """
    sentence = {
        "begin_time": found.begin_ms,
        "end_time": found.end_ms,
        "text": found.text,
        "heartbeat": False,
        "sentence_end": found.is_final,
        "sentence_id": sentence_id,
        "words": [_word(word) for word in found.words],
    }
    usage = {"duration": math.ceil(audio_ms / 1000)} if found.is_final else None
    return _event(task_id, "result-generated", {"output": {"sentence": sentence}, "usage": usage})


def heartbeat(task_id: str, audio_ms: int) -> str:
    """A sign of life in long silence; clients must skip it."""
    sentence: dict[str, Any] = {
        "begin_time": audio_ms,
        "end_time": None,
        "text": "",
        "heartbeat": True,
        "sentence_end": False,
        "words": [],
    }
    return _event(task_id, "result-generated", {"output": {"sentence": sentence}, "usage": None})


def task_finished(task_id: str) -> str:
    """The last event of a good task. Without a non-null `output` the official SDK never reports completion."""
    return _event(task_id, "task-finished", {"output": {}, "usage": None})


def task_failed(task_id: str, code: str, message: str) -> str:
    """The last event of a failed task. The official SDK needs all three of id, code and message."""
    return _event(task_id, "task-failed", {}, error_code=code, error_message=message)


def _event(task_id: str, name: str, payload: dict[str, Any], **more: str) -> str:
    header = {"task_id": task_id, "event": name, **more, "attributes": {}}
    return json.dumps({"header": header, "payload": payload})


def _word(word: Word) -> dict[str, int | str]:
    return {
        "begin_time": word.begin_ms,
        "end_time": word.end_ms,
        "text": word.text,
        "punctuation": word.punctuation,
    }
