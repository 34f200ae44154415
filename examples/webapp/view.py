"""What Redis says of a job: docs/jobs.md describes the keys."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import Redis

ENDED = frozenset({"succeeded", "failed", "cancelled"})
"""States that a job does not leave."""

FIELDS = ("state", "progress_ms", "duration_ms", "waiting_since", "error", "audio")
"""What we read of the hash to tell how a job is."""


def job_key(job_id: str) -> str:
    """The braces are part of the name: on a cluster they keep the keys of a job together."""
    return f"stenopool:job:{{{job_id}}}"


class View:
    """Reads jobs. `name` is what the user calls a recording: a sentence about it says that, and no path of ours."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def condition(self, job_id: str, name: str) -> dict[str, Any]:
        """How a job is."""
        return (await self.conditions([(job_id, name)]))[0]

    async def conditions(self, jobs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        """How each of several jobs is, in one round trip."""
        async with self._redis.pipeline(transaction=False) as asked:
            for job_id, _ in jobs:
                asked.hmget(job_key(job_id), FIELDS)
                asked.exists(f"{job_key(job_id)}:cancel")
            answers = await asked.execute()
        told = zip(jobs, answers[::2], answers[1::2], strict=True)
        return [_condition(fields, bool(cancel), name) for (_, name), fields, cancel in told]

    async def snapshot(self, job_id: str, name: str) -> dict[str, Any]:
        """All of a job at one moment. Who goes on from there follows the events after `last`, and misses none."""
        key = job_key(job_id)
        async with self._redis.pipeline(transaction=True) as asked:
            asked.hmget(key, (*FIELDS, "result"))
            asked.exists(f"{key}:cancel")
            asked.lrange(f"{key}:sentences", 0, -1)
            asked.xrevrange(f"{key}:events", count=1)
            (*fields, result), cancel, sentences, newest = await asked.execute()
        last, event = newest[0] if newest else ("0", {"type": "", "data": "null"})
        done = json.loads(result) if result else None
        return _condition(fields, bool(cancel), name) | {
            "last": last,
            "sentences": done["sentences"] if done else [json.loads(one) for one in sentences],
            "partial": json.loads(event["data"]) if event["type"] == "partial" else None,
            "captions": list(done["captions"]) if done else [],
            "timing": done["timing"] if done else {},
        }

    async def caption(self, job_id: str, format: str) -> str | None:
        """The captions of a job that has succeeded."""
        result = await self._redis.hget(job_key(job_id), "result")
        text: str | None = json.loads(result)["captions"].get(format) if result else None
        return text


def _condition(fields: Sequence[str | None], cancel: bool, name: str) -> dict[str, Any]:
    """The fields of the hash; where there is none yet, the job waits in the queue."""
    told: Mapping[str, str | None] = dict(zip(FIELDS, fields, strict=True))
    state = told["state"] or "queued"
    return {
        "state": "cancelling" if cancel and state not in ENDED else state,
        "waits": told["waiting_since"] is not None,
        "progress_ms": int(told["progress_ms"] or 0),
        "duration_ms": int(told["duration_ms"] or 0),
        "error": _said(told["error"] or "", told["audio"] or "", name),
    }


def _said(error: str, audio: str, name: str) -> str:
    """Why it failed, in the user's words: his recording's name in the place of the server's path."""
    return error.replace(audio, name) if audio.startswith("file:") else error
