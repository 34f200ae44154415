"""A callback that is due: one try at a time, whoever makes it, until one succeeds or there have been enough.

Its key in Redis says when the next may be. Who tries moves that on to the moment when he must be done: if he dies,
another may then.
"""

import uuid
from dataclasses import dataclass, field
from typing import Any

import redis

from tasks.job.asking import asked
from tasks.job.keys import JobKeys
from worker.script import Call, Script

SLOWEST = 128 * 1024
"""Bytes that a receiver must be able to take in a second."""

WAITS = 4
"""A try waits so often: for the connection, for the body to be taken, for the answer's head, and for a little more."""

MARGIN = 10.0
"""Seconds in which he who tries can also say how it went, before somebody else tries."""

TRY = Script("""
local body, url, id, next_at, holder = unpack(redis.call('HMGET', KEYS[2],
    'body', 'url', 'delivery_id', 'next_at', 'holder'))
if not body then return {'nothing'} end
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
if holder ~= ARGV[1] then
    if tonumber(next_at) > now then return {'later', math.ceil(1000 * (next_at - now))} end
    redis.call('HINCRBY', KEYS[2], 'tries', 1)
    next_at = now + ARGV[2] + #body / ARGV[3]
    redis.call('HSET', KEYS[2], 'holder', ARGV[1], 'next_at', string.format('%.3f', next_at))
    redis.call('EXPIRE', KEYS[2], ARGV[4])
end
return {'due', url, body, id, tonumber(redis.call('HGET', KEYS[2], 'tries'))}
""")
"""Takes the callback for one try. Until that must be over nobody else gets it; a second sending gives the same again.

The try is counted before it is made, so that one which kills whoever makes it is not made for ever.
"""

POSTPONE = Script("""
if redis.call('HGET', KEYS[2], 'holder') ~= ARGV[1] then return end
local time = redis.call('TIME')
redis.call('HSET', KEYS[2], 'next_at', string.format('%.3f', time[1] + time[2] / 1000000 + ARGV[2]))
redis.call('HDEL', KEYS[2], 'holder')
redis.call('EXPIRE', KEYS[2], ARGV[3])
if redis.call('EXISTS', KEYS[1]) == 1 then
    redis.call('HSET', KEYS[1], 'callback_error', ARGV[4])
    redis.call('EXPIRE', KEYS[1], ARGV[3])
end
""")
"""Says why a try failed, and when the next may be. It outlives that moment by the time to live."""

SETTLE = Script("""
if redis.call('HGET', KEYS[2], 'holder') ~= ARGV[1] then return end
redis.call('DEL', KEYS[2])
if redis.call('EXISTS', KEYS[1]) == 1 then
    redis.call('HSET', KEYS[1], 'callback', ARGV[2], 'callback_error', ARGV[3])
    if ARGV[3] == '' then redis.call('HDEL', KEYS[1], 'callback_error') end
    redis.call('EXPIRE', KEYS[1], ARGV[4])
end
""")
"""Says that there will be no other try, and forgets all that was needed for one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Due:
    """A callback that is to be sent now, for the `tries`-th time."""

    url: str = field(repr=False)
    body: bytes = field(repr=False)
    delivery: str
    tries: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Later:
    """It may be tried in so many seconds; until then it waits, or somebody else tries."""

    seconds: float


class Outbox:
    """One job's callback, for one try to deliver it. `ttl` is in seconds. Every method raises JobError."""

    def __init__(self, client: "redis.Redis", job_id: str, *, ttl: int) -> None:
        self.job_id = job_id
        self._client = client
        self._ttl = ttl
        keys = JobKeys(job_id)
        self._keys = (keys.job, keys.callback)
        self._token = uuid.uuid4().hex

    def take(self, seconds: float) -> Due | Later | None:
        """The callback, for a try whose waits are each so long. None: there is nothing to be delivered any more."""
        most = WAITS * seconds + MARGIN
        found = self._run(TRY.call(self._keys, self._token, most, SLOWEST / WAITS, self._ttl + round(most)))
        if found[0] == b"nothing":
            return None
        if found[0] == b"later":
            return Later(seconds=int(found[1]) / 1000)
        _, url, body, delivery, tries = found
        return Due(url=url.decode(), body=body, delivery=delivery.decode(), tries=tries)

    def delivered(self) -> None:
        """The receiver has it."""
        self._settle("delivered", "")

    def given_up(self, why: str) -> None:
        """He will never have it."""
        self._settle("given_up", why)

    def postponed(self, seconds: float, why: str) -> None:
        """He does not have it yet; try again in so long."""
        self._run(POSTPONE.call(self._keys, self._token, seconds, self._ttl + round(seconds), why))

    def _settle(self, how: str, why: str) -> None:
        self._run(SETTLE.call(self._keys, self._token, how, why, self._ttl))

    def _run(self, call: Call) -> Any:
        return asked(lambda: call.run(self._client))
