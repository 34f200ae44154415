"""Jobs that ask for the same: the first does the work, and the others have its result.

What is the same is told by a key, of which Redis keeps who came first. One that fails, is cancelled or is forgotten
leaves its place to the next.
"""

import hashlib
import json
from functools import partial
from typing import Any

import redis

from tasks.errors import UnderWay
from tasks.job.asking import asked
from tasks.job.keys import ENDED
from worker.jobs import job_key
from worker.script import Script

LOOKS = 10
"""Times that a job looks who has come first, while others take that place."""

FIRST = Script("""
local first = redis.call('GET', KEYS[1])
if not first or first == ARGV[1] or first == ARGV[3] then
    first = ARGV[1]
    redis.call('SET', KEYS[1], first, 'EX', ARGV[2])
end
return first
""")
"""Who is the first with this key: the caller, if nobody was before, or only one who has come to nothing."""


def same(*words: str) -> str:
    """The key in Redis of all jobs for which these words are the same. It tells nothing of them."""
    return f"stenopool:same:{{{hashlib.sha256(json.dumps(words).encode()).hexdigest()}}}"


class Twins:
    """Knows the first of each kind for `ttl` seconds from its beginning, and again from its end."""

    def __init__(self, client: "redis.Redis", *, ttl: int) -> None:
        self._client = client
        self._ttl = ttl

    def result(self, key: str, job_id: str, content: str = "") -> dict[str, Any] | None:
        """The result of the first job with this key; None: it is this one, which has to do the work.

        With `content`, of the first whose recording is known to be this still: it may have changed between two tries.

        Raises:
            UnderWay: the first has not ended yet.
            JobError: Redis does not answer, or refuses.
        """
        in_vain = ""
        for _ in range(LOOKS):
            first = self._first(key, job_id, in_vain)
            if first == job_id:
                return None
            fields = partial(self._client.hmget, job_key(first), ["state", "result", "content"])
            state, result, known = asked(fields)
            if not content or known == content.encode():
                if state == b"succeeded" and result:
                    found: dict[str, Any] = json.loads(result)
                    return found
                if state is not None and state.decode() not in ENDED:
                    break
            in_vain = first
        raise UnderWay

    def keep(self, key: str, job_id: str) -> None:
        """Its result has come: know this job for as long as that is kept. Raises JobError."""
        self._first(key, job_id, "")

    def _first(self, key: str, job_id: str, in_vain: str) -> str:
        call = FIRST.call([key], job_id, self._ttl, in_vain)
        return bytes(asked(lambda: call.run(self._client))).decode()
