"""Writes what Redis knows of a job: a hash, its finished sentences, events that can be read late and from any id."""

import itertools
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import redis

from tasks.errors import Unavailable
from tasks.job.keys import JobKeys
from tasks.job.progress import Progress
from worker.script import Call, Script, Value

EVENTS_KEPT = 10_000
"""About how many events a job's stream keeps, the newest. The finished sentences are all kept, in the list."""

_EVENT = f"redis.call('XADD', KEYS[3], 'MAXLEN', '~', {EVENTS_KEPT}, '*', 'type', ARGV[2], 'data', ARGV[3])"
_EXPIRE = "for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ARGV[1]) end"

TELL = Script(f"""
{_EVENT}
if ARGV[4] then redis.call('HSET', KEYS[1], unpack(ARGV, 4)) end
{_EXPIRE}
""")
"""Tells an event and sets fields of the hash."""

BEGIN = Script(f"""
local queued_at = redis.call('HGET', KEYS[1], 'queued_at')
redis.call('DEL', KEYS[2])
redis.call('HDEL', KEYS[1], 'error', 'error_code', 'duration_ms', 'ended_at', 'result')
{_EVENT}
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
{_EXPIRE}
return queued_at
""")
"""The same for an attempt, after what an earlier one left was removed."""

MEASURE = Script(f"""
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
{_EXPIRE}
""")
"""Sets a field of which no event tells."""

KEEP = Script(f"""
if redis.call('LLEN', KEYS[2]) == tonumber(ARGV[4]) then
    redis.call('RPUSH', KEYS[2], ARGV[3])
    {_EVENT}
end
{_EXPIRE}
""")
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
        self._keys = tuple(JobKeys(job_id))
        self._ttl = ttl
        self._attempt = 0
        self._kept = 0

    def __repr__(self) -> str:
        return f"<JobRecord {self.job_id}>"

    def queued(self, audio: str) -> None:
        """Say that the job was sent. `audio` is the reference as it may be shown."""
        told = {"state": "queued"}
        self._state(TELL, told, {**told, "audio": audio, "queued_at": time.time()})

    def started(self, audio: str, worker: str, attempt: int) -> float | None:
        """Say that an attempt has begun; remove what an earlier one left. Returns `queued_at` if the sender gave it."""
        self._attempt, self._kept = attempt, 0
        fields: dict[str, Value] = {
            "state": "running",
            "audio": audio,
            "worker": worker,
            "attempts": attempt,
            "resumes": 0,
            "progress_ms": 0,
            "started_at": time.time(),
        }
        queued_at = self._state(BEGIN, {"state": "running", "attempt": attempt}, fields)
        return float(queued_at) if queued_at else None

    def recording(self, duration_ms: int | None) -> None:
        """Say how long the recording claims to be."""
        if duration_ms is not None:
            self._run(MEASURE.call(self._keys, self._ttl, "duration_ms", duration_ms))

    def following(self, sent_ms: Callable[[], int]) -> Progress:
        """What a heartbeat tells of the attempt that has begun: how much audio was sent, asked in its own thread."""
        return Progress(self._keys, self._attempt, self._ttl, sent_ms)

    def progress(self, sent_ms: int) -> None:
        """Say now how much audio was sent, whatever the state."""
        self._run(MEASURE.call(self._keys, self._ttl, "progress_ms", sent_ms))

    def final(self, sentence: Mapping[str, Any]) -> None:
        """Keep a finished sentence and tell those who follow."""
        self._run(KEEP.call(self._keys, self._ttl, "final", _json(sentence), self._kept))
        self._kept += 1

    def partial(self, sentence: Mapping[str, Any]) -> None:
        """Tell those who follow what the open sentence says so far."""
        self._run(TELL.call(self._keys, self._ttl, "partial", _json(sentence)))

    def succeeded(self, result: Mapping[str, Any]) -> None:
        """Store the result and close the record."""
        told, ms = {"state": "succeeded"}, result["duration_ms"]
        fields = {**told, "ended_at": time.time(), "duration_ms": ms, "progress_ms": ms, "result": _json(result)}
        self._state(TELL, told, fields)

    def waiting(self, code: str, sentence: str) -> None:
        """Say why the attempt failed, and that there will be another."""
        told = {"state": "queued", "error_code": code, "error": sentence}
        self._state(TELL, told, {**told, "queued_at": time.time()})

    def failed(self, code: str, sentence: str) -> None:
        """Say why there is no transcript and close the record."""
        told = {"state": "failed", "error_code": code, "error": sentence}
        self._state(TELL, told, {**told, "ended_at": time.time()})

    def _state(self, script: Script, told: Mapping[str, Value], fields: Mapping[str, Value]) -> Any:
        """Tell of a new state, and set these fields of the hash."""
        pairs = itertools.chain.from_iterable(fields.items())
        return self._run(script.call(self._keys, self._ttl, "state", _json(told), *pairs))

    def _run(self, call: Call) -> Any:
        try:
            return call.run(self._client)
        except redis.RedisError as error:
            sentence = f"Redis did not take the job's record ({type(error).__name__}); the job is tried again."
            raise Unavailable("redis_unavailable", sentence) from None


def _json(value: Mapping[str, Any]) -> bytes:
    # "replace": half a surrogate pair, which JSON can carry and UTF-8 cannot, must not cost a transcript.
    return _ENCODER.encode(value).encode("utf-8", "replace")


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
