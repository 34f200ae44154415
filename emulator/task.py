"""One recognition from task-started to its last result: takes the audio in order, lets the engine hear it, tells."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from emulator import events
from emulator.audio import PcmReader, is_silent
from emulator.engines import Engine, Result
from emulator.faults import Faults
from emulator.limits import Admission, Limits
from emulator.link import Link
from emulator.logbook import Logbook, TaskRecord
from emulator.mischief import Mischief, for_ever
from emulator.protocol import Failure, RunTask

__all__ = ["Service", "TaskRun"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What all connections of a server share."""

    engine: Engine
    executor: Executor
    limits: Limits
    admission: Admission
    faults: Faults
    logbook: Logbook


class TaskRun:
    """Works off one task's audio. `put` waits while the engine lags, which holds the client back by TCP."""

    def __init__(self, command: RunTask, service: Service, link: Link, record: TaskRecord, mischief: Mischief) -> None:
        self.command = command
        self.record = record
        self.mischief = mischief
        self.last_result: str | None = None
        self._service = service
        self._link = link
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(service.limits.queue_chunks)
        self._reader = PcmReader(command.format, command.sample_rate)
        self._stream = service.engine.open(command.sample_rate)
        self._audio_ms = 0.0
        self._silent_ms = 0.0
        self._beaten_ms = 0.0

    @property
    def is_behind(self) -> bool:
        """Whether the next `put` would wait."""
        return self._queue.full()

    async def put(self, data: bytes | None) -> None:
        """The next frame of audio, or None for the end of it."""
        await self._queue.put(data)

    def abandon(self) -> None:
        """The task is over: whoever waits in `put` goes on, and what was put is forgotten."""
        while not self._queue.empty():
            self._queue.get_nowait()

    async def run(self, started: Callable[[], None]) -> None:
        """Do the task up to its last result. Raises Failure, or ConnectionError when there is nobody to tell."""
        await self.mischief.at("start")
        if self.mischief.is_("no_task_started"):
            await self._swallow()
        started()
        await self._link.send(events.task_started(self.command.task_id))
        while (data := await self._queue.get()) is not None:
            await self._hear(data)
        await self.mischief.at("finish")
        await self._flush()
        if self.mischief.is_("no_task_finished"):
            await for_ever()

    async def _swallow(self) -> None:
        # Goes on reading, so that the client's leaving is noticed.
        while True:
            await self._queue.get()

    async def _hear(self, data: bytes) -> None:
        pcm = self._reader.feed(data)
        length_ms = len(pcm) * 500 / self.command.sample_rate
        self._audio_ms += length_ms
        self.record.heard(pcm)
        await self._tell(await self._call(self._stream.feed, pcm))
        await self.mischief.at("audio", self._audio_ms)
        await self._judge_silence(pcm, length_ms)

    async def _flush(self) -> None:
        if not self.record.audio_bytes:
            raise Failure("NO_VALID_AUDIO_ERROR", "No valid audio was received.")
        await self._tell(await self._call(self._stream.finish))

    async def _call(self, work: Callable[..., list[Result]], *args: bytes) -> list[Result]:
        if not self._service.engine.blocking:
            return work(*args)
        return await asyncio.get_running_loop().run_in_executor(self._service.executor, work, *args)

    async def _tell(self, results: list[Result]) -> None:
        for found in results:
            text = events.result(self.command.task_id, found, self.record.sentences + 1, self._audio_ms)
            self.record.sentences += found.is_final
            self.last_result = text
            await self._link.send(text)

    async def _judge_silence(self, pcm: bytes, length_ms: float) -> None:
        """Counted in audio time, not by the clock, so that a fast client meets the same limit as a live one."""
        if not is_silent(pcm):
            self._silent_ms = self._beaten_ms = 0.0
            return
        self._silent_ms += length_ms
        limits = self._service.limits
        if self.command.heartbeat:
            await self._beat(limits.heartbeat_seconds * 1000)
        elif limits.silence_seconds is not None and self._silent_ms >= limits.silence_seconds * 1000:
            raise Failure("ResponseTimeout", "Response timeout.")

    async def _beat(self, every_ms: float) -> None:
        if self._silent_ms - self._beaten_ms >= every_ms:
            self._beaten_ms = self._silent_ms
            await self._link.send(events.heartbeat(self.command.task_id, int(self._audio_ms)))
