"""Faults to order: what the service may do to a client on a bad day. This file only keeps them; mischief does them."""

import dataclasses
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["CONNECTION_KINDS", "HTTP_KINDS", "NOW_KINDS", "TASK_KINDS", "Fault", "Faults"]

CONNECTION_KINDS = ("http_status", "accept_never", "no_pong")
HTTP_KINDS = ("generation_status", "generation_garbage", "generation_cut", "generation_delay", "generation_silent")
NOW_KINDS = ("abort_all", "close_idle")
TASK_KINDS = (
    "abort",
    "binary",
    "close",
    "delay_task_started",
    "foreign_task_id",
    "garbage",
    "late_events",
    "no_task_finished",
    "no_task_started",
    "silent",
    "slow_reader",
    "task_failed",
    "truncated_frame",
)
TEXT_KINDS = ("task_failed", "garbage", "generation_garbage")
KINDS = (*CONNECTION_KINDS, *HTTP_KINDS, *NOW_KINDS, *TASK_KINDS)
MOMENTS = ("start", "audio", "finish")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong, `times` times; the next connection or task that it suits takes it.

    `at` is the moment in a task: "start" (before task-started), "audio" (once `after_ms` of audio have come) or
    "finish" (on finish-task). An `after_ms` above 0 means "audio".

    With a `marker` it is for a task that has the same among its parameters, so that many clients can be hit at once,
    each by its own.

    `value` means, by kind:
      http_status, generation_status   the HTTP status (503); `retry_after` adds that header, in seconds, and `code` is
                                       the error code ("InjectedFault"), with `message`
      generation_garbage               the body that is sent as an answer (something that is not JSON)
      generation_delay                 the delay in milliseconds (1000)
      close, close_idle                the close code (1011)
      task_failed                      the error code ("InternalError"), with `message`; `keep_open` spares the socket
      delay_task_started, late_events  the delay in milliseconds (1000 and 0)
      slow_reader                      the pause before each read in milliseconds (100)
      garbage                          the text frame itself
    """

    kind: str
    at: str = "start"
    after_ms: int = 0
    times: int = 1
    value: int | str | None = None
    message: str = "Injected by the emulator."
    keep_open: bool = False
    retry_after: int | None = None
    code: str = "InjectedFault"
    marker: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind={self.kind!r} must be one of {', '.join(KINDS)}")
        if self.at not in MOMENTS:
            raise ValueError(f"at={self.at!r} must be one of {', '.join(MOMENTS)}")
        for name, least in (("after_ms", 0), ("times", 1)):
            number = getattr(self, name)
            if not isinstance(number, int) or number < least:
                raise ValueError(f"{name}={number!r} must be an integer of at least {least}")
        if self.marker is not None and (self.kind not in TASK_KINDS or not isinstance(self.marker, str)):
            raise ValueError(f"marker={self.marker!r} must be text, and kind one of {', '.join(TASK_KINDS)}")
        if not isinstance(self.value, str) and self.kind == "task_failed" and self.value is not None:
            raise ValueError(f"value={self.value!r} must be an error code")
        if not isinstance(self.value, int) and self.kind not in TEXT_KINDS and self.value is not None:
            raise ValueError(f"value={self.value!r} must be an integer")
        if self.after_ms and self.at == "start":
            object.__setattr__(self, "at", "audio")

    def number(self, default: int) -> int:
        """The value as a number."""
        return self.value if isinstance(self.value, int) else default

    def text(self, default: str) -> str:
        """The value as text."""
        return self.value if isinstance(self.value, str) else default

    @classmethod
    def from_wire(cls, wire: object) -> "Fault":
        """Read a fault from JSON. Raises ValueError that says what is allowed."""
        if not isinstance(wire, dict):
            raise ValueError("a fault is a JSON object")
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(wire) - known):
            raise ValueError(f"unknown field {unknown[0]!r}; a fault has {', '.join(sorted(known))}")
        if "kind" not in wire:
            raise ValueError(f"kind is missing; it is one of {', '.join(KINDS)}")
        return cls(**wire)

    def to_wire(self) -> dict[str, Any]:
        """The fault as JSON."""
        return dataclasses.asdict(self)


class Faults:
    """The faults still to come, oldest first. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: list[Fault] = []
        self._on_now: Callable[[Fault], None] | None = None

    def __repr__(self) -> str:
        return f"<Faults {', '.join(f'{fault.kind} x{fault.times}' for fault in self.pending) or 'none'}>"

    @property
    def pending(self) -> tuple[Fault, ...]:
        with self._lock:
            return tuple(self._pending)

    def add(self, *faults: Fault) -> None:
        """Order faults. One that needs no taker, such as `abort_all`, happens at once if a server is running."""
        for fault in faults:
            if fault.kind not in NOW_KINDS:
                with self._lock:
                    self._pending.append(fault)
            elif self._on_now is not None:
                self._on_now(fault)

    def clear(self) -> None:
        """Forget the faults that nobody has taken yet."""
        with self._lock:
            self._pending.clear()

    def take(self, kinds: tuple[str, ...], marker: object = None) -> Fault | None:
        """The oldest fault of these kinds that is for anybody or for this marker, used up once; None for none."""
        with self._lock:
            for index, fault in enumerate(self._pending):
                if fault.kind in kinds and fault.marker in (None, marker):
                    left = [dataclasses.replace(fault, times=fault.times - 1)] if fault.times > 1 else []
                    self._pending[index : index + 1] = left
                    return fault
        return None

    def on_now(self, act: Callable[[Fault], None]) -> None:
        """The server's hook for faults that happen at once; called in the thread that adds them."""
        self._on_now = act
