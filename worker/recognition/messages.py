"""The wire's messages as frozen dataclasses: three commands we send, six events we get, and their JSON.

Field names and their meaning are those of the vendor's real-time recognition over WebSocket (run-task protocol). Times
are whole milliseconds from the start of the task's audio. Nothing here knows in which order messages may come: that is
`session.py`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from typing import Final as Constant

from worker.recognition.errors import InvalidRequest, RemoteProtocolError
from worker.recognition.parsing import loads


@dataclass(frozen=True, slots=True)
class Start:
    """run-task: begin a task under an id that this connection has not seen. `resources` is for v1 hot words only."""

    task_id: str
    model: str
    parameters: Mapping[str, Any]
    resources: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Audio:
    """One binary frame of audio; about 100 ms is what the vendor advises."""

    data: bytes | memoryview


@dataclass(frozen=True, slots=True)
class Finish:
    """finish-task: no more audio; the service sends what is left and then task-finished."""

    task_id: str


@dataclass(frozen=True, slots=True)
class Word:
    """One word; `punctuation` is the mark that follows it, often empty."""

    begin_time: int
    end_time: int
    text: str
    punctuation: str = ""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence, whole and not a delta. In a Partial, `end_time` is how far it has been heard."""

    begin_time: int
    end_time: int
    text: str
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True)
class Started:
    """task-started: audio may be sent."""

    task_id: str


@dataclass(frozen=True, slots=True)
class Partial:
    """result-generated for a sentence that may still change."""

    task_id: str
    sentence: Sentence


@dataclass(frozen=True, slots=True)
class Final:
    """result-generated for a finished sentence; `billed_seconds` is what is charged so far, None when not told."""

    task_id: str
    sentence: Sentence
    billed_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """result-generated that says nothing but that the service is alive."""

    task_id: str


@dataclass(frozen=True, slots=True)
class Finished:
    """task-finished: the only event after which the connection may serve another task."""

    task_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """task-failed: the task is over, and the service closes the connection."""

    task_id: str
    code: str
    message: str


Command: TypeAlias = Start | Audio | Finish
Event: TypeAlias = Started | Partial | Final | Heartbeat | Finished | Refused
_Object: TypeAlias = Mapping[str, Any]


def encode(command: Start | Finish) -> str:
    """The message to send; audio travels as it is. InvalidRequest when the parameters are not JSON."""
    action, payload = ("run-task", _run(command)) if isinstance(command, Start) else ("finish-task", {"input": {}})
    header = {"action": action, "task_id": command.task_id, "streaming": "duplex"}
    try:
        # ASCII, like the vendor's newer SDK: a lone surrogate in a job's parameters could not be sent as UTF-8.
        # NaN, which Python would write, is not JSON.
        return json.dumps({"header": header, "payload": payload}, ensure_ascii=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise InvalidRequest("parameters or resources cannot be written as JSON") from None


def _run(command: Start) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "task_group": "audio",
        "task": "asr",
        "function": "recognition",
        "model": command.model,
        "parameters": dict(command.parameters),
        "input": {},  # required, even if empty: without it the service closes with 1007 or "task can not be null"
    }
    if command.resources:
        payload["resources"] = [dict(resource) for resource in command.resources]
    return payload


def decode(text: str, *, partials: bool = True) -> Event:
    """The event in a text message. RemoteProtocolError, which never quotes the text, when there is none in it.

    Without `partials` a partial result is but a Heartbeat: who does not want it need not pay for its words.
    """
    try:
        message = loads(text)
    except (ValueError, RecursionError):
        raise RemoteProtocolError(f"a message of {len(text)} characters is not JSON") from None
    if not isinstance(message, dict):
        raise RemoteProtocolError("a message is not a JSON object")
    header = _object(message, "header")
    task_id, name = _text(header, "task_id"), _text(header, "event")
    # A service that could not read our run-task has no id to echo; its reason is worth more than its form.
    if not name or (not task_id and name != "task-failed"):
        raise RemoteProtocolError("a message has no task_id or no event in its header")
    if name not in _EVENTS:
        raise RemoteProtocolError("a message has an unknown event")
    return _EVENTS[name](task_id, message, partials)


def _started(task_id: str, message: _Object, partials: bool) -> Event:
    return Started(task_id)


def _finished(task_id: str, message: _Object, partials: bool) -> Event:
    # The payload is irrelevant per the vendor's documentation: {} or {"output": {}, "usage": null}.
    return Finished(task_id)


def _failed(task_id: str, message: _Object, partials: bool) -> Event:
    header = _object(message, "header")
    return Refused(task_id, _text(header, "error_code"), _text(header, "error_message"))


def _result(task_id: str, message: _Object, partials: bool) -> Event:
    payload = _object(message, "payload")
    found = _object(_object(payload, "output"), "sentence")
    # An empty output is taken for completion by the vendor's older SDK. Only task-finished completes.
    if not found or found.get("heartbeat") is True:
        return Heartbeat(task_id)
    # The official Python SDKs look at end_time only, the Java SDK takes either: so whatever any of them calls final,
    # is final here.
    if found.get("sentence_end") is True or found.get("end_time") is not None:
        return Final(task_id, _sentence(found), _billed(payload.get("usage")))
    if not partials:
        return Heartbeat(task_id)
    try:
        return Partial(task_id, _sentence(found))
    except RemoteProtocolError:
        return Heartbeat(task_id)  # an odd partial is not worth a transcript: the final says it again


_EVENTS: Constant[Mapping[str, Callable[[str, _Object, bool], Event]]] = {
    "task-started": _started,
    "result-generated": _result,
    "task-finished": _finished,
    "task-failed": _failed,
}


def _sentence(found: _Object) -> Sentence:
    words = _words(found.get("words"))
    begin = _ms(found, "begin_time", words[0].begin_time if words else None)
    end = _ms(found, "end_time", words[-1].end_time if words else begin)
    return Sentence(begin, end, _text(found, "text"), words)


def _words(found: object) -> tuple[Word, ...]:
    if found is None:
        return ()
    if not isinstance(found, list) or not all(isinstance(word, dict) for word in found):
        raise RemoteProtocolError("words is not a list of objects")
    return tuple(_word(word) for word in found if word.get("begin_time") is not None)


def _word(found: _Object) -> Word:
    begin = _ms(found, "begin_time", None)
    return Word(begin, _ms(found, "end_time", begin), _text(found, "text"), _text(found, "punctuation"))


def _billed(usage: object) -> int | None:
    # What is charged is told to the user and decides nothing: an odd value is not worth a transcript.
    duration = usage.get("duration") if isinstance(usage, dict) else None
    return duration if type(duration) is int else None


def _object(found: _Object, name: str) -> _Object:
    value = found.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RemoteProtocolError(f"{name} is not an object")
    return value


def _text(found: _Object, name: str) -> str:
    value = found.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RemoteProtocolError(f"{name} is not a string")
    return value


def _ms(found: _Object, name: str, default: int | None) -> int:
    value = found.get(name)
    if value is None:
        value = default
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise RemoteProtocolError(f"{name} is not a whole number of milliseconds")
    return max(0, int(value))
