"""Takes messages so that each is at every moment in its queue or noted as taken, whoever is killed, and when.

kombu has Redis hand a message over, and notes afterwards that somebody holds it. Whoever dies between the two, or has
his connection cut, takes the message with him; and of a job that nobody has begun there is no other trace. Here one
script does both. No script can wait, so a queue has a bell: a connection that waits until there is something to be
moved from the queue's end to where it was.
"""

import logging
import math
import time
from collections.abc import Iterable
from functools import partial
from queue import Empty
from typing import Any

from celery.bootsteps import StartStopStep
from kombu.transport.virtual import QoS
from kombu.utils.json import loads

LOOK_EVERY = 1.0
"""Seconds between two looks at queues that nothing was heard of: some have no bell."""

TAKE = """
local function noted(message)
  local of = cjson.decode(message).properties
  local to = of.delivery_info
  local ends = {message, cjson.encode(to.exchange), cjson.encode(to.routing_key)}
  return of.delivery_tag .. '', '[' .. table.concat(ends, ',') .. ']'
end
for i = 1, #KEYS - 2 do
  local message = redis.call('LINDEX', KEYS[i], -1)
  if message then
    local is_known, tag, note = pcall(noted, message)
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
and then the message stays where it is. What kombu could not note is no message."""

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


class Taker:
    """Takes what comes over a channel, one message after the other, as long as there is any. It reads no message that
    it has not asked for, and asks for none that is not wanted.
    """

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.is_rung = True
        self._looked = -math.inf
        self._queues: list[str] = []
        replace(channel, self.look, self.read)
        channel.qos.append = partial(QoS.append, channel.qos)  # Redis' own would note it a second time

    @property
    def is_busy(self) -> bool:
        """There is something to be taken, or it is being looked for."""
        return self.is_rung or bool(self.channel._in_poll)

    def look(self, **_: Any) -> None:
        """Ask for the next message, if there may be one."""
        channel, now = self.channel, time.monotonic()
        queues = channel._queue_cycle.consume(len(channel.active_queues))
        if queues and (self.is_rung or now - self._looked >= LOOK_EVERY):
            self.is_rung, self._looked = False, now
            self._queues = [queue for _ in channel.priority_steps for queue in queues]
            lists = [channel._q_for_pri(queue, step) for step in channel.priority_steps for queue in queues]
            keys = prefixed(channel, [*lists, channel.unacked_key, channel.unacked_index_key])
            send(channel, "EVAL", TAKE, len(keys), *keys)

    def read(self, **_: Any) -> bool:
        """Hand on what was taken. Raises Empty: nothing."""
        found = answer(self.channel)
        if found is None:
            raise Empty
        self.is_rung = True  # where one was there may be more
        position, raw, tag = found
        queue = self._queues[position - 1]
        self.channel._queue_cycle.rotate(queue)
        message = decoded(raw)
        if message is None:
            log.error(
                "the queue %s held %d bytes that are no message of Celery's; they are thrown away", queue, len(raw)
            )
            self.channel.qos.ack(tag.decode())
        else:
            self.channel.connection._deliver(message, queue)
        return True


class Bell:
    """Has the taker look when there is something in a queue. Takes nothing, so that nothing is lost with it."""

    def __init__(self, channel: Any, queue: str, taker: Taker) -> None:
        self._channel = channel
        self._queue = queue
        self._taker = taker
        replace(channel, self.wait, self.ring)
        channel._active_queues.append(queue)
        channel.qos.can_consume = lambda: taker.channel.qos.can_consume()

    def wait(self, **_: Any) -> None:
        """Ask Redis to answer when there is something, and after a while in any case."""
        if not self._taker.is_busy and self._queue in self._taker.channel.active_queues:
            (key,) = prefixed(self._channel, [self._queue])
            send(self._channel, "BLMOVE", key, key, "RIGHT", "RIGHT", LOOK_EVERY)

    def ring(self, **_: Any) -> None:
        """Redis has answered. Raises Empty: there is nothing to be handed on."""
        if not self._channel._closing:  # else nobody waits for the answer
            self._taker.is_rung |= answer(self._channel) is not None
        raise Empty


def decoded(raw: bytes) -> dict[str, Any] | None:
    """A message, if it is one."""
    try:
        message: dict[str, Any] = loads(raw.decode())
        return message if isinstance(message["properties"]["delivery_tag"], str) else None
    except (ValueError, LookupError, TypeError):
        return None


def replace(channel: Any, ask: Any, read: Any) -> None:
    """Let a channel ask and read in these ways when kombu has it wait for a message."""
    channel._brpop_start = ask
    channel._brpop_read = channel.handlers["BRPOP"] = read


def prefixed(channel: Any, keys: Iterable[str]) -> list[str]:
    return [f"{channel.global_keyprefix}{key}" for key in keys]


def send(channel: Any, *words: str | float) -> None:
    """Send a command whose answer kombu's loop will see. Raises redis.RedisError."""
    connection = channel.client.connection
    channel._in_poll, channel._brpop_sent_at = connection, time.monotonic()
    connection.send_command(*words)


def answer(channel: Any) -> Any:
    """What Redis answers to the command that was sent last. Raises redis.RedisError."""
    connection = channel.client.connection
    try:
        return channel.client.parse_response(connection, "EVAL")
    except channel.connection_errors:
        connection.disconnect()  # kombu connects anew
        raise
    finally:
        channel._in_poll = None
        channel._flush_brpop_reauth()
