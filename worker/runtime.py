"""Composition root: what lives as long as the process, made from the settings, once for each pid."""

import os
import threading

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from config.settings import Settings, settings
from worker.http import HttpLimits, HttpPool
from worker.pool import Policy, Pool
from worker.recognition import Endpoint, Limits, Recognizer, RecognizerHooks

REDIS_CONNECTIONS = 32
"""Most connections of a process to Redis. A command takes well under a millisecond, so many streams share few."""


class Runtime:
    """One process's pool, Redis and HTTP connections. Making it opens nothing."""

    def __init__(self, settings: Settings, streams: int) -> None:
        self.settings = settings
        self.streams = streams
        self.pool: Pool[Recognizer] = Pool("recognizer", recognizer_hooks(settings), policy(settings, streams))
        self.redis = redis_client(settings.redis.url)
        self.http = HttpPool(_http_limits(settings, streams), allow_private=settings.audio.allow_private)

    def __repr__(self) -> str:
        return f"<Runtime pid {os.getpid()}, {self.streams} streams, {self.pool!r}>"

    def close(self, timeout: float) -> None:
        """Close what is open, in at most about `timeout` seconds."""
        self.pool.close(timeout)
        self.http.close()
        self.redis.close()


def redis_client(url: str) -> redis.Redis:
    """A client that waits for a free connection instead of failing, rides over short faults, and always ends its waits.

    A command whose answer was lost is sent again, so every write must be one that may come twice.
    """
    connections = redis.BlockingConnectionPool.from_url(
        url,
        max_connections=REDIS_CONNECTIONS,
        timeout=10,
        socket_timeout=5,
        socket_connect_timeout=5,
        health_check_interval=25,
        retry=Retry(ExponentialWithJitterBackoff(base=0.1, cap=1.0), retries=3),
    )
    return redis.Redis.from_pool(connections)


def recognizer_hooks(settings: Settings) -> RecognizerHooks:
    """How this process opens and judges a recogniser."""
    upstream = settings.upstream
    endpoint = Endpoint(
        url=upstream.url,
        api_key=upstream.key() or "",
        workspace_id=upstream.workspace_id,
        connect_timeout=upstream.connect_timeout,
        write_timeout=upstream.write_timeout,
    )
    return RecognizerHooks(endpoint, Limits(started=upstream.started_timeout, finished=upstream.read_timeout))


def policy(settings: Settings, streams: int) -> Policy:
    """The limits of a pool in a process that runs `streams` jobs at once."""
    pool = settings.pool
    size = pool.size or min(streams, pool.connections or streams)
    return Policy(
        min_size=size,
        max_size=pool.connections or size,
        max_waiting=pool.waiting,
        lease_timeout=min(pool.lease_timeout, settings.job.deadline),
        max_idle=pool.idle_time,
        max_lifetime=pool.lifetime,
        openers=pool.openers,
        max_lease=settings.job.deadline,
    )


def _http_limits(settings: Settings, streams: int) -> HttpLimits:
    audio = settings.audio
    return HttpLimits(maxsize=max(streams, 16), connect_timeout=audio.connect_timeout, read_timeout=audio.read_timeout)


_lock = threading.Lock()
_made: tuple[int, Runtime] | None = None


def runtime(streams: int = 1) -> Runtime:
    """This process's runtime, made on the first call; a fork starts afresh and leaves its parent's alone.

    `streams` is how many jobs the process runs at once; it counts on the first call only.
    """
    global _made
    with _lock:
        if _made is None or _made[0] != os.getpid():
            _made = (os.getpid(), Runtime(settings(), streams))
        return _made[1]


def close(timeout: float) -> None:
    """Close this process's runtime, if it was made."""
    global _made
    with _lock:
        mine, _made = (_made if _made and _made[0] == os.getpid() else None), None
    if mine is not None:
        mine[1].close(timeout)
