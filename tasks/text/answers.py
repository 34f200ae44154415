"""The answers that a job has paid for, kept in Redis until it is done, whoever does it; and who does it.

A message can be delivered twice, so a lease decides between two holders. It is not a fence: an answer is stored under
a digest of what was asked, so whoever writes it, and how often, it is the answer to that.
"""

import hashlib
import json
import logging
import re
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import redis

from tasks.errors import JobError
from tasks.job.asking import asked
from tasks.job.keys import JobKeys
from worker.generation import Answer
from worker.script import Call, Script
from worker.stops import LeaseLost, Stop

log = logging.getLogger("worker.tasks")

_HALF = re.compile(r"[\ud800-\udfff]")
"""Half a surrogate pair, which JSON can carry and UTF-8 cannot: an answer that was cut off may end with one."""

CLAIM = Script("""
if redis.call('EXISTS', KEYS[3]) == 1 then return {'cancelled'} end
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[1] then return {'held', redis.call('PTTL', KEYS[2])} end
local now = redis.call('TIME')[1]
redis.call('HSETNX', KEYS[1], 'begun_at', now)
if not holder then redis.call('HINCRBY', KEYS[1], 'fruitless', 1) end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return {'claimed', now - redis.call('HGET', KEYS[1], 'begun_at'), redis.call('HGETALL', KEYS[1])}
""")
"""Takes the lease, unless the job was cancelled or somebody holds it, and counts the try until an answer comes."""

RENEW = Script("""
local holder = redis.call('GET', KEYS[1])
if holder == ARGV[1] then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return (holder or ARGV[1]) == ARGV[1] and 1 or 0
""")
"""Says whether nobody else has it. One that has run out is not taken again: it may just have been left."""

KEEP = Script("""
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2], 'fruitless', 0)
redis.call('EXPIRE', KEYS[1], ARGV[3])
""")

LEAVE = Script("""
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return end
redis.call('DEL', KEYS[2])
if ARGV[2] == 'spared' and tonumber(redis.call('HGET', KEYS[1], 'fruitless') or 0) > 0 then
    redis.call('HINCRBY', KEYS[1], 'fruitless', -1)
end
if ARGV[2] == 'ended' then redis.call('HDEL', KEYS[1], 'fruitless', 'begun_at') end
""")
"""Ends the lease: after a try that is to be `counted`; one that is `spared`, as nothing went wrong, or nothing that is
the job's fault; or because the job has `ended`. Sent again under the same id it then has its tries anew.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claimed:
    """The job is ours. `fruitless` counts the tries since the last new answer, this one included."""

    elapsed: float
    fruitless: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """Somebody else works on the job; his lease ends after so many seconds unless he renews it."""

    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Cancelled:
    """Nobody wants the job any more."""


class Answers:
    """One job's, as one attempt sees them."""

    def __init__(self, client: "redis.Redis", keys: JobKeys, token: str, *, ttl: int, lease: float) -> None:
        self.keys = keys
        self.lease = lease
        self._key = f"{keys.job}:answers"
        self._client = client
        self._token = token
        self._ttl = ttl
        self._found: dict[str, Answer] = {}
        self.is_new = False
        """Whether an answer has come in this attempt."""

    def __repr__(self) -> str:
        return f"<Answers {len(self._found)}>"

    def claim(self) -> Claimed | Held | Cancelled:
        """Take the job, if it is to be had, with the answers that earlier attempts were given.

        Raises:
            JobError: Redis does not answer, or refuses.
        """
        keys = (self._key, self.keys.lease, self.keys.cancel)
        kind, *rest = asked(lambda: CLAIM.call(keys, self._token, self._milliseconds, self._ttl).run(self._client))
        if kind == b"cancelled":
            return Cancelled()
        if kind == b"held":
            return Held(seconds=max(0, rest[0]) / 1000)
        elapsed, pairs = rest
        fields = dict(zip(pairs[::2], pairs[1::2], strict=True))
        fields.pop(b"begun_at", None)
        fruitless = int(fields.pop(b"fruitless", 1))
        self._found = {digest.decode(): Answer(**json.loads(answer)) for digest, answer in fields.items()}
        return Claimed(elapsed=float(elapsed), fruitless=fruitless)

    def find(self, digest: str) -> Answer | None:
        """The answer to this, if there is one."""
        return self._found.get(digest)

    def keep(self, digest: str, answer: Answer) -> None:
        """Keep an answer, as text that any file can hold. If Redis does not take it, it is lost with this attempt, if
        that fails.
        """
        answer = replace(answer, text=_HALF.sub("\ufffd", answer.text))
        self._found[digest], self.is_new = answer, True
        stored = json.dumps(asdict(answer))
        try:
            asked(lambda: KEEP.call([self._key], digest, stored.encode(), self._ttl).run(self._client))
        except JobError as error:
            log.warning("an answer for job %s could not be kept: %s", self.keys.job, error.code)

    def leave(self, how: Literal["counted", "spared", "ended"]) -> None:
        """End the lease. If Redis does not take that, it runs out."""
        keys = (self._key, self.keys.lease)
        try:
            asked(lambda: LEAVE.call(keys, self._token, how).run(self._client))
        except JobError as error:
            log.warning("the lease of %s could not be ended: %s", self.keys.job, error.code)

    def pulse(self, stop: Stop) -> "LeasePulse":
        """What a heartbeat says for this attempt."""
        return LeasePulse(RENEW.call([self.keys.lease], self._token, self._milliseconds), stop)

    @property
    def _milliseconds(self) -> int:
        return round(1000 * self.lease)


class LeasePulse:
    """Renews a lease; tells the job to stop once it is another's."""

    def __init__(self, renewal: Call, stop: Stop) -> None:
        self._renewal = renewal
        self._stop = stop

    def tell(self) -> Call | None:
        """See `worker.beat.Pulse`."""
        return self._renewal

    def told(self, answer: Any) -> None:
        """Another has it if its lease had run out: this process was cut off from Redis, or stood still."""
        if not answer:
            self._stop.ask(LeaseLost())


def digest_of(body: bytes) -> str:
    """What tells one request from another."""
    return hashlib.sha256(body).hexdigest()
