"""Does the faults of a task, each in a function of its own. A fault that ends the task says so by raising."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

from emulator import events
from emulator.engines import Result
from emulator.faults import Fault
from emulator.link import Link
from emulator.protocol import Failure

__all__ = ["Mischief"]

FOREIGN_TASK_ID = "00000000000000000000000000000000"


async def for_ever() -> NoReturn:
    """Wait until cancelled: the connection's end cancels what is left of its task."""
    while True:
        await asyncio.Event().wait()


class Mischief:
    """The fault that one task has taken, if any, done at its moment and once."""

    def __init__(self, fault: Fault | None, link: Link, task_id: str) -> None:
        self.fault = fault
        self._link = link
        self._task_id = task_id

    def is_(self, kind: str) -> bool:
        return self.fault is not None and self.fault.kind == kind

    async def at(self, moment: str, audio_ms: float = 0.0) -> None:
        """The task has come to this moment. Raises Failure or ConnectionError when the fault ends it."""
        fault = self.fault
        if fault is None or fault.at != moment or audio_ms < fault.after_ms or fault.kind not in ACTIONS:
            return
        self.fault = None
        await ACTIONS[fault.kind](fault, self._link, self._task_id)


async def _abort(fault: Fault, link: Link, task_id: str) -> None:
    link.abort()
    raise ConnectionAbortedError("fault abort")


async def _binary(fault: Fault, link: Link, task_id: str) -> None:
    await link.send_bytes(b"\x00\x01\x02\x03")


async def _close(fault: Fault, link: Link, task_id: str) -> None:
    link.close(fault.number(1011), fault.message)
    raise ConnectionAbortedError("fault close")


async def _delay_task_started(fault: Fault, link: Link, task_id: str) -> None:
    await asyncio.sleep(fault.number(1000) / 1000)


async def _foreign_task_id(fault: Fault, link: Link, task_id: str) -> None:
    await link.send(events.result(FOREIGN_TASK_ID, Result(0, 1, "foreign"), 1, 1))


async def _garbage(fault: Fault, link: Link, task_id: str) -> None:
    await link.send(fault.text("this is not JSON {"))


async def _silent(fault: Fault, link: Link, task_id: str) -> None:
    link.stalled = True
    await for_ever()


async def _slow_reader(fault: Fault, link: Link, task_id: str) -> None:
    link.read_pause = fault.number(100) / 1000


async def _task_failed(fault: Fault, link: Link, task_id: str) -> None:
    raise Failure(fault.text("InternalError"), fault.message, task_id, fault.keep_open)


async def _truncated_frame(fault: Fault, link: Link, task_id: str) -> None:
    link.truncate()
    raise ConnectionAbortedError("fault truncated_frame")


# no_task_started, no_task_finished and late_events have no moment of their own: the task asks for them by name.
ACTIONS: dict[str, Callable[[Fault, Link, str], Awaitable[None]]] = {
    "abort": _abort,
    "binary": _binary,
    "close": _close,
    "delay_task_started": _delay_task_started,
    "foreign_task_id": _foreign_task_id,
    "garbage": _garbage,
    "silent": _silent,
    "slow_reader": _slow_reader,
    "task_failed": _task_failed,
    "truncated_frame": _truncated_frame,
}
