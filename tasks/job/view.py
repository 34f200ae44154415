"""What those who follow a job can read of it."""

import json
from typing import Any

import redis

from tasks.job.keys import JobKeys


class JobView:
    """Reads one job's record; for those who follow it."""

    def __init__(self, client: "redis.Redis", job_id: str) -> None:
        self.job_id = job_id
        self._client = client
        self._keys = JobKeys(job_id)
        self._seen = "0"

    def fields(self) -> dict[str, str]:
        """The hash as it stands; empty when Redis knows no such job."""
        found: Any = self._client.hgetall(self._keys.job)
        return {name.decode(): value.decode() for name, value in found.items()}

    def sentences(self) -> list[dict[str, Any]]:
        """The finished sentences so far."""
        found: Any = self._client.lrange(self._keys.sentences, 0, -1)
        return [json.loads(sentence) for sentence in found]

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """The events since the last call, or from the first one: pairs of type and data. Does not wait."""
        found: Any = self._client.xrange(
            self._keys.events, min=f"({self._seen}" if self._seen != "0" else "-", count=1000
        )
        if found:
            self._seen = found[-1][0].decode()
        return [(entry[b"type"].decode(), json.loads(entry[b"data"])) for _, entry in found]
