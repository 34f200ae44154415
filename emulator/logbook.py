"""What happened, as facts that tests ask for. Never holds a key or, unless asked to keep it, any audio."""

import collections
import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from emulator.audio import counter_range

__all__ = ["Logbook", "TaskRecord"]

MAX_TASKS = 10_000
MAX_DETAILED = 1_000  # the newest tasks that keep their chunks one by one
MAX_CHUNKS = 1_000
MAX_ERRORS = 1_000
MAX_SECONDS = 3_600


@dataclass(slots=True, eq=False)
class TaskRecord:
    """One run-task and what became of it. Times are monotonic seconds.

    `outcome` is "running", "finished", "failed" (with `code`) or "lost" (the connection ended first). `audio_bytes` and
    `sha256` are of the audio as it came; `counter_ok` says that the samples count up by one, modulo 65536. `fault` is
    the kind of the fault that the task took.
    """

    connection: int
    task_id: str
    model: str
    parameters: dict[str, Any]
    began: float
    outcome: str = "running"
    code: str | None = None
    ended: float | None = None
    fault: str | None = None
    audio_bytes: int = 0
    sentences: int = 0
    chunks: list[tuple[float, int]] = field(default_factory=list)
    continues: int = 0
    first_sample: int | None = None
    last_sample: int | None = None
    counter_ok: bool = True
    kept: bytearray | None = None
    _sha: Any = field(default_factory=hashlib.sha256)

    @property
    def sha256(self) -> str:
        return str(self._sha.hexdigest())

    @property
    def audio(self) -> bytes:
        """The audio as it came; empty unless the logbook keeps audio."""
        return bytes(self.kept or b"")

    def took(self, data: bytes, now: float) -> None:
        """A frame of audio has come. Only the newest thousand tasks' first thousand frames are kept one by one."""
        self.audio_bytes += len(data)
        self._sha.update(data)
        if len(self.chunks) < MAX_CHUNKS:
            self.chunks.append((now, len(data)))
        if self.kept is not None:
            self.kept += data

    def heard(self, pcm: bytes) -> None:
        """Whole samples of that audio, in order."""
        if not pcm:
            return
        first = int.from_bytes(pcm[:2], "little")
        follows = self.last_sample is None or first == (self.last_sample + 1) % 65536
        self.counter_ok = self.counter_ok and follows and counter_range(pcm) is not None
        self.first_sample = first if self.first_sample is None else self.first_sample
        self.last_sample = int.from_bytes(pcm[-2:], "little")

    def to_wire(self, with_chunks: bool = False) -> dict[str, Any]:
        """The record as JSON; with (arrival, bytes) of each frame if asked."""
        names = [name for name in self.__slots__ if name not in ("chunks", "kept", "_sha")]
        wire = {name: getattr(self, name) for name in names} | {"sha256": self.sha256}
        return wire | ({"chunks": list(self.chunks)} if with_chunks else {})


class Rate:
    """How many of something came in a second, at most."""

    def __init__(self) -> None:
        self.most = 0
        self._recent: collections.deque[float] = collections.deque()

    def note(self, now: float) -> None:
        self._recent.append(now)
        while self._recent[0] <= now - 1.0:
            self._recent.popleft()
        self.most = max(self.most, len(self._recent))


class History:
    """How many of each kind came in each whole second. What comes after the first hour counts in its last second."""

    def __init__(self, began: float, *kinds: str) -> None:
        self._began = began
        self._counts: dict[str, list[int]] = {kind: [] for kind in kinds}

    def note(self, kind: str, now: float) -> None:
        # A start may have been timed just before the book was cleared: it is of the first second.
        second = min(max(int(now - self._began), 0), MAX_SECONDS - 1)
        for counts in self._counts.values():
            counts.extend([0] * (second + 1 - len(counts)))
        self._counts[kind][second] += 1

    def to_wire(self) -> dict[str, list[int]]:
        """The counts as JSON: lists of the same length, up to the last event of any kind."""
        return {kind: list(counts) for kind, counts in self._counts.items()}


class Logbook:
    """Counts and task records; safe to read from any thread while the server runs.

    `tcp` counts accepted TCP connections, `connections` WebSocket upgrades, `streams` tasks that were let in, `refused`
    tasks that the limits kept out. The largest numbers in any one second are of upgrades asked for, refused ones too,
    and of tasks that were let in. `idle_closed` counts connections that the service closed because nothing came on
    them. Of the requests to text models `generations` were answered, and at most `generations_max` were under way at
    once, over `generation_connections` connections.
    """

    def __init__(self, keep_audio: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self.keep_audio = keep_audio
        self._clock = clock
        self._changed = threading.Condition()
        self._reset()

    def _reset(self) -> None:
        self.tcp = 0
        self.connections = 0
        self.connections_open = 0
        self.connections_max = 0
        self.idle_closed = 0
        self.upgrades = Rate()
        self.rejected: dict[int, int] = {}
        self.streams = 0
        self.streams_open = 0
        self.streams_max = 0
        self.starts = Rate()
        self.refused = 0
        self.history = History(self._clock(), "upgrades", "starts", "refused")
        self.generations = 0
        self.generations_asked = 0
        self.generations_open = 0
        self.generations_max = 0
        self.generation_connections = 0
        self.errors: collections.deque[str] = collections.deque(maxlen=MAX_ERRORS)
        self._tasks: collections.deque[TaskRecord] = collections.deque(maxlen=MAX_TASKS)

    def __repr__(self) -> str:
        return (
            f"<Logbook connections {self.connections} ({self.connections_open} open), "
            f"streams {self.streams} ({self.streams_open} open, max {self.streams_max}) | "
            f"rejected {sum(self.rejected.values())}, errors {len(self.errors)}>"
        )

    @property
    def tasks(self) -> tuple[TaskRecord, ...]:
        """The newest ten thousand tasks, oldest first, refused ones too."""
        with self._changed:
            return tuple(self._tasks)

    def summary(self) -> dict[str, Any]:
        """All counts, as JSON."""
        with self._changed:
            outcomes = collections.Counter(task.outcome for task in self._tasks)
            per_connection = collections.Counter(task.connection for task in self._tasks)
            names = ("tcp", "connections", "connections_open", "connections_max", "streams", "streams_open")
            return {name: getattr(self, name) for name in names} | {
                "idle_closed": self.idle_closed,
                "streams_max": self.streams_max,
                "refused": self.refused,
                "starts_per_second_max": self.starts.most,
                "upgrades_per_second_max": self.upgrades.most,
                "per_second": self.history.to_wire(),
                "generations": self.generations,
                "generations_asked": self.generations_asked,
                "generations_max": self.generations_max,
                "generation_connections": self.generation_connections,
                "rejected": {str(status): count for status, count in self.rejected.items()},
                "errors": list(self.errors),
                "outcomes": dict(outcomes),
                "tasks_per_connection": {str(number): count for number, count in per_connection.items()},
            }

    def clear(self) -> None:
        """Start afresh. What is open stays counted as open."""
        with self._changed:
            connections, streams, generations = self.connections_open, self.streams_open, self.generations_open
            self._reset()
            self.generations_open = self.generations_max = generations
            self.connections_open = self.connections_max = connections
            self.streams_open = self.streams_max = streams
            self._changed.notify_all()

    def wait_until(self, condition: Callable[["Logbook"], bool], timeout: float = 5.0) -> bool:
        """Wait until the condition holds, at most `timeout` seconds; say whether it does."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(self), timeout)

    # From here on: what the server notes.

    def tcp_opened(self) -> None:
        with self._changed:
            self.tcp += 1
            self._changed.notify_all()

    def connection_opened(self) -> int:
        """An upgrade was answered. Returns the connection's number, from 1."""
        with self._changed:
            self.connections += 1
            self.connections_open += 1
            self._upgrade_asked()
            self.connections_max = max(self.connections_max, self.connections_open)
            self._changed.notify_all()
            return self.connections

    def connection_closed(self) -> None:
        with self._changed:
            self.connections_open -= 1
            self._changed.notify_all()

    def connection_timed_out(self) -> None:
        with self._changed:
            self.idle_closed += 1
            self._changed.notify_all()

    def upgrade_rejected(self, status: int) -> None:
        with self._changed:
            self.rejected[status] = self.rejected.get(status, 0) + 1
            self._upgrade_asked()
            self._changed.notify_all()

    def protocol_error(self, text: str) -> None:
        with self._changed:
            self.errors.append(text)
            self._changed.notify_all()

    def generation_asked(self, *, is_first: bool) -> None:
        """A request to a text model has come; `is_first`: it is its connection's first."""
        with self._changed:
            self.generations_asked += 1
            self.generations_open += 1
            self.generations_max = max(self.generations_max, self.generations_open)
            self.generation_connections += is_first
            self._changed.notify_all()

    def generation_ended(self) -> None:
        with self._changed:
            self.generations_open -= 1
            self._changed.notify_all()

    def generated(self) -> None:
        with self._changed:
            self.generations += 1
            self._changed.notify_all()

    def task_asked(self, connection: int, task_id: str, model: str, parameters: dict[str, Any]) -> TaskRecord:
        """A run-task has come, let in or not."""
        kept = bytearray() if self.keep_audio else None
        record = TaskRecord(connection, task_id, model, parameters, self._clock(), kept=kept)
        with self._changed:
            self._tasks.append(record)
            if len(self._tasks) > MAX_DETAILED:
                self._tasks[-MAX_DETAILED - 1].chunks.clear()
            self._changed.notify_all()
        return record

    def stream_opened(self, now: float) -> None:
        """A task was let in at `now` (monotonic seconds)."""
        with self._changed:
            self.streams += 1
            self.streams_open += 1
            self.streams_max = max(self.streams_max, self.streams_open)
            self.starts.note(now)
            self.history.note("starts", now)
            self._changed.notify_all()

    def stream_refused(self, now: float) -> None:
        """A task was kept out by the limits at `now` (monotonic seconds)."""
        with self._changed:
            self.refused += 1
            self.history.note("refused", now)
            self._changed.notify_all()

    def stream_closed(self) -> None:
        with self._changed:
            self.streams_open -= 1
            self._changed.notify_all()

    def task_ended(self, record: TaskRecord, outcome: str, code: str | None = None) -> None:
        with self._changed:
            record.outcome, record.code, record.ended = outcome, code, self._clock()
            self._changed.notify_all()

    def noted(self) -> None:
        """A record has changed: wake who waits for it."""
        with self._changed:
            self._changed.notify_all()

    def _upgrade_asked(self) -> None:
        now = self._clock()
        self.upgrades.note(now)
        self.history.note("upgrades", now)
