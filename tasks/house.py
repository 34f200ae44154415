"""What a job uses of the process that it runs in."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from config.settings import JobSettings
from tasks.audio import AudioReference, Recording
from tasks.errors import JobError
from tasks.job.twins import Twins
from tasks.stream import Places
from worker.beat import Pulse
from worker.stops import Stop

OpenAudio = Callable[[AudioReference, int, int | None], AbstractContextManager[Recording]]
"""Opens a reference at a sample rate in hertz: one of its channels, or all of them mixed."""

Digest = Callable[[AudioReference, Callable[[], None]], str]
"""What tells the bytes behind a reference from others; reads them all, and calls the last argument on the way."""

Watch = Callable[[str, Stop, Pulse], AbstractContextManager[None]]
"""Lets the process's heartbeat speak for a running job, and ask it to stop: if this key appears, or the worker ends."""


@dataclass(frozen=True, kw_only=True, slots=True)
class House:
    """What a job uses of the process that it runs in, and by which rules. `queue` is the one that it came by.

    `explain` says what an exception means that nobody foresaw. `redis_patience` is in seconds.
    """

    worker: str
    queue: str
    rules: JobSettings
    redis_patience: float
    places: Places
    open_audio: OpenAudio
    digest: Digest
    twins: Twins
    watch: Watch
    explain: Callable[[Exception], JobError]
