"""What a job leaves behind, as anybody can read it: in Redis, and at the emulator."""

import json
import time
import urllib.request
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.faults.judge import ENDED, Evidence


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A job that was sent, or is about to be. Its id is also its marker at the emulator."""

    id: str
    seconds: float
    expected: str = "succeeded"

    @property
    def key(self) -> str:
        return f"stenopool:job:{{{self.id}}}"


class Traces:
    """Reads the traces of jobs. A Redis that is away is noticed, not waited for: redis.RedisError."""

    def __init__(self, redis_url: str, emulator_url: str) -> None:
        self.redis = redis.Redis.from_url(redis_url, socket_timeout=3, retry=Retry(NoBackoff(), 1))
        self._emulator_url = emulator_url

    def record(self, job: Job) -> dict[str, str]:
        found: Any = self.redis.hgetall(job.key)
        return {name.decode(): value.decode() for name, value in found.items()}

    def state(self, job: Job) -> str:
        found: Any = self.redis.hget(job.key, "state")
        return found.decode() if found else ""

    def heard(self, job: Job) -> int:
        """How many sentences are kept."""
        found: Any = self.redis.llen(f"{job.key}:sentences")
        return int(found)

    def states(self, job: Job) -> list[str]:
        """The states that the job has told."""
        return [data["state"] for _, kind, data in self.events(job) if kind == "state"]

    def tasks(self, ids: Container[str]) -> list[dict[str, Any]]:
        """What the emulator has noted of these jobs, in Unix time."""
        with urllib.request.urlopen(f"{self._emulator_url}/logbook?chunks=1", timeout=20) as answer:
            book: list[dict[str, Any]] = json.load(answer)["tasks"]
        noted = [task for task in book if task["parameters"].get("marker") in ids]
        ahead = time.time() - time.monotonic()  # one clock for all processes of a machine
        for task in noted:
            task["began"] += ahead
            task["ended"] = task["ended"] and task["ended"] + ahead
            task["chunks"] = [(at + ahead, size) for at, size in task["chunks"]]
        return noted

    def events(self, job: Job) -> list[tuple[float, str, dict[str, Any]]]:
        """When each was told, its type and its data."""
        found: Any = self.redis.xrange(f"{job.key}:events")
        return [
            (int(name.split(b"-")[0]) / 1000, entry[b"type"].decode(), json.loads(entry[b"data"]))
            for name, entry in found
        ]

    def celery(self, job: Job) -> dict[str, Any] | None:
        """What the result backend holds, once that is an end."""
        found: Any = self.redis.get(f"celery-task-meta-{job.id}")
        meta: dict[str, Any] | None = json.loads(found) if found else None
        return meta if meta and meta["status"] in ("SUCCESS", "FAILURE", "REVOKED") else None

    def has_ended(self, job: Job) -> bool:
        """Whether all who look for an end find one."""
        return self.state(job) in ENDED and self.celery(job) is not None

    def waiting(self, jobs: Iterable[Job]) -> list[str]:
        """The jobs of which the broker still holds a message, given to a worker or not."""
        held: Any = [*self.redis.lrange("celery", 0, -1), *self.redis.lrange("transcribe", 0, -1)]
        held += self.redis.hvals("unacked")
        return [job.id for job in jobs if any(job.id.encode() in message for message in held)]

    def evidence(
        self, job: Job, streams: Iterable[Mapping[str, Any]], hit_at: float | None, forgotten: bool
    ) -> Evidence:
        """All of a job, with those of these streams that are its own."""
        kept: Any = self.redis.lrange(f"{job.key}:sentences", 0, -1)
        return Evidence(
            job_id=job.id,
            seconds=job.seconds,
            expected=job.expected,
            celery=self.celery(job),
            record=self.record(job),
            sentences=[json.loads(sentence) for sentence in kept],
            events=self.events(job),
            tasks=[task for task in streams if task["parameters"].get("marker") == job.id],
            hit_at=hit_at,
            forgotten=forgotten,
        )
