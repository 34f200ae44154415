"""One WebSocket connection: reads frames, keeps the timers, runs one task after the other."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from aiohttp import WSMessage, WSMsgType

from emulator import events
from emulator.faults import TASK_KINDS
from emulator.link import Link
from emulator.logbook import TaskRecord
from emulator.mischief import Mischief
from emulator.protocol import ContinueTask, Dialogue, Failure, RunTask, State, Unreadable
from emulator.task import Service, TaskRun
from emulator.watchdog import Watchdog

__all__ = ["Connection"]

REFUSALS = {
    "Throttling.RateQuota": "Requests rate limit exceeded, please try again later.",
    "Throttling.Concurrency": "Too many concurrent requests, please try again later.",
}
DATA = (WSMsgType.TEXT, WSMsgType.BINARY)


class Connection:
    """Serves one client until either side hangs up. `account` tells clients apart for the limits and is never shown."""

    def __init__(self, link: Link, number: int, account: str, service: Service, answers_pings: bool = True) -> None:
        self._link = link
        self._number = number
        self._account = account
        self._service = service
        self._answers_pings = answers_pings
        self._dialogue = Dialogue()
        self._run: TaskRun | None = None
        self._jobs: set[asyncio.Task[None]] = set()
        self._worker: asyncio.Task[None] | None = None
        self._watchdog = Watchdog(self._timed_out)

    def __repr__(self) -> str:
        return f"<Connection {self._number} {self._dialogue.state.value}>"

    @property
    def is_idle(self) -> bool:
        return self._dialogue.state is State.IDLE

    async def serve(self) -> None:
        """Read until the end, then tidy up."""
        self._watchdog.set(self._service.limits.first_task_seconds)
        try:
            while await self._take(await self._link.receive()):
                pass
        finally:
            self._watchdog.stop()
            self._retire("lost")
            for job in self._jobs:
                job.cancel()
            await self._link.end()

    def hang_up(self, code: int, reason: str = "") -> None:
        """Close from our side."""
        self._dialogue.closed()
        self._link.close(code, reason)

    def abort(self) -> None:
        """End at once, without a closing handshake."""
        self._link.abort()

    async def _take(self, message: WSMessage) -> bool:
        """Handle one message; False when it was the last one."""
        if message.type is WSMsgType.PING:
            # A ping is no data: it extends no timer.
            if self._answers_pings:
                await self._link.pong(message.data)
            return True
        if message.type is WSMsgType.PONG:
            return True
        if message.type not in DATA:
            return False
        if self._dialogue.state is not State.CLOSED:
            await self._take_data(message)
        return True

    async def _take_data(self, message: WSMessage) -> None:
        try:
            if message.type is WSMsgType.TEXT:
                await self._on_command(message.data)
            else:
                await self._on_audio(message.data)
        except Unreadable as exc:
            self._service.logbook.protocol_error(str(exc))
            self._retire("failed", "1007")
            self.hang_up(1007, "Invalid payload data")
        except Failure as failure:
            self._service.logbook.protocol_error(str(failure))
            await self._fail(failure)

    async def _on_command(self, text: str) -> None:
        command = self._dialogue.command(text)
        if isinstance(command, RunTask):
            self._start(command)
            return
        assert self._run is not None  # the dialogue allows the other commands within a task only
        if isinstance(command, ContinueTask):
            self._run.record.continues += 1
            self._expect_data()
            return
        self._watchdog.set(None)
        await self._run.put(None)

    async def _on_audio(self, data: bytes) -> None:
        self._dialogue.audio()
        assert self._run is not None
        self._run.record.took(data, time.monotonic())
        self._service.logbook.noted()
        # While the engine lags, it is we who do not read: that must not look like a client that does not send.
        if self._run.is_behind:
            self._watchdog.set(None)
        run = self._run
        await run.put(data)
        if run is self._run:
            self._expect_data()

    def _start(self, command: RunTask) -> None:
        service = self._service
        record = service.logbook.task_asked(self._number, command.task_id, command.model, command.parameters)
        try:
            self._run = self._admit(command, record)
        except Failure as failure:
            service.logbook.task_ended(record, "failed", failure.code)
            raise
        self._expect_data()
        self._worker = self._spawn(self._work(self._run))

    def _admit(self, command: RunTask, record: TaskRecord) -> TaskRun:
        service, task_id = self._service, command.task_id
        if not service.limits.knows(command.model):
            raise Failure("ModelNotFound", f"Model can not be found: {command.model}", task_id)
        now = time.monotonic()
        if refusal := service.admission.enter(self._account, command.model, now):
            service.logbook.stream_refused(now)
            raise Failure(refusal, REFUSALS[refusal], task_id)
        try:
            mischief = Mischief(service.faults.take(TASK_KINDS, command.parameters.get("marker")), self._link, task_id)
            record.fault = mischief.fault.kind if mischief.fault else None
            run = TaskRun(command, service, self._link, record, mischief)
        except BaseException:
            service.admission.leave(self._account)
            raise
        service.logbook.stream_opened(now)
        return run

    async def _work(self, run: TaskRun) -> None:
        try:
            await run.run(self._dialogue.started)
        except Failure as failure:
            await self._fail(failure)
        except ConnectionError:
            self._dialogue.closed()
            self._retire("lost")
        except Exception as exc:
            # A fault of the emulator's own must not leave its client waiting.
            self._service.logbook.protocol_error(f"internal: {type(exc).__name__}")
            await self._fail(Failure("InternalError", f"The emulator failed: {type(exc).__name__}."))
        else:
            await self._conclude(run)

    async def _conclude(self, run: TaskRun) -> None:
        # Everything is settled before the client can know: its next run-task may come at once.
        self._retire("finished")
        self._dialogue.finished()
        self._watchdog.set(self._service.limits.idle_seconds)
        late = run.mischief.fault if run.mischief.is_("late_events") else None
        try:
            await self._link.send(events.task_finished(run.command.task_id))
            if late is not None and run.last_result is not None:
                await asyncio.sleep(late.number(0) / 1000)
                await self._link.send(run.last_result)
        except ConnectionError:
            self._dialogue.closed()

    async def _fail(self, failure: Failure) -> None:
        task_id = failure.task_id or self._dialogue.task_id
        self._retire("failed", failure.code)
        self._dialogue.closed()
        try:
            await self._link.send(events.task_failed(task_id, failure.code, failure.message))
        except ConnectionError:
            return
        if failure.keep_open:
            self._dialogue.finished()
            self._watchdog.set(self._service.limits.idle_seconds)
        else:
            self.hang_up(self._service.limits.close_code)

    def _retire(self, outcome: str, code: str | None = None) -> None:
        """The running task, if there is one, is over."""
        run, worker = self._run, self._worker
        self._run = self._worker = None
        self._watchdog.set(None)
        if run is None:
            return
        if worker is not None and worker is not asyncio.current_task():
            worker.cancel()
        self._link.read_pause = 0.0
        self._service.admission.leave(self._account)
        self._service.logbook.stream_closed()
        self._service.logbook.task_ended(run.record, outcome, code)
        run.abandon()

    def _expect_data(self) -> None:
        # A reader that is slow on purpose must not blame the client either.
        self._watchdog.set(None if self._link.read_pause else self._service.limits.no_data_seconds)

    def _timed_out(self) -> None:
        if self.is_idle:
            self._service.logbook.connection_timed_out()
            self.hang_up(self._service.limits.close_code)
            return
        if self._link.stalled or self._link.read_pause:
            return  # a fault keeps us from reading: the client may well have sent
        seconds = self._service.limits.no_data_seconds
        self._spawn(self._fail(Failure("CLIENT_ERROR", f"request timeout after {seconds:g} seconds.")))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        job = asyncio.ensure_future(work)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return job
