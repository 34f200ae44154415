"""Finds what dead workers left behind, and puts it right.

A worker that dies leaves a lease, which runs out, and a message, which comes again: the next worker goes on, and there
is nothing to do. But a message can be lost, too: by hand, or by a Redis that went back to an older state. Then nobody
would ever end the job, and who waits for it would wait for ever. And so can one that was to have a job's callback
delivered: then another is sent.
"""

import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import redis

from tasks.errors import JobError
from tasks.job.callback import ending, falls_due
from tasks.job.keys import JobKeys
from tasks.job.lease import event
from tasks.job.record import MESSAGE_LOST
from worker.jobs import notice_id
from worker.script import Script, Value

PREFIX = "stenopool:"
JOB = f"{PREFIX}job:{{"
CALLBACK = "}:callback"

UNACKED = "unacked"
"""Where kombu keeps the messages that workers have taken."""

PRIORITIES = ("", "\x06\x163", "\x06\x166", "\x06\x169")
"""What kombu appends to a queue's name for the messages of other priorities."""

PAGE = 500
"""Keys or messages in one round trip."""

SENTENCE = (
    "The job's worker was lost, and its message with it; send the job again under the same id, and it goes on where it "
    "was."
)

ORPHANED = Script(f"""
local state, token, since = unpack(redis.call('HMGET', KEYS[1], 'state', 'token', 'orphaned_at'))
if token ~= ARGV[1] or (state ~= 'running' and state ~= 'queued') or redis.call('EXISTS', KEYS[4]) == 1 then
    return 0
end
if not since then redis.call('HSET', KEYS[1], 'orphaned_at', ARGV[2]) end
if tonumber(ARGV[2]) - tonumber(since or ARGV[2]) < tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[1], 'untold', 1, unpack(ARGV, 7))
redis.call('HDEL', KEYS[1], 'orphaned_at')
{falls_due("ARGV[5]", "ARGV[6]")}
{event("'state'", "ARGV[4]")}
return 1
""")
"""Ends a job that has been without a lease and a message since an earlier look, unless somebody has begun it since.
With its end its callback is due."""


class Janitor:
    """Looks over all keys in small steps. `queues` are the names of the broker's; `grace` is in seconds.

    `tell` gets the id of each job that was ended, and why, for those who wait for it; `notify` gets that of each whose
    callback is due and has no message, with the queue that the job came by.
    """

    def __init__(
        self,
        client: "redis.Redis",
        queues: Sequence[str],
        tell: Callable[[str, JobError], None],
        notify: Callable[[str, str], None],
        *,
        ttl: int,
        grace: float,
    ) -> None:
        self._client = client
        self._queues = queues
        self._tell = tell
        self._notify = notify
        self._ttl = ttl
        self._grace = grace

    def __repr__(self) -> str:
        return f"<Janitor of {', '.join(self._queues)}>"

    def sweep(self) -> list[str]:
        """The ids of the jobs that were ended. Raises redis.RedisError."""
        found: list[tuple[str, str]] = []
        overdue: dict[str, str] = {}
        for names in self._pages():
            found += self._suspects(names)
            overdue |= self._overdue([name.removeprefix(JOB)[: -len(CALLBACK)] for name in names if is_callback(name)])
        suspects = {job_id: token for job_id, token in found if token}
        untold = [job_id for job_id, token in found if not token]
        if suspects or overdue:
            # A message may move while we look, from a queue to a worker or back: so the queues are gone through twice.
            known = {*self._queued(), *self._taken(), *self._queued()}
            ended = [job_id for job_id, token in suspects.items() if job_id not in known and self._end(job_id, token)]
            untold += ended
            overdue |= self._overdue(ended, grace=0)
            overdue = {job_id: queue for job_id, queue in overdue.items() if notice_id(job_id) not in known}
        for job_id in untold:  # if this one is interrupted, the next sweep tells the others
            self._tell(job_id, JobError(MESSAGE_LOST, SENTENCE))
            self._client.hdel(JobKeys(job_id).job, "untold")
        for job_id, queue in overdue.items():
            self._notify(job_id, queue)
        return untold

    def _pages(self) -> Iterator[list[str]]:
        keys: Iterable[bytes] = self._client.scan_iter(f"{PREFIX}*", count=PAGE)
        names = (key.decode() for key in keys)
        while page := list(itertools.islice(names, PAGE)):
            yield page

    def _suspects(self, names: list[str]) -> Iterator[tuple[str, str]]:
        """Jobs that were begun, have not ended, and have no holder, with their last token; and those that were ended by
        a sweep which did not come to tell so, without one. Keys that would stay for ever get an end.
        """
        jobs = [name.removeprefix(JOB)[:-1] for name in names if name.startswith(JOB) and name.endswith("}")]
        with self._client.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.ttl(name)
            for job_id in jobs:
                pipeline.hmget(JobKeys(job_id).job, ["state", "token", "untold"])
                pipeline.exists(JobKeys(job_id).lease)
            answers: list[Any] = pipeline.execute()
        for name, ttl in zip(names, answers, strict=False):
            if ttl == -1:
                self._client.expire(name, self._ttl)
        found = answers[len(names) :]
        for job_id, (state, token, untold), held in zip(jobs, found[::2], found[1::2], strict=True):
            if token and state in (b"running", b"queued") and not held:
                yield job_id, token.decode()
            elif untold and state == b"failed":
                yield job_id, ""

    def _overdue(self, job_ids: list[str], grace: float | None = None) -> dict[str, str]:
        """Those of these jobs whose callback should have been tried some time ago, each with its queue."""
        if not job_ids:
            return {}
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.time()
            for job_id in job_ids:
                pipeline.hmget(JobKeys(job_id).callback, ["next_at", "queue"])
            (now, _), *answers = pipeline.execute()
        latest = now - (self._grace if grace is None else grace)
        found = zip(job_ids, answers, strict=True)
        return {job_id: (queue or b"").decode() for job_id, (at, queue) in found if at and float(at) <= latest}

    def _queued(self) -> Iterator[str]:
        for name in (f"{queue}{priority}" for queue in self._queues for priority in PRIORITIES):
            for begin in itertools.count(0, PAGE):
                page: Any = self._client.lrange(name, begin, begin + PAGE - 1)
                yield from map(_job_of, map(json.loads, page))
                if len(page) < PAGE:
                    break

    def _taken(self) -> Iterator[str]:
        for _, raw in self._client.hscan_iter(UNACKED, count=PAGE):
            yield _job_of(json.loads(raw)[0])

    def _end(self, job_id: str, token: str) -> bool:
        now = time.time()
        told: dict[str, Value] = {"state": "failed", "error_code": MESSAGE_LOST, "error": SENTENCE}
        fields = itertools.chain.from_iterable({**told, "ended_at": now}.items())
        callback = ending(job_id, told, now)
        call = ORPHANED.call(tuple(JobKeys(job_id)), token, now, self._grace, json.dumps(told), *callback, *fields)
        return bool(call.run(self._client))


def is_callback(name: str) -> bool:
    """Whether a key is that of a job's callback."""
    return name.startswith(JOB) and name.endswith(CALLBACK)


def _job_of(message: Any) -> str:
    """The id of the task that a message is about; none, if it is nothing that Celery has written."""
    headers = message.get("headers") if isinstance(message, dict) else None
    return str(headers.get("id", "")) if isinstance(headers, dict) else ""
