"""A job's events from Redis, relayed to a browser as Server-Sent Events.

An event keeps the id that it has in Redis. A browser that lost its connection sends the last one that it saw
(`Last-Event-ID`), and goes on after it.
"""

import json
import time
from collections.abc import AsyncIterator
from typing import Any, Final, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from .view import ENDED, View, job_key

BLOCK: Final = 1000
"""Milliseconds to wait for an event. As often as that we look at the job's hash, of whose progress no event tells."""

AT_ONCE: Final = 200
"""Events in one answer of Redis."""


class Relay:
    """Follows jobs for browsers; for so many at the same time, since each takes a connection to Redis."""

    def __init__(self, redis: Redis, view: View, most: int, heartbeat: float) -> None:
        self._redis = redis
        self._view = view
        self._most = most
        self._heartbeat = heartbeat
        self.watchers = 0

    @property
    def is_full(self) -> bool:
        return self.watchers >= self._most

    async def follow(self, job_id: str, name: str, after: str) -> AsyncIterator[str]:
        """The job's events after this id, and between them how the job is, until it has ended.

        When the browser leaves, the server closes this iterator.
        """
        self.watchers += 1
        try:
            yield "retry: 2000\n\n"
            async for message in self._messages(job_id, name, after):
                yield message
        except RedisError:
            return  # the browser comes back by itself, and asks for what it missed
        finally:
            self.watchers -= 1

    async def _messages(self, job_id: str, name: str, last: str) -> AsyncIterator[str]:
        told: dict[str, Any] = {}
        spoke = time.monotonic()
        while True:
            # Looked at before the events: if it has ended by now, the last event is among those that are read next.
            now = await self._view.condition(job_id, name)
            events = await self._read(job_id, last, wait=now["state"] not in ENDED)
            for last, event in events:
                yield _message(event["type"], event["data"], last)
            if now["state"] in ENDED and events:
                continue  # there may be more
            if now != told:
                told, spoke = now, time.monotonic()
                yield _message("job", json.dumps(now))
            elif events:
                spoke = time.monotonic()
            elif time.monotonic() - spoke > self._heartbeat:
                spoke = time.monotonic()
                yield ": still here\n\n"
            if now["state"] in ENDED:
                return

    async def _read(self, job_id: str, last: str, *, wait: bool) -> list[tuple[str, dict[str, str]]]:
        key = f"{job_key(job_id)}:events"
        answer: Any = await self._redis.xread({key: last}, count=AT_ONCE, block=BLOCK if wait else None)
        return cast(list[tuple[str, dict[str, str]]], answer[0][1] if answer else [])


def _message(kind: str, data: str, id: str | None = None) -> str:
    """One message. JSON has no line ends of its own, so one line of `data` is enough."""
    return f"event: {kind}\n" + (f"id: {id}\n" if id else "") + f"data: {data}\n\n"
