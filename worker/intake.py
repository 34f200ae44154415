"""Takes messages so that each is at every moment in its queue or noted as taken, whoever is killed, and when.

kombu has Redis hand a message over, and notes afterwards that somebody holds it. Whoever dies between the two, or has
his connection cut, takes the message with him; and of a job that nobody has begun there is no other trace. Here one
script does both. No script can wait, so a queue has a bell: a connection that waits until there is something to be
moved from the queue's end to where it was.
"""

import logging
import random
import time
from collections.abc import Sequence
from functools import partial
from queue import Empty
from typing import Any

from celery.bootsteps import StartStopStep
from kombu.transport.virtual import QoS
from kombu.utils.json import loads
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import OutOfMemoryError

from config.queues import weight

LOOK_EVERY = 1.0
"""Seconds between two looks at queues that nothing was heard of: some have no bell."""

TAKE = r"""
local function noted(message, text)
  local of = cjson.decode(text).properties
  local to = of.delivery_info
  local parts = {message, cjson.encode(to.exchange), cjson.encode(to.routing_key)}
  return of.delivery_tag .. '', '[' .. table.concat(parts, ',') .. ']'
end
for i = 1, #KEYS - 2 do
  local message = redis.call('LINDEX', KEYS[i], -1)
  if message then
    local is_known, tag, note = pcall(noted, message, message)
    if not is_known then -- half a pair of surrogates, as of a file's name that is not UTF-8, is no JSON to Lua
      is_known, tag, note = pcall(noted, message, (string.gsub(message, '\\(u[dD][89a-fA-F]%x%x)', '/%1')))
    end
    if is_known then
      redis.call('HSET', KEYS[#KEYS - 1], tag, note)
      redis.call('ZADD', KEYS[#KEYS], redis.call('TIME')[1], tag)
    end
    redis.call('RPOP', KEYS[i])
    return {i, message, is_known and tag or ''}
  end
end
"""
"""Takes the first message of these lists, in the words in which kombu notes one. A Redis that is full refuses to note,
and then the message stays where it is."""

log = logging.getLogger("worker")


class Intake(StartStopStep):
    """Puts itself into each new connection of a consumer, if its broker is Redis."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def include_if(self, parent: Any) -> bool:
        return bool(parent.conninfo.get_transport_cls().driver_type == "redis")

    def start(self, parent: Any) -> None:
        taker = Taker(parent.task_consumer.channel)
        for queue in parent.task_consumer.queues:
            Bell(parent.connection.channel(), queue.name, taker)


class Line:
    """A channel whose connection carries these commands, one at a time, where kombu would wait for a message."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self._refused_until = 0.0
        channel._brpop_start = self.ask
        channel._brpop_read = channel.handlers["BRPOP"] = self.read

    def ask(self, **_: Any) -> None:
        """Send a command if there is reason to; kombu's loop sees the answer."""
        raise NotImplementedError

    def read(self, **_: Any) -> bool:
        """Do what the answer says. Raises Empty: nothing has come."""
        raise NotImplementedError

    @property
    def is_asking(self) -> bool:
        return bool(self.channel._in_poll)

    def key(self, name: str) -> str:
        return f"{self.channel.global_keyprefix}{name}"

    def send(self, *words: str | float) -> bool:
        """Whether a command was sent. Not over a connection that was closed while it was silent, which kombu replaces;
        and not soon after Redis has refused one. Raises redis.ConnectionError.
        """
        connection, now = self.channel.client.connection, time.monotonic()
        if now < self._refused_until:
            return False
        if is_closed(connection):
            connection.disconnect()
            return False
        self.channel._in_poll, self.channel._brpop_sent_at = connection, now
        connection.send_command(*words)
        return True

    def answer(self) -> Any:
        """The answer to what was sent last; None if there was nothing to answer, or if Redis is full. Raises
        redis.RedisError.
        """
        connection, was_asked = self.channel.client.connection, self.is_asking
        if not was_asked:  # so this is no answer: the connection was closed
            connection.disconnect()
            return None
        try:
            return connection.read_response()
        except OutOfMemoryError:
            self._refused_until = time.monotonic() + LOOK_EVERY
            return None
        finally:
            self.channel._in_poll = None
            self.channel._flush_brpop_reauth()


class Taker(Line):
    """Takes what comes over a channel, one message after the other, as long as there is any. It reads no message that
    it has not asked for, and asks for none that is not wanted.
    """

    def __init__(self, channel: Any) -> None:
        super().__init__(channel)
        self.is_rung = False
        self._looked = float("-inf")
        self._queues: Sequence[str] = ()
        channel.qos.append = partial(QoS.append, channel.qos)  # Redis' own would note it a second time

    def ask(self, **_: Any) -> None:
        channel, now = self.channel, time.monotonic()
        queues = by_weight(channel._queue_cycle.consume(len(channel.active_queues)))
        if queues and (self.is_rung or now - self._looked >= LOOK_EVERY):
            lists = [channel._q_for_pri(queue, step) for step in channel.priority_steps for queue in queues]
            keys = [*map(self.key, lists), self.key(channel.unacked_key), self.key(channel.unacked_index_key)]
            if self.send("EVAL", TAKE, len(keys), *keys):
                self.is_rung, self._looked, self._queues = False, now, queues * len(channel.priority_steps)

    def read(self, **_: Any) -> bool:
        found = self.answer()
        if found is None:
            raise Empty
        self.is_rung = True  # where one was there may be more
        position, raw, tag = found
        queue = self._queues[position - 1]
        message = self._message(raw) if tag else None
        if message is None:
            log.error("%d bytes in the queue %s are no message of Celery's; they are thrown away", len(raw), queue)
            self.channel.qos.ack(tag)
        else:
            self.channel.connection._deliver(message, queue)
        return True

    def _message(self, raw: bytes) -> Any:
        """What is to be delivered. None: it cannot be, and would end the worker, and each that has it after it."""
        try:
            message = loads(raw.decode())
            self.channel.Message(message, channel=self.channel)
        except Exception:
            return None
        return message


class Bell(Line):
    """Has the taker look when there is something in a queue. Takes nothing, so that nothing is lost with it."""

    def __init__(self, channel: Any, queue: str, taker: Taker) -> None:
        super().__init__(channel)
        self._queue = queue
        self._taker = taker
        channel._active_queues.append(queue)
        # It is heard also when nothing may be taken: an answer that was left would be lost with its connection.
        channel.qos.can_consume = lambda: self.is_asking or taker.channel.qos.can_consume()

    def ask(self, **_: Any) -> None:
        busy = self._taker.is_rung or self._taker.is_asking
        if not busy and self._queue in self._taker.channel.active_queues:
            self.send("BLMOVE", self.key(self._queue), self.key(self._queue), "RIGHT", "RIGHT", LOOK_EVERY)

    def read(self, **_: Any) -> bool:
        if not self.channel._closing:  # else nobody waits for the answer
            self._taker.is_rung |= self.answer() is not None
        raise Empty


def by_weight(queues: Sequence[str]) -> list[str]:
    """In an order drawn anew; a queue of twice the weight is twice as likely to be the first, and nobody starves."""
    return sorted(queues, key=lambda queue: random.expovariate(weight(queue)))


def is_closed(connection: Any) -> bool:
    """Whether Redis has closed a connection over which nothing was asked: nothing else can come from it."""
    try:
        return bool(connection.can_read(timeout=0))
    except Lost:
        return True
