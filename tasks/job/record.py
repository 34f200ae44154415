"""Writes what Redis knows of a job: a hash, its finished sentences, events that can be read late and from any id."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import redis

from tasks.errors import Unavailable
from tasks.job.keys import JobKeys

EVENTS_KEPT = 10_000
"""About how many events a job's stream keeps, the newest. The finished sentences are all kept, in the list."""


KEEP = """
if redis.call('LLEN', KEYS[2]) == tonumber(ARGV[1]) then
    redis.call('RPUSH', KEYS[2], ARGV[2])
    redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[3], '*', 'type', 'final', 'data', ARGV[2])
end
for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ARGV[4]) end
"""
"""Keeps a sentence only if the list is as long as its writer believes, so that a second sending does nothing."""


class JobRecord:
    """Writes one job's record. Every method is one round trip, and every key it touches gets a new time to live.

    The client sends a command again when its answer was lost. A state or a partial may then be told twice; a sentence
    is kept once. Not here: who may write. That is the lease's business.

    Raises, from every method:
        Unavailable: Redis does not answer.
    """

    def __init__(self, client: "redis.Redis", job_id: str, ttl: int) -> None:
        self.job_id = job_id
        self._client = client
        self._keys = JobKeys(job_id)
        self._ttl = ttl
        self._kept = 0
        self._keep = client.register_script(KEEP)

    def __repr__(self) -> str:
        return f"<JobRecord {self.job_id}>"

    def queued(self, audio: str) -> None:
        """Say that the job was sent. `audio` is the reference as it may be shown."""
        self._write({"state": "queued", "audio": audio, "queued_at": time.time()})

    def started(self, audio: str, worker: str, attempt: int) -> float | None:
        """Say that an attempt has begun; remove what an earlier one left. Returns `queued_at` if the sender gave it."""
        fields = {
            "state": "running",
            "audio": audio,
            "worker": worker,
            "attempts": attempt,
            "resumes": 0,
            "progress_ms": 0,
        }
        self._kept = 0
        with self._round_trip() as pipe:
            pipe.hget(self._keys.job, "queued_at")
            pipe.delete(self._keys.sentences)
            pipe.hdel(self._keys.job, "error", "error_code", "duration_ms", "ended_at", "result")
            self._add(pipe, fields | {"started_at": time.time()}, "state", {"state": "running", "attempt": attempt})
            queued_at = pipe.execute()[0]
        return float(queued_at) if queued_at else None

    def recording(self, duration_ms: int | None) -> None:
        """Say how long the recording claims to be."""
        if duration_ms is not None:
            self._write({"duration_ms": duration_ms}, event=False)

    def progress(self, progress_ms: int) -> None:
        """Say how much audio was sent."""
        self._write({"progress_ms": progress_ms}, event=False)

    def final(self, sentence: Mapping[str, Any]) -> None:
        """Keep a finished sentence and tell those who follow."""
        with _answering():
            self._keep(keys=list(self._keys), args=[self._kept, _json(sentence), EVENTS_KEPT, self._ttl])
        self._kept += 1

    def partial(self, sentence: Mapping[str, Any]) -> None:
        """Tell those who follow what the open sentence says so far."""
        with self._round_trip() as pipe:
            self._add(pipe, {}, "partial", sentence)
            pipe.execute()

    def succeeded(self, result: Mapping[str, Any]) -> None:
        """Store the result and close the record."""
        fields = {"duration_ms": result["duration_ms"], "progress_ms": result["duration_ms"], "result": _json(result)}
        self._write({"state": "succeeded", "ended_at": time.time(), **fields})

    def waiting(self, code: str, sentence: str) -> None:
        """Say why the attempt failed, and that there will be another."""
        self._write({"state": "queued", "queued_at": time.time(), "error_code": code, "error": sentence})

    def failed(self, code: str, sentence: str) -> None:
        """Say why there is no transcript and close the record."""
        self._write({"state": "failed", "ended_at": time.time(), "error_code": code, "error": sentence})

    def _write(self, fields: Mapping[str, Any], *, event: bool = True) -> None:
        told = {name: fields[name] for name in ("state", "error_code", "error") if name in fields}
        with self._round_trip() as pipe:
            self._add(pipe, fields, "state" if event else None, told)
            pipe.execute()

    @contextmanager
    def _round_trip(self) -> Iterator[Any]:
        with _answering(), self._client.pipeline() as pipe:
            yield pipe

    def _add(self, pipe: Any, fields: Mapping[str, Any], kind: str | None, data: Mapping[str, Any]) -> None:
        if fields:
            pipe.hset(self._keys.job, mapping=dict(fields))
        if kind is not None:
            pipe.xadd(self._keys.events, {"type": kind, "data": _json(data)}, maxlen=EVENTS_KEPT, approximate=True)
        for key in self._keys:
            pipe.expire(key, self._ttl)


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        sentence = f"Redis did not take the job's record ({type(error).__name__}); the job is tried again."
        raise Unavailable("redis_unavailable", sentence) from None


def _json(value: Mapping[str, Any]) -> bytes:
    # "replace": half a surrogate pair, which JSON can carry and UTF-8 cannot, must not cost a transcript.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
