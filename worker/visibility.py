"""Keeps the messages that a worker holds with it, for as long as it lives.

Redis is told when a message is given out, and after a while another worker may have it: the first may have died. Celery
never says that it has not, so a job that lasts longer, or waits longer for its time to come, would be done twice. Here
it is said every second, and what a dead worker held is soon with another.

It has a thread of its own: Celery's timer stands still while a solo worker does a job, and is late when the loop is
busy.

The messages of the dead are taken back by the living, by a timer of Celery's loop. A green pool has another loop, in
which kombu does so whenever it has waited for a message in vain; and it never has, for each second it is told that
there is none. So there it is done before a wait.
"""

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from celery.bootsteps import StartStopStep
from celery.worker import state

from config.settings import settings
from worker.beat import Beat, impatient
from worker.jobs import lease_key
from worker.script import Call, Script

RENEW = Script("""
local now = redis.call('TIME')[1]
for first = 1, #ARGV, 1000 do
  local renewed = {}
  for i = first, math.min(first + 999, #ARGV) do
    local tag, lease = string.match(ARGV[i], '^(%S+) ?(.*)$')
    if lease == '' or redis.call('EXISTS', lease) == 1 then
      renewed[#renewed + 1] = now
      renewed[#renewed + 1] = tag
    end
  end
  if #renewed > 0 then redis.call('ZADD', KEYS[1], 'XX', unpack(renewed)) end
end
return now
""")
"""Says of these messages that they are held now, by Redis' own clock, unless one was acknowledged meanwhile; or unless
its job has run for long and yet lost its lease: it hangs, and another worker shall have it.

Lua passes on at most some thousand values at a time.
"""

JOBS = "tasks.transcribe"
"""The task whose jobs hold leases."""

LEASES = 4
"""So many leases long a job may do without one: while it waits for Redis to take its claim, or to come back."""

TRIES = 20
"""How often to try to copy what another thread changes."""

log = logging.getLogger("worker")

T = TypeVar("T")


class Renewal:
    """Tells a heartbeat which messages a consumer holds.

    Those that came over a connection that was lost are among them as long as their jobs run. Their messages may have
    been given to another worker since; then it does no harm, the lease says who does the job.
    """

    def __init__(self, consumer: Any, timeout: float, leased_after: float = math.inf) -> None:
        self.key = ""
        self._leased_after = leased_after
        self._consumer = consumer
        self._timeout = timeout
        self._warned = False

    def tell(self) -> Call | None:
        """See `worker.beat.Pulse`."""
        tags = held(self._consumer, self._leased_after)
        return RENEW.call([self.key], *sorted(tags)) if tags else None

    def told(self, answer: bytes) -> None:
        """Who is due is judged by this machine's clock, for all workers: one that is ahead takes their messages."""
        ahead = time.time() - float(answer)
        if ahead > self._timeout / 2 and not self._warned:
            self._warned = True
            log.warning("this machine's clock is %.0f s ahead of Redis': messages come twice; set it right", ahead)


class Visibility(StartStopStep):
    """Renews for as long as the consumer lives. It is not stopped with a lost connection, nor while jobs are ending."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def include_if(self, parent: Any) -> bool:
        """Only Redis needs it, and it needs Redis."""
        return bool(parent.conninfo.get_transport_cls().driver_type == "redis")

    def create(self, parent: Any) -> None:
        redis = settings().redis
        self._beat = Beat(impatient(redis.url))
        self._renewal = Renewal(parent, redis.visibility_timeout, LEASES * settings().job.lease)

    def start(self, parent: Any) -> None:
        channel = parent.task_consumer.channel
        self._renewal.key = f"{channel.global_keyprefix}{channel.unacked_index_key}"
        self._beat.carry(self._renewal)
        if getattr(parent.pool, "is_green", False):
            drain, sweep = parent.connection.drain_events, channel.connection.cycle.maybe_restore_messages
            parent.connection.drain_events = sweeping(drain, sweep, channel.unacked_restore_interval)

    def shutdown(self, parent: Any) -> None:
        self._beat.stop()


def sweeping(drain: Callable[..., Any], sweep: Callable[[], Any], every: float) -> Callable[..., Any]:
    """The same `drain_events`, but every so many seconds what nobody holds any more is taken back first."""
    due = 0.0

    def drain_events(**options: Any) -> Any:
        nonlocal due
        now = time.monotonic()
        if now >= due:
            due = now + every
            sweep()
        return drain(**options)

    return drain_events


def held(consumer: Any, leased_after: float = math.inf) -> set[str]:
    """The delivery tags of the messages that this worker has not acknowledged: of jobs that run, wait for a process,
    for their time, or for their turn under a rate limit. With the key of its lease, for one that has run longer than
    `leased_after` seconds.
    """
    waiting = [bucket.contents for bucket in list(consumer.task_buckets.values()) if bucket]
    celery: Any = state  # whose stubs are older than one of these
    requests = itertools.chain(
        *map(copied, (celery.reserved_requests, celery.active_requests, celery.scheduled_requests)),
        (request for request, _ in itertools.chain(*map(copied, waiting))),
    )
    return {tagged(request, leased_after) for request in requests if not request.acknowledged}


def tagged(request: Any, leased_after: float) -> str:
    """A message's tag, and the key without which its job hangs."""
    tag: str = request.message.delivery_tag
    runs = request.name == JOBS and request.time_start and time.time() - request.time_start > leased_after
    return f"{tag} {lease_key(request.id)}" if runs else tag


def copied(items: Iterable[T]) -> list[T]:
    """What is in there now. Nothing, if another thread changes it too often; the next beat tries again."""
    for _ in range(TRIES):
        try:
            return list(items)
        except RuntimeError:  # it was changed while it was copied
            continue
    return []
