"""What the load server says: events of about 1 KB like the service's, prebuilt, with little to fill in."""

import functools
import json
import math
from typing import Any, Final

BYTES_PER_SECOND: Final = 32_000
"""Of 16 kHz mono 16 bit PCM, the only audio that is expected."""

STEP_BYTES: Final = 8_000
"""After each so much audio an event is said."""

STEP_MS: Final = 1000 * STEP_BYTES // BYTES_PER_SECOND
WORDS: Final = ("when", "the", "harbour", "lights", "went", "out", "every", "boat", "turned", "home")
KEPT: Final = 8192  # events, of 1 KB each: of a good half hour of audio
TEXT: Final = 0x81
ID: Final = "\0"  # stands in a prepared event for the task's id


class Script:
    """Every task hears the same: a sentence of ten words again and again, a final each `final_every` seconds.

    `first_bytes`: after so much audio the first event is said, which may be before its time.
    """

    def __init__(self, final_every: float = 3.0, first_after: float = STEP_MS / 1000) -> None:
        self.first_bytes = min(STEP_BYTES, round(first_after * BYTES_PER_SECOND))
        self._sentence_steps = max(1, round(1000 * final_every / STEP_MS))
        self._prepared = functools.lru_cache(KEPT)(self._prepare)

    def started(self, task_id: bytes) -> bytes:
        """task-started, as a frame. `task_id` is written as in JSON, without its quotes."""
        return _filled(_event("task-started", {}), task_id)

    def result(self, step: int, task_id: bytes) -> bytes:
        """The event after the `step`-th 8,000 bytes of a task's audio, counted from 1."""
        before, after = self._prepared(step, len(task_id))
        return before + task_id + after

    def rest(self, audio_bytes: int, task_id: bytes) -> bytes:
        """The final of the audio after the last final, if there is any: b"" otherwise."""
        sentence, rest = divmod(audio_bytes, self._sentence_steps * STEP_BYTES)
        if not rest:
            return b""
        heard = max(1, 1000 * audio_bytes // BYTES_PER_SECOND)
        return _filled(_result(sentence, sentence * self._sentence_steps * STEP_MS, heard, True), task_id)

    def finished(self, task_id: bytes) -> bytes:
        """task-finished, as a frame."""
        return _filled(_event("task-finished", {"output": {}, "usage": None}), task_id)

    def failed(self, task_id: bytes, message: str) -> bytes:
        """task-failed, as a frame."""
        return _filled(_event("task-failed", {}, error_code="InvalidParameter", error_message=message), task_id)

    def _prepare(self, step: int, id_size: int) -> tuple[bytes, bytes]:
        sentence, done = divmod(step - 1, self._sentence_steps)
        is_final = done + 1 == self._sentence_steps
        text = _result(sentence, (step - 1 - done) * STEP_MS, step * STEP_MS, is_final)
        before, after = text.encode().split(ID.encode())
        return frame_head(TEXT, len(before) + id_size + len(after)) + before, after


def frame_head(first: int, size: int) -> bytes:
    """The head of an unmasked frame with a payload of this size, below 64 KB."""
    return bytes((first, size)) if size < 126 else bytes((first, 126, size >> 8, size & 255))


def _filled(text: str, task_id: bytes) -> bytes:
    payload = text.encode().replace(ID.encode(), task_id)
    return frame_head(TEXT, len(payload)) + payload


def _event(name: str, payload: dict[str, Any], **more: str) -> str:
    header = {"task_id": ID, "event": name, **more, "attributes": {}}
    return json.dumps({"header": header, "payload": payload}).replace(json.dumps(ID)[1:-1], ID)


def _result(number: int, begin_ms: int, heard_ms: int, is_final: bool) -> str:
    sentence = {
        "sentence_id": number + 1,
        "begin_time": begin_ms,
        "end_time": heard_ms if is_final else None,
        "text": " ".join(WORDS).capitalize() + ("." if is_final else ""),
        "heartbeat": False,
        "sentence_end": is_final,
        "words": [_word(place, begin_ms, heard_ms, is_final) for place in range(len(WORDS))],
    }
    usage = {"duration": math.ceil(heard_ms / 1000)} if is_final else None
    return _event("result-generated", {"output": {"sentence": sentence}, "usage": usage})


def _word(place: int, begin_ms: int, heard_ms: int, is_final: bool) -> dict[str, Any]:
    """The words share the sentence's time evenly."""
    last = len(WORDS) - 1
    return {
        "begin_time": begin_ms + (heard_ms - begin_ms) * place // len(WORDS),
        "end_time": begin_ms + (heard_ms - begin_ms) * (place + 1) // len(WORDS),
        "text": WORDS[place] if place else WORDS[place].capitalize(),
        "punctuation": "." if is_final and place == last else "",
    }
