"""Where a drill happens: one pool's workers on a database of their own, the jobs they are given, what is left of those.

Made to be used by a thread of its own: drills wait for most of their time, so that many can happen at once.
"""

import contextlib
import json
import os
import signal
import socket
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from emulator.stack import Process, Stack, is_ready
from tests.faults.judge import SENTENCE_MS, judge
from tests.faults.table import Row, summed
from tests.faults.traces import Job, Traces
from tests.recordings import counting, written
from tests.sites import KEY

LEASE, VISIBILITY, DRAIN = 2, 5, 6

HURRIED: Final = {
    "STENOPOOL_LEASE_SECONDS": str(LEASE),
    "STENOPOOL_VISIBILITY_TIMEOUT": str(VISIBILITY),
    "STENOPOOL_DRAIN_SECONDS": str(DRAIN),
    # Tries follow each other so fast that those of a job would be used up before the damage is mended.
    "STENOPOOL_JOB_RETRIES": "20",
    "STENOPOOL_JOB_BACKOFF": "0.3",
    "STENOPOOL_JOB_BACKOFF_MAX": "1",
    "STENOPOOL_STARTED_TIMEOUT": "2",
    "DASHSCOPE_READ_TIMEOUT": "2",
    "STENOPOOL_UPSTREAM_QUIET": "2",
    "STENOPOOL_UPSTREAM_PONG": "2",
    "STENOPOOL_POOL_WARM_SPREAD": "0",
    "STENOPOOL_QUOTA_STARTS_PER_SECOND": "1000",
    "STENOPOOL_AUDIO_ALLOW_PRIVATE": "true",
    "DASHSCOPE_API_KEY": KEY,
}
"""Every wait as short as the settings allow, or nearly: the drills are about what happens, not about how late."""

PATIENCE: Final = 60.0
UNTOLD: Final = ("Unrecoverable error", "failed unexpectedly")
"""What no fault may make a worker log: it would be a fault of ours."""


class Cancelled(Exception):
    """The tests are over, and nobody waits for the drill any more."""


class Scene:
    """Workers, jobs and what is left of them. `env` is added to the workers' settings."""

    def __init__(
        self, stack: Stack, pool: str, database: int, over: threading.Event, *, concurrency: int = 2, **env: str
    ) -> None:
        self.stack = stack
        self.pool = pool
        self.workers: list[Process] = []
        self._over = over
        self._concurrency = concurrency
        self._hired = 0
        self._recordings: dict[float, str] = {}
        self.audio = stack.folder / "audio"
        self._name = f"{pool}-{database}"
        url = stack.redis_url.rsplit("/", 1)[0] + f"/{database}"
        self._env = HURRIED | {"STENOPOOL_REDIS_URL": url, "STENOPOOL_AUDIO_ROOTS": str(self.audio)} | env
        self.traces = Traces(url, stack.http_url)
        self.redis = self.traces.redis
        # It knows nothing of ours but the broker's address, and results are looked up where they are kept.
        self.client = Celery(self._name, broker=url, set_as_current=False)

    def __repr__(self) -> str:
        return f"<Scene {self._name}, {len(self.workers)} workers>"

    # -- workers -------------------------------------------------------------------------------------------------------

    def hire(self) -> Process:
        """Start a worker; not waited for."""
        self._hired += 1
        name = f"{self._name}-{self._hired}"
        worker = self.stack.start_worker(self.pool, self._concurrency, name, **self._env)
        self.workers.append(worker)
        return worker

    def hire_up_to(self, number: int) -> None:
        """Start the workers that are missing."""
        while len(self.workers) < number:
            self.hire()

    def crew(self, number: int = 1) -> None:
        """See to it that so many workers take jobs."""
        self.hire_up_to(number)
        self.until(lambda: all(map(is_ready, self.workers)), f"{number} workers are ready")

    def answers(self, worker: Process) -> bool:
        """Whether the worker's loop runs, a moment after it says that it is ready."""
        with contextlib.suppress(OperationalError):
            name = f"{worker.name}@{socket.gethostname()}"
            return bool(self.client.control.ping(destination=[name], timeout=1, limit=1))
        return False

    def dismiss(self, worker: Process, number: int = signal.SIGKILL) -> float:
        """Send a worker a signal that ends it. Returns when that was."""
        self.workers.remove(worker)
        os.kill(worker.pid, number)
        return time.time()

    def runner(self, job: Job) -> Process:
        """The worker that has the job, by what its record says."""
        name = self.traces.record(job).get("worker", "").split("@")[0]
        return next(worker for worker in self.workers if worker.name == name)

    def reach_mid_sentence(self, job: Job, sentences: int) -> None:
        """Wait until the job has so many sentences and half of the next one is said."""
        self.until(lambda: self.traces.heard(job) >= sentences, f"{sentences} sentences")
        self.pause(SENTENCE_MS / 2000)

    def children(self, worker: Process) -> list[int]:
        """The processes that a worker has forked."""
        listed = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
        return [int(pid) for pid in listed]

    # -- jobs ----------------------------------------------------------------------------------------------------------

    def job(self, seconds: float, expected: str = "succeeded") -> Job:
        """A job that is still to be sent."""
        return Job(id=uuid.uuid4().hex, seconds=seconds, expected=expected)

    def send(self, *jobs: Job, copies: int = 1, audio: str | None = None, **options: Any) -> None:
        """Send jobs as a web app would; each as often as asked for."""
        for job in jobs:
            reference = audio or self._recording(job.seconds)
            given = {"parameters": {"marker": job.id}} | options
            for _ in range(copies):
                self.client.send_task("tasks.transcribe", args=[reference], kwargs=given, task_id=job.id)

    def _recording(self, seconds: float) -> str:
        """A reference to one of this length."""
        if seconds not in self._recordings:
            self._recordings[seconds] = written(self.audio, counting(seconds)).as_uri()
        return self._recordings[seconds]

    def sent(self, *seconds: float, **options: Any) -> list[Job]:
        """Send a job for each of these lengths."""
        jobs = [self.job(length) for length in seconds]
        self.send(*jobs, **options)
        return jobs

    def fault(self, job: Job | None = None, **fault: Any) -> None:
        """Order a fault of the service, for this job's next stream or for whoever comes first."""
        order = fault if job is None else fault | {"marker": job.id}
        request = urllib.request.Request(f"{self.stack.http_url}/faults", json.dumps(order).encode(), method="POST")
        urllib.request.urlopen(request, timeout=10).close()

    # -- waiting -------------------------------------------------------------------------------------------------------

    def until(self, condition: Callable[[], object], what: str, timeout: float = PATIENCE, every: float = 0.05) -> None:
        """Wait until a condition holds, with a bound. A Redis that is away makes it wait on."""
        if not self.holds(condition, timeout, every):
            raise AssertionError(f"{self!r}: not within {timeout:g} s: {what}")

    def holds(self, condition: Callable[[], object], timeout: float = PATIENCE, every: float = 0.05) -> bool:
        """Whether a condition comes to hold in time."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            with contextlib.suppress(redis.RedisError):
                if condition():
                    return True
            self.pause(every)
        return False

    def pause(self, seconds: float) -> None:
        """Let time pass. Raises `Cancelled` when the tests are over."""
        if self._over.wait(seconds):
            raise Cancelled

    def settled(self, jobs: Iterable[Job], timeout: float = PATIENCE) -> bool:
        """Wait until all jobs have ended and no message is left that could begin one again; whether it is so."""
        given = list(jobs)
        return self.holds(
            lambda: all(map(self.traces.has_ended, given)) and not self.traces.waiting(given), timeout, every=0.1
        )

    # -- what is left --------------------------------------------------------------------------------------------------

    def row(
        self,
        fault: str,
        jobs: Sequence[Job],
        hit: Mapping[str, float] | None = None,
        *,
        earlier: Sequence[Mapping[str, Any]] = (),
        complaints: Iterable[str] = (),
        timeout: float = PATIENCE,
        forgotten: bool = False,
    ) -> Row:
        """Wait for the jobs' ends and judge them.

        `hit` says when something happened to which job, where that shows in no stream's end; `earlier` are streams of
        which the emulator knows nothing any more.
        """
        against = list(complaints)
        if not self.settled(jobs, timeout):
            against.append(
                f"not settled within {timeout:g} s; the broker holds {self.traces.waiting(jobs) or 'no message'}"
            )
        ids = {job.id for job in jobs}
        self.holds(lambda: all(task["ended"] for task in self.traces.tasks(ids)), timeout=3, every=0.3)
        streams = [*earlier, *self.traces.tasks(ids)]
        verdicts = [judge(self.traces.evidence(job, streams, (hit or {}).get(job.id), forgotten)) for job in jobs]
        return summed(fault, self.pool, verdicts, [*against, *self.wrong()])

    def wrong(self) -> list[str]:
        """What is wrong with the workers: a fault may end only those that it kills."""
        gone = [f"{worker.name} has ended by itself" for worker in self.workers if not worker.running]
        said = [f"{worker.name} says {text!r}" for worker in self.workers for text in UNTOLD if text in worker.output]
        return gone + said

    def clear(self) -> None:
        """Kill the workers and forget all that they wrote."""
        for worker in self.workers:
            worker.stop(timeout=0.0)
        self.workers.clear()
        with contextlib.suppress(redis.RedisError):
            self.redis.flushdb()

    def end(self) -> None:
        self.clear()
        self.redis.close()
        self.client.close()
