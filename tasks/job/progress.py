"""How far a running job is: what a process's heartbeat tells of it."""

from collections.abc import Callable, Sequence
from typing import Any

from worker.script import Call, Script

PROGRESS = Script("""
local state, attempt, known = unpack(redis.call('HMGET', KEYS[1], 'state', 'attempts', 'progress_ms'))
if state ~= 'running' or attempt ~= ARGV[1] then return 0 end
if tonumber(ARGV[2]) > tonumber(known or 0) then redis.call('HSET', KEYS[1], 'progress_ms', ARGV[2]) end
for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ARGV[3]) end
return 1
""")
"""Says how much audio an attempt has sent, as long as it runs. A beat may come late, even after the next attempt began:
it must neither change what has ended, nor take a figure back, nor make a key that never expires."""


class Progress:
    """One attempt's figure, told by a heartbeat when it has grown. `sent_ms` is asked in the heartbeat's thread."""

    def __init__(self, keys: Sequence[str], attempt: int, ttl: int, sent_ms: Callable[[], int]) -> None:
        self._keys = keys
        self._attempt = attempt
        self._ttl = ttl
        self._sent_ms = sent_ms
        self._telling = self._told = 0

    def tell(self) -> Call | None:
        """The figure, if Redis does not have it yet."""
        self._telling = self._sent_ms()
        if self._telling == self._told:
            return None
        return PROGRESS.call(self._keys, self._attempt, self._telling, self._ttl)

    def told(self, answer: Any) -> None:
        """Redis has it, or the attempt is over."""
        self._told = self._telling
