"""The service's side of one connection: which command is allowed when. No socket, no clock, no engine.

    IDLE --run-task--> STARTING --task-started--> STREAMING --finish-task--> FINISHING --task-finished--> IDLE

Tasks follow each other on a connection, never overlap, and each brings a new task id. Whoever breaks the rules gets
`task-failed` and a closed connection, as the service's documentation says. Audio sent before `task-started` is taken
and kept: the Java SDK does not wait.
"""

import enum
import json
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Command", "ContinueTask", "Dialogue", "Failure", "FinishTask", "RunTask", "State", "Unreadable"]


class State(enum.Enum):
    IDLE = "idle"
    STARTING = "starting"
    STREAMING = "streaming"
    FINISHING = "finishing"
    CLOSED = "closed"


class Unreadable(Exception):
    """A text frame that is not a JSON object; the service hangs up with close code 1007."""


class Failure(Exception):
    """The task is to be answered with `task-failed`. `keep_open` leaves the connection usable, unlike the service."""

    def __init__(self, code: str, message: str, task_id: str = "", keep_open: bool = False) -> None:
        super().__init__(code, message, task_id, keep_open)
        self.code = code
        self.message = message
        self.task_id = task_id
        self.keep_open = keep_open

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


@dataclass(frozen=True, slots=True)
class RunTask:
    """A task begins. `sample_rate` is in hertz; `heartbeat` lets it live through long silence."""

    task_id: str
    model: str
    format: str
    sample_rate: int
    heartbeat: bool = False
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ContinueTask:
    """New context for the running task. The service documents no reply."""

    task_id: str


@dataclass(frozen=True, slots=True)
class FinishTask:
    """All audio has been sent."""

    task_id: str


Command = RunTask | ContinueTask | FinishTask

REQUIRED_HEADER = ("action", "task_id", "streaming")
FIXED_PAYLOAD = {"task_group": "audio", "task": "asr", "function": "recognition"}
REQUIRED_PAYLOAD = ("model", *FIXED_PAYLOAD, "input")
SAMPLE_RATES = range(8000, 48001)


class Dialogue:
    """The state of one connection, moved by what the client sends and by what the service has answered."""

    def __init__(self) -> None:
        self.state = State.IDLE
        self.task_id = ""
        self._used: set[str] = set()

    def __repr__(self) -> str:
        return f"<Dialogue {self.state.value}, task {self.task_id or '-'}, {len(self._used)} so far>"

    def command(self, text: str) -> Command:
        """Take a text frame. Raises Unreadable or Failure; a command that is returned was allowed."""
        header, payload = _parts(text)
        task_id = _text(header.get("task_id"))
        try:
            return self._judge(header, payload, task_id)
        except Failure as failure:
            failure.task_id = task_id or self.task_id
            raise

    def audio(self) -> None:
        """Take a binary frame. Raises Failure when no task is open for audio."""
        if self.state not in (State.STARTING, State.STREAMING):
            raise Failure("InvalidParameter", _not_now("audio"), self.task_id)

    def started(self) -> None:
        """`task-started` goes out. An early `finish-task` may already have been taken."""
        if self.state is State.STARTING:
            self.state = State.STREAMING

    def finished(self) -> None:
        """The task is over and the connection may be used again."""
        self.state = State.IDLE

    def closed(self) -> None:
        """Nothing more is said on this connection."""
        self.state = State.CLOSED

    def _judge(self, header: dict[str, Any], payload: dict[str, Any], task_id: str) -> Command:
        for name in REQUIRED_HEADER:
            _require(header, name, "header")
        if header["streaming"] != "duplex":
            raise _bad("header.streaming")
        if not task_id:
            raise _bad("header.task_id")
        match header["action"]:
            case "run-task":
                return self._run(task_id, payload)
            case "continue-task":
                return self._continue(task_id, payload)
            case "finish-task":
                return self._finish(task_id, payload)
            case action:
                raise Failure("InvalidParameter", _not_now(str(action)))

    def _run(self, task_id: str, payload: dict[str, Any]) -> RunTask:
        if self.state is not State.IDLE:
            raise Failure("InvalidParameter", _not_now("run-task"))
        if task_id in self._used:
            # Unique for each connection only: the official SDK repeats its id when an object is started again.
            raise Failure("InvalidParameter", f"task_id {task_id} was already used on this connection.")
        command = _read_run_task(task_id, payload)
        self._used.add(task_id)
        self.task_id, self.state = task_id, State.STARTING
        return command

    def _continue(self, task_id: str, payload: dict[str, Any]) -> ContinueTask:
        self._check_open("continue-task", task_id, payload)
        return ContinueTask(task_id)

    def _finish(self, task_id: str, payload: dict[str, Any]) -> FinishTask:
        self._check_open("finish-task", task_id, payload)
        self.state = State.FINISHING
        return FinishTask(task_id)

    def _check_open(self, action: str, task_id: str, payload: dict[str, Any]) -> None:
        if self.state not in (State.STARTING, State.STREAMING):
            raise Failure("InvalidParameter", _not_now(action))
        if task_id != self.task_id:
            raise Failure("InvalidParameter", f"task_id {task_id} is not the task running on this connection.")
        _require(payload, "input", "payload")


def _parts(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        frame = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise Unreadable("a text frame is not JSON") from exc
    if not isinstance(frame, dict):
        raise Unreadable("a text frame is not a JSON object")
    return _object(frame.get("header")), _object(frame.get("payload"))


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _require(part: dict[str, Any], name: str, path: str) -> None:
    if part.get(name) is None:
        message = f"Missing required parameter '{path}.{name}'! Please follow the protocol!"
        raise Failure("InvalidParameter", message)


def _bad(path: str) -> Failure:
    return Failure("InvalidParameter", f"Invalid parameter '{path}'! Please follow the protocol!")


def _not_now(action: str) -> str:
    return f"Invalid action('{action}')! Please follow the protocol!"


def _read_run_task(task_id: str, payload: dict[str, Any]) -> RunTask:
    for name in REQUIRED_PAYLOAD:
        _require(payload, name, "payload")
    for name, value in FIXED_PAYLOAD.items():
        if payload[name] != value:
            raise _bad(f"payload.{name}")
    for name, kind in (("model", str), ("input", dict)):
        if not isinstance(payload[name], kind):
            raise _bad(f"payload.{name}")
    parameters = _object(payload.get("parameters"))
    for name in ("format", "sample_rate"):
        _require(parameters, name, "payload.parameters")
    rate = parameters["sample_rate"]
    if not isinstance(rate, int) or rate not in SAMPLE_RATES:
        raise _bad("payload.parameters.sample_rate")
    silence_is_fine = parameters.get("heartbeat") is True
    return RunTask(task_id, payload["model"], str(parameters["format"]), rate, silence_is_fine, parameters)
