"""Writes what Redis knows of a job: a hash, its finished sentences, events that can be read late and from any id."""

import itertools
import json
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import redis

from tasks.compact import compact
from tasks.errors import Unavailable
from tasks.job.asking import asked
from tasks.job.callback import Callback, ending, falls_due, kept
from tasks.job.checkpoint import Checkpoint
from tasks.job.keys import ENDED, JobKeys
from tasks.job.lease import EXPIRE, GONE, OVER, TAKEN, Lease, event, fenced
from tasks.job.pulse import Figures, JobPulse
from worker.script import Call, Script, Value
from worker.stops import LeaseLost, Stop

QUEUED = Script(f"""
if redis.call('EXISTS', KEYS[1]) == 1 then return end
{event("'state'", "ARGV[2]")}
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
for i = 1, 3 do redis.call('EXPIRE', KEYS[i], ARGV[1]) end
""")
"""Tells of a job that was sent, if nobody knows of it yet. Not fenced: nobody holds it."""

MESSAGE_LOST = "message_lost"
"""How a job failed that nobody was left to end. Nothing of it is on its way: another message is its sender's wish."""

RUNNING = "cjson.encode({state = 'running', attempt = attempt})"

CLAIM = Script(f"""
local job = redis.call('HMGET', KEYS[1], 'state', 'result', 'error_code', 'error')
if (job[1] == 'failed' and job[3] ~= '{MESSAGE_LOST}') or job[1] == 'succeeded' or job[1] == 'cancelled' then
    return {{'ended', unpack(job)}}
end
local holder = redis.call('GET', KEYS[4])
if holder and holder ~= ARGV[1] then return {{'held', redis.call('PTTL', KEYS[4])}} end
local time, seen = redis.call('TIME'), tonumber(redis.call('HGET', KEYS[1], 'seen_at'))
local now, moment = tonumber(time[1]), string.format('%d.%06d', time[1], time[2])
if not holder and job[1] == 'running' and seen then
    local told = redis.pcall('INFO', 'server')
    local up = tonumber(type(told) == 'string' and string.match(told, 'uptime_in_seconds:(%d+)') or nil)
    local left = up and tonumber(ARGV[2]) - 1000 * up
    if up and left > 0 and seen + 1 < now - up then return {{'held', left}} end
end
redis.call('HSET', KEYS[1], 'seen_at', now)
if not holder then
    local attempt = redis.call('HINCRBY', KEYS[1], 'attempts', 1)
    local fruitless = redis.call('HINCRBY', KEYS[1], 'fruitless', 1)
    redis.call('HSETNX', KEYS[1], 'started_at', moment)
    redis.call('HSET', KEYS[1], 'state', 'running', 'token', ARGV[1], 'worker', ARGV[4])
    if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], 'audio', ARGV[5]) end
    redis.call('HDEL', KEYS[1], 'error', 'error_code', 'orphaned_at', 'ended_at', 'callback', 'callback_error')
    redis.call('DEL', KEYS[6])
    {kept(7)}
    if fruitless <= tonumber(ARGV[6]) and redis.call('HEXISTS', KEYS[1], 'waiting_since') == 0 then
        {event("'state'", RUNNING)}
    end
end
redis.call('SET', KEYS[4], ARGV[1], 'PX', ARGV[2])
for _, i in ipairs({{1, 2, 3, 5, 6}}) do redis.call('EXPIRE', KEYS[i], ARGV[3]) end
return {{'claimed', moment, redis.call('LLEN', KEYS[2]), redis.call('EXISTS', KEYS[5]),
    unpack(redis.call('HMGET', KEYS[1],
        'attempts', 'fruitless', 'resumes', 'streams', 'sent_ms', 'duration_ms', 'started_at', 'queued_at',
        'waiting_since', 'place', 'cuts', 'heard_out', 'content'))}}
""")
"""Takes the lease, unless the job has ended or somebody holds it. Its own second sending finds what the first did.

While Redis was away no lease could be renewed: when it is back, who held a job has the time of a lease to say so.
"""

TELL = fenced(event("ARGV[4]", "ARGV[5]"))
"""Tells an event."""

NOTE = fenced("redis.call('HSET', KEYS[1], unpack(ARGV, 4))")
"""Sets fields of which no event tells."""

WAITS = fenced(f"""
if redis.call('HSETNX', KEYS[1], 'waiting_since', redis.call('TIME')[1]) == 1 then {event("'state'", "ARGV[4]")} end
""")
"""Tells, once, that a job waits, such as for the account's quota."""

GOES = fenced(f"""
if redis.call('HDEL', KEYS[1], 'waiting_since', 'place') > 0 then {event("'state'", "ARGV[4]")} end
""")
"""Tells that it waits no longer."""

LEAVE = fenced(f"""
if redis.call('LLEN', KEYS[2]) < tonumber(ARGV[6]) then return 'gone' end
if ARGV[4] ~= '' then {event("'state'", "ARGV[4]")} end
{kept(9)}
redis.call('HSET', KEYS[1], unpack(ARGV, rest))
if ARGV[5] == 'ended' then
    {falls_due("ARGV[7]", "ARGV[8]")}
    redis.call('DEL', KEYS[5])
    redis.call('HDEL', KEYS[1], 'waiting_since', 'place')
end
local function less(count)
    if tonumber(redis.call('HGET', KEYS[1], count) or 0) > 0 then redis.call('HINCRBY', KEYS[1], count, -1) end
end
if ARGV[5] == 'spared' or ARGV[5] == 'unbegun' then less('fruitless') end
if ARGV[5] == 'unbegun' then less('attempts') end
redis.call('DEL', KEYS[4])
""")
"""Ends the lease and says in which state the job is left: `ended`; `again`; `spared`, if nothing went wrong and the try
is not counted as one in vain; or `unbegun`, if it counts for nothing. Tells no event if it is given none.

With the job's end its callback is due: there is no moment between the two."""

RESTORE = Script(f"""
local known = redis.call('EXISTS', KEYS[1], KEYS[4]) > 0
if known and redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 'taken' end
{kept(5)}
redis.call('HSET', KEYS[1], unpack(ARGV, rest))
redis.call('SET', KEYS[4], ARGV[1], 'PX', ARGV[2])
{event("'state'", "ARGV[4]")}
{EXPIRE}
""")
"""Makes the record anew in a Redis that has lost it, unless somebody else has begun the job there meanwhile."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claimed:
    """The job is ours. What earlier attempts left: how many sentences, how much was sent, how often it was resumed.

    `attempt` counts all tries, this one included; `fruitless` those since the last new sentence.
    """

    attempt: int
    fruitless: int
    kept: int
    resumes: int
    streams: int
    sent_ms: int
    duration_ms: int | None
    started_at: float
    elapsed: float
    """Seconds since the job was first begun, at `started_at`, both by Redis' clock."""
    queued_at: float | None
    cancelled: bool
    is_waiting: bool = False
    """Those who follow the job were told that it waits for quota."""
    place: str = ""
    """Where it stood in line."""
    cuts: int = 0
    """Streams that were cut since the last new sentence, and forgiven."""
    heard_out: frozenset[int] = frozenset()
    """Channels that have been streamed to their end."""
    content: str = ""
    """What tells the recording from others, if an earlier attempt has read it for that."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """Somebody else works on the job; his lease ends after so many seconds unless he renews it."""

    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Over:
    """The job has ended: its state, and its result or why there is none."""

    state: str
    result: dict[str, Any] | None
    error_code: str
    error: str


class JobRecord:
    """Writes one job's record, in the name of a lease. Every key it touches gets a new time to live.

    The client sends a command again when its answer was lost: a state or a partial may then be told twice, a sentence
    is kept once.

    Raises, from every method but `queued`:
        Unavailable: Redis does not answer.
        JobError: it refuses for good.
        LeaseLost: somebody else has taken the job over.
    """

    def __init__(
        self, client: "redis.Redis", job_id: str, *, ttl: int, lease: float, callback: Callback | None = None
    ) -> None:
        self.job_id = job_id
        self._wish = callback.wish() if callback else ()
        self._client = client
        self.keys = JobKeys(job_id)
        self._ttl = ttl
        self.lease = Lease(tuple(self.keys), seconds=lease, ttl=ttl)
        self.checkpoint = Checkpoint(self.lease)
        self._fields: dict[str, Value] = {}
        self._figures: Callable[[], dict[str, Value]] = dict
        self._is_waiting = False

    def __repr__(self) -> str:
        return f"<JobRecord {self.job_id}, {self.checkpoint!r}>"

    def queued(self, audio: str) -> None:
        """Say that the job was sent. `audio` is the reference as it may be shown. Raises Unavailable."""
        told = {"state": "queued"}
        fields = _flat({**told, "audio": audio, "queued_at": time.time()})
        self._run(QUEUED.call(tuple(self.keys), self._ttl, _json(told), *fields))

    def claim(self, audio: str, worker: str, most_tries: int = 10**9) -> Claimed | Held | Over:
        """Take the job, if it is to be had, with the sentences that earlier attempts have finished.

        After so many tries in vain nobody is told that it runs: it is taken only to be ended.
        """
        kind, *rest = self._run(self.lease.call(CLAIM, worker, audio, most_tries, len(self._wish), *self._wish))
        if kind == b"ended":
            return _over(*rest)
        if kind == b"held":
            return Held(seconds=max(0, rest[0]) / 1000)
        claimed = _claimed(*rest)
        self._is_waiting = claimed.is_waiting
        begun = f"{claimed.started_at:.6f}"
        self._fields = {"audio": audio, "worker": worker, "attempts": claimed.attempt, "started_at": begun}
        if claimed.kept:
            self.checkpoint.load(
                json.loads(one) for one in asked(lambda: self._client.lrange(self.keys.sentences, 0, -1))
            )
        return claimed

    def following(self, figures: Figures, stop: Stop, *, stall: float, deadline: float) -> JobPulse:
        """What a heartbeat says for this attempt, until `deadline` (monotonic seconds) and a little longer."""
        self._figures = lambda: {
            "sent_ms": figures.sent_ms,
            "streams": figures.streams,
            "resumes": figures.resumes,
        }
        return JobPulse(self.lease, self.checkpoint, figures, stop, stall=stall, deadline=deadline)

    def note(self, **fields: Value) -> None:
        """Set fields of the hash, such as `duration_ms`."""
        self._fields |= fields
        self._write(lambda: self.lease.call(NOTE, *_flat(fields)))

    def partial(self, sentence: Mapping[str, Any]) -> None:
        """Tell those who follow what the open sentence says so far; nobody, while Redis is away."""
        if not self.checkpoint.is_late:
            try:
                self._write(lambda: self.lease.call(TELL, "partial", _json(sentence)))
            except Unavailable:
                self.checkpoint.is_late = True

    def final(self, sentence: Mapping[str, Any]) -> None:
        """Keep a finished sentence and tell those who follow; while Redis is away the heartbeat does it later."""
        self.checkpoint.add(sentence)
        if not self.checkpoint.is_late:
            try:
                self.save()
            except Unavailable:
                self.checkpoint.is_late = True

    def save(self) -> None:
        """Write the sentences that Redis does not have yet."""
        while (batch := self.checkpoint.next()) is not None:
            if self._answered(batch.call):
                self.checkpoint.saved(batch)

    def succeeded(self, result: Mapping[str, Any], **fields: Value) -> None:
        """Store the result, and these fields, and close the record."""
        ms = result["duration_ms"]
        self._leave("ended", {"state": "succeeded"}, duration_ms=ms, progress_ms=ms, result=_json(result), **fields)

    def failed(self, code: str, sentence: str) -> None:
        """Say why there is no transcript and close the record. The finished sentences stay."""
        self._leave("ended", {"state": "failed", "error_code": code, "error": sentence})

    def cancelled(self) -> None:
        """Close the record of a job that was not wanted any more. The finished sentences stay."""
        self._leave("ended", {"state": "cancelled"})

    def waiting(self, code: str, sentence: str, *, counted: bool = True) -> None:
        """Say why the attempt failed, and that there will be another."""
        told = {"state": "queued", "error_code": code, "error": sentence}
        self._leave("again" if counted else "unbegun", told)

    def waits(self, what: str = "quota") -> None:
        """Tell, once, those who follow that the job waits, and for what. Raises LeaseLost only: it is not needed."""
        if not self._is_waiting:
            self._is_waiting = True
            self._tell_of_waiting(WAITS, f"waiting for {what}")

    def goes(self) -> None:
        """Tell them that it waits no longer. As `waits`."""
        if self._is_waiting:
            self._is_waiting = False
            self._tell_of_waiting(GOES, "running")

    def cut(self, cuts: int) -> None:
        """Note that so many streams were cut and forgiven since the last new sentence. Raises LeaseLost only."""
        with suppress(Unavailable):
            self.note(cuts=cuts)

    def not_begun(self, place: str) -> None:
        """Leave the job until there is quota; it keeps this place in line. The try counts for nothing."""
        self.waits()
        self._leave("unbegun", {}, state="queued", place=place)

    def postponed(self) -> None:
        """Leave the job until another, which does the same work, has ended. The try counts for nothing."""
        self.waits("another job")
        self._leave("unbegun", {}, state="queued")

    def heard_out(self, channels: Iterable[int]) -> None:
        """Note which channels have been streamed to their end."""
        self.note(heard_out=" ".join(map(str, sorted(channels))))

    def handed_back(self) -> None:
        """Leave the job to another worker, who goes on at once. Nothing went wrong, so this try is not counted."""
        self._leave("spared", {"state": "queued"})

    def _tell_of_waiting(self, script: Script, state: str) -> None:
        with suppress(Unavailable):
            self._write(lambda: self.lease.call(script, _json({"state": state})))

    def _leave(self, how: str, told: Mapping[str, Value], **fields: Value) -> None:
        self.save()
        moment = "ended_at" if told.get("state") in ENDED else "queued_at"
        now = time.time()
        callback: tuple[Value, ...] = ("", "", 0)
        if how == "ended" and self._wish:
            callback = (*ending(self.job_id, told, now), len(self._wish), *self._wish)
        pairs = _flat({**told, moment: now, **self._figures(), **fields})
        event = _json(told) if told else ""
        self._write(lambda: self.lease.call(LEAVE, event, how, self.checkpoint.count, *callback, *pairs))

    def _write(self, call: Callable[[], Call]) -> None:
        while not self._answered(call()):
            self.save()

    def _answered(self, call: Call) -> bool:
        """Whether Redis did it. If not, it had lost the record, which is now there again but for its sentences."""
        answer = self._run(call)
        if answer == OVER and call.script is not LEAVE:
            raise LeaseLost  # somebody has ended the job meanwhile, and it was not this attempt
        if answer == GONE:
            self.checkpoint.replay()
            told = {"state": "running", "attempt": self._fields["attempts"]}
            fields = _flat({"state": "running", "token": self.lease.token, **self._fields})
            answer = self._run(self.lease.call(RESTORE, _json(told), len(self._wish), *self._wish, *fields))
            if answer != TAKEN:
                return False
        if answer == TAKEN:
            raise LeaseLost
        return True

    def _run(self, call: Call) -> Any:
        return asked(lambda: call.run(self._client))


def _claimed(now: bytes, kept: int, cancelled: int, *fields: bytes | None) -> Claimed:
    attempt, fruitless, resumes, streams, sent_ms = (int(field or 0) for field in fields[:5])
    duration_ms, started_at, queued_at, waiting_since, place, cuts, heard_out, content = fields[5:]
    return Claimed(
        attempt=attempt,
        fruitless=fruitless,
        kept=kept,
        resumes=resumes,
        streams=streams,
        sent_ms=sent_ms,
        duration_ms=int(duration_ms) if duration_ms else None,
        started_at=float(started_at or now),
        elapsed=max(0.0, float(now) - float(started_at or now)),
        queued_at=float(queued_at) if queued_at else None,
        cancelled=bool(cancelled),
        is_waiting=waiting_since is not None,
        place=(place or b"").decode(),
        cuts=int(cuts or 0),
        heard_out=frozenset(map(int, (heard_out or b"").split())),
        content=(content or b"").decode(),
    )


def _over(state: bytes, result: bytes | None, code: bytes | None, error: bytes | None) -> Over:
    return Over(
        state=state.decode(),
        result=json.loads(result) if result else None,
        error_code=(code or b"").decode(),
        error=(error or b"").decode(),
    )


def _flat(fields: Mapping[str, Value]) -> tuple[Value, ...]:
    return tuple(itertools.chain.from_iterable(fields.items()))


def _json(value: Mapping[str, Any]) -> bytes:
    return compact(value, "replace")  # an odd character must not cost a transcript
