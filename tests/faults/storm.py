"""Two hundred jobs, two workers, and for forty seconds everything that can go wrong does, as chance will have it."""

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from tests.faults.of_redis import cut
from tests.faults.scene import Scene
from tests.faults.table import Row
from tests.faults.traces import Job

FAULT: Final = "200 jobs, random faults"
POOL: Final = "prefork + threads"
JOBS: Final = 200
SECONDS: Final = 40.0
SEED: Final = 5

STREAMS: Final = (
    "abort",
    "binary",
    "close",
    "foreign_task_id",
    "garbage",
    "no_task_finished",
    "no_task_started",
    "silent",
    "task_failed",
    "truncated_frame",
)


@dataclass(frozen=True, slots=True)
class Storm:
    """The workers, by pool, and what may happen to them."""

    prefork: Scene
    threads: Scene
    chance: random.Random

    @property
    def scenes(self) -> tuple[Scene, Scene]:
        return self.prefork, self.threads

    def stream_fault(self) -> None:
        """For whoever begins a stream next."""
        kind = self.chance.choice(STREAMS)
        more: dict[str, Any] = {"at": "finish"} if kind == "no_task_finished" else {}
        if kind not in ("no_task_started", "no_task_finished"):
            more = {"after_ms": self.chance.randrange(0, 3000, 100)}
        if kind == "close":
            more["value"] = self.chance.choice([1007, 1011])
            more["after_ms"] = max(more["after_ms"], 100)  # before its start, 1007 says that the request is wrong
        self.prefork.fault(kind=kind, **more)

    def all_streams_cut(self) -> None:
        self.prefork.fault(kind="abort_all")

    def redis_cut(self) -> None:
        cut(self.prefork)

    def child_killed(self) -> None:
        """Not while its worker starts: Celery then takes the whole start for failed."""
        for worker in self.prefork.workers:
            self.prefork.until(partial(self.prefork.answers, worker), f"{worker.name} runs")
            with suppress(OSError, IndexError):
                os.kill(self.chance.choice(self.prefork.children(worker)), signal.SIGKILL)

    def worker_killed(self) -> None:
        self._replace(signal.SIGKILL)

    def worker_drained(self) -> None:
        self._replace(signal.SIGTERM)

    def _replace(self, number: int) -> None:
        scene = self.chance.choice(self.scenes)
        for worker in list(scene.workers):
            scene.dismiss(worker, number)
        scene.hire()

    def damages(self) -> list[Callable[[], None]]:
        """What happens, and how often."""
        return [
            *[self.stream_fault] * 40,
            *[self.all_streams_cut] * 3,
            *[self.redis_cut] * 4,
            *[self.child_killed] * 4,
            *[self.worker_killed] * 2,
            *[self.worker_drained] * 1,
        ]

    def jobs(self) -> list[tuple[Job, float]]:
        """Each with the pace at which it is sent."""
        lengths, paces = (1.0, 1.5, 2.0, 3.0, 4.0), (0.0, 1.0, 2.0)
        return [(self.prefork.job(self.chance.choice(lengths)), self.chance.choice(paces)) for _ in range(JOBS)]


def storm(prefork: Scene, threads: Scene) -> Row:
    """Everything at a moment that chance has chosen."""
    blow = Storm(prefork, threads, random.Random(SEED))
    for scene in blow.scenes:
        scene.hire_up_to(1)
    for scene in blow.scenes:
        scene.crew()
    jobs = blow.jobs()
    acts: list[Callable[[], None]] = [partial(prefork.send, job, pace=pace) for job, pace in jobs]
    acts += blow.damages()
    began = time.monotonic()
    for at, act in sorted(((blow.chance.uniform(0, SECONDS), act) for act in acts), key=lambda pair: pair[0]):
        prefork.pause(max(0.0, began + at - time.monotonic()))
        act()
    row = prefork.row(FAULT, [job for job, _ in jobs], timeout=90)
    return replace(row, pool=POOL).but(*threads.wrong())
