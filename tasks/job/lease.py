"""Who may write a job's record: one holder at a time, and every write says in whose name it comes.

A message can be delivered twice (platform: any break of the broker's connection does it), so two workers can hold the
same job. The lease decides between them in Redis itself: a key with the holder's token, which expires unless its
holder gives signs of life. The job's hash keeps the last token that was given out, so that a holder who was only late
finds his lease again, and one who was overtaken learns it at his next write, whatever he does.

                     claim                        every write, every few seconds
    nobody holds it ───────▶ held by a token ◀──────────────┐
         ▲                        │  └───────────────────────┘
         └── the time is up, or ──┘
             the job is left
"""

import uuid
from collections.abc import Sequence

from worker.script import Call, Script, Value

OK, TAKEN, GONE, OVER = b"ok", b"taken", b"gone", b"over"
"""What a write answers: done; another holder came; Redis knows nothing of the job any more; the job was left before."""

_FENCE = """
local holder = redis.call('GET', KEYS[4])
if holder ~= ARGV[1] then
    if holder then return 'taken' end
    local token, state = unpack(redis.call('HMGET', KEYS[1], 'token', 'state'))
    if not state then return 'gone' end
    if token ~= ARGV[1] then return 'taken' end
    if state ~= 'running' then return 'over' end
end
redis.call('SET', KEYS[4], ARGV[1], 'PX', ARGV[2])
"""

EVENTS_KEPT = 10_000
"""About how many events a job's stream keeps, the newest. The finished sentences are all kept, in the list."""

EXPIRE = "for _, i in ipairs({1, 2, 3, 6}) do redis.call('EXPIRE', KEYS[i], ARGV[3]) end return 'ok'"
"""The end of a script that writes: every key of the job that lasts lives on, for ARGV[3] seconds."""


def fenced(body: str) -> Script:
    """A script that writes only in the name of the holder, and prolongs his lease.

    ARGV[1] to ARGV[3] are the token, the lease in milliseconds and the keys' time to live in seconds.
    """
    return Script(_FENCE + body + EXPIRE)


def event(kind: str, data: str) -> str:
    """The line of a script that tells those who follow; `kind` and `data` are its own expressions in Lua."""
    return f"redis.call('XADD', KEYS[3], 'MAXLEN', '~', {EVENTS_KEPT}, '*', 'type', {kind}, 'data', {data})"


class Lease:
    """One holder's right to write, for `seconds` from each write on. `ttl` is what the job's keys get, in seconds."""

    def __init__(self, keys: Sequence[str], *, seconds: float, ttl: int) -> None:
        self.keys = tuple(keys)
        self.seconds = seconds
        self.token = uuid.uuid4().hex
        self._ttl = ttl

    def __repr__(self) -> str:
        return f"<Lease {self.token[:8]}, {self.seconds:g} s>"

    def call(self, script: Script, *args: Value) -> Call:
        """A call in this holder's name."""
        return script.call(self.keys, self.token, round(1000 * self.seconds), self._ttl, *args)
