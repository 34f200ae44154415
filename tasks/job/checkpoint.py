"""A job's finished sentences: what Redis has of them is the checkpoint, what it does not have yet waits here.

From the end of a channel's last one another stream, or another worker, goes on. The job's own thread writes a sentence
as it comes. While Redis is away it does not try again and again, for the stream must go on: the heartbeat does it then.
"""

import threading
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from tasks.compact import compact
from tasks.errors import Unavailable
from tasks.job.lease import Lease, event, fenced
from tasks.transcript.packed import PackedList
from worker.script import Call

MOST_UNSAVED = 16 * 1024**2
"""Bytes of sentences that may wait for Redis: days of speech, and yet little to a process."""

BATCH = 200
"""Sentences in one write."""

KEEP = fenced(f"""
local have, first = redis.call('LLEN', KEYS[2]), tonumber(ARGV[4])
if have < first then return 'gone' end
for i = 5, #ARGV do
    if have == first + i - 5 then
        have = redis.call('RPUSH', KEYS[2], ARGV[i])
        {event("'final'", "ARGV[i]")}
        redis.call('HSET', KEYS[1], 'fruitless', 0)
    end
end
""")
"""Keeps sentences and tells of them, each only if the list is as long as its writer believes: a second sending does
nothing. A list that is shorter has lost some. Whose list grows has not tried in vain."""


class Batch(NamedTuple):
    """A write of sentences: the number of the first in the whole list, how many, and the call."""

    first: int
    size: int
    call: Call


class Checkpoint:
    """Bookkeeping only; safe to use from the job's threads and the heartbeat's."""

    def __init__(self, lease: Lease) -> None:
        self.count = 0
        """How many sentences are finished."""
        self.is_late = False
        """Redis did not take a sentence: the heartbeat is to write what waits."""
        self._lease = lease
        self._all: PackedList[Any] = PackedList()
        self._ends: dict[int, int] = {}
        self._lock = threading.Lock()
        self._unsaved: list[bytes] = []

    def __repr__(self) -> str:
        return f"<Checkpoint {self.count} sentences, unsaved {len(self._unsaved)}>"

    @property
    def sentences(self) -> list[Any]:
        """All of them, unpacked anew each time: ask once, at the end."""
        return list(self._all)

    def end_ms(self, channel: int = 0) -> int | None:
        """Where a channel's last sentence ends: from there another stream goes on. None: it has none yet."""
        return self._ends.get(channel)

    def load(self, kept: Iterable[Mapping[str, Any]]) -> None:
        """Begin with what Redis has."""
        for sentence in kept:
            self._note(sentence)

    def add(self, sentence: Mapping[str, Any]) -> None:
        """Take a finished sentence. Raises Unavailable when too much waits for Redis."""
        with self._lock:
            if sum(map(len, self._unsaved)) > MOST_UNSAVED:
                raise Unavailable("redis_unavailable", "Redis has been away for too long; the job is tried again.")
            self._note(sentence)
            self._unsaved.append(_packed(sentence))

    def next(self) -> Batch | None:
        """What is to be written next, if anything waits."""
        with self._lock:
            some = self._unsaved[:BATCH]
            first = self.count - len(self._unsaved)
            return Batch(first, len(some), self._lease.call(KEEP, first, *some)) if some else None

    def saved(self, batch: Batch) -> None:
        """Redis has taken it. Perhaps both threads have sent it: then the second to say so says nothing new."""
        with self._lock:
            known = self.count - len(self._unsaved)
            del self._unsaved[: max(0, batch.first + batch.size - known)]
            self.is_late = self.is_late and bool(self._unsaved)

    def reached(self) -> None:
        """Redis has answered the heartbeat: it is not away, and if nothing waits, the job's thread may try again."""
        with self._lock:
            self.is_late = self.is_late and bool(self._unsaved)

    def replay(self) -> None:
        """Redis has lost everything: all is to be written again."""
        with self._lock:
            self._unsaved = [_packed(sentence) for sentence in self._all]

    def _note(self, sentence: Mapping[str, Any]) -> None:
        self._all.append(sentence)
        self.count += 1
        self._ends[int(sentence.get("channel", 0))] = int(sentence["end_time"])


def _packed(sentence: Mapping[str, Any]) -> bytes:
    return compact(sentence, "replace")  # an odd character must not cost a transcript
