"""Composition root: what lives as long as the process, made from the settings, once for each pid."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from config.quota import AccountSettings
from config.settings import Settings, settings
from worker.accounts import Account, Accounts
from worker.beat import Beat, Pulse, impatient
from worker.drain import drain
from worker.generation import REQUESTS
from worker.generation import Client as TextModels
from worker.generation import Limits as TextLimits
from worker.http import HttpLimits, HttpPool
from worker.objects import ObjectStores
from worker.pool import Pool
from worker.quota import Gate, Ledger, Mailbox, Quota
from worker.recognition import Endpoint, Limits, Load, Loop, RecognizerHooks
from worker.recognition.transport import shared_context
from worker.report import Process, Reporter
from worker.sizing import allowance, policy
from worker.stops import Stop, Stops

REDIS_CONNECTIONS = 32
"""Most connections of a process to Redis. A command takes well under a millisecond, so many streams share few."""

REDIS_PATIENCE = 2.0
"""Seconds for a connection to Redis, and for each answer. No stream waits longer for it; what must be written is tried
again by those who can wait."""

TO_A_SENTENCE = 0.5
"""The share of the time for draining in which a job may still come to the end of its sentence."""


class Runtime:
    """One process's pool, beat, Redis and HTTP connections. Making it opens nothing."""

    def __init__(self, settings: Settings, streams: int) -> None:
        self.settings = settings
        self.streams = streams
        self.redis = redis_client(settings.redis.url)
        self.mailbox = Mailbox(mail_client(settings.redis.url))
        self.loop = Loop()
        self.load = Load(more=self.loop.figures)
        self.accounts = Accounts([self._account(one) for one in settings.accounts()])
        self.http = HttpPool(
            _http_limits(settings, streams), allow_private=settings.audio.allow_private, context=shared_context()
        )
        self.stores = ObjectStores(settings.oss)
        self.text_models = TextModels(settings.generation.url, text_limits(settings), shared_context())
        self.beat = Beat(impatient(settings.redis.url))
        self.stops = Stops(drain.elapsed, TO_A_SENTENCE * settings.job.drain)
        self.reporter: Reporter | None = None

    def __repr__(self) -> str:
        pools = ", ".join(repr(account.pool) for account in self.accounts.all)
        return f"<Runtime pid {os.getpid()}, {self.streams} streams, {pools}>"

    def warm(self, worker: str, kind: str) -> None:
        """Begin to warm the pool and to report on it, in the background: as a process of this node and pool kind."""
        self.accounts.warm()
        self._carry_quotas()
        if self.reporter is None:
            process = Process(worker=worker, pool=kind, streams=self.streams)
            self.reporter = Reporter(process, self.accounts, self.load)
            self.beat.carry(self.reporter)

    @contextmanager
    def watch(self, cancel_key: str, stop: Stop, pulse: Pulse) -> Iterator[None]:
        """Let the heartbeat speak for a running job, and ask it to stop when that key appears or the worker ends."""
        self.beat.carry(self.stops)
        self._carry_quotas()
        with self.stops.listening(cancel_key, stop), self.beat.follow(pulse):
            yield

    def _carry_quotas(self) -> None:
        for account in self.accounts.all:
            self.beat.carry(account.quota)

    def _account(self, own: AccountSettings) -> Account:
        sizes, rules = policy(self.settings, self.streams), self.settings.quota
        quota = Quota(
            Ledger(self.redis, own.name, allowance(self.settings, own, sizes)),
            self.mailbox,
            tenants=rules.tenants,
            patience=rules.patience,
            redis_patience=self.settings.redis.patience,
        )
        gate = Gate(quota)
        hooks = RecognizerHooks(
            endpoint(self.settings, own),
            limits(self.settings),
            self.settings.pool.warm_up_model,
            gate=gate,
            loop=self.loop,
            load=self.load,
        )
        pool = Pool("recognizer", hooks, sizes, admit=gate.admit)
        return Account(settings=own, quota=quota, gate=gate, hooks=hooks, pool=pool)

    def close(self, timeout: float) -> None:
        """Close what is open, in at most about three times `timeout` seconds."""
        if self.reporter is not None:
            self.reporter.withdraw()
        self.beat.stop()
        self.mailbox.close()
        self.accounts.close(timeout)
        self.loop.close(timeout)
        self.http.close()
        self.text_models.close(timeout)
        self.redis.close()
        self.beat.join(timeout)


def redis_client(url: str) -> redis.Redis:
    """A client that waits a little for a free connection, tries once more over a new one, and then gives up.

    A command whose answer was lost is sent again, so every write must be one that may come twice.
    """
    connections = redis.BlockingConnectionPool.from_url(
        url,
        max_connections=REDIS_CONNECTIONS,
        timeout=2 * REDIS_PATIENCE,
        socket_timeout=REDIS_PATIENCE,
        socket_connect_timeout=REDIS_PATIENCE,
        health_check_interval=25,
        retry=Retry(NoBackoff(), retries=1),
    )
    return redis.Redis.from_pool(connections)


def mail_client(url: str) -> redis.Redis:
    """A client for the mailbox, which waits for what comes: a connection of its own, looked after by pings."""
    return redis.Redis.from_url(
        url, socket_timeout=REDIS_PATIENCE, socket_connect_timeout=REDIS_PATIENCE, health_check_interval=5
    )


def endpoint(settings: Settings, account: AccountSettings) -> Endpoint:
    """Where an account's recognisers connect."""
    upstream = settings.upstream
    return Endpoint(
        url=account.url or upstream.url,
        api_key=account.api_key.get_secret_value(),
        workspace_id=account.workspace_id,
        connect_timeout=upstream.connect_timeout,
        write_timeout=upstream.write_timeout,
    )


def limits(settings: Settings) -> Limits:
    """How long a recogniser waits for the service."""
    upstream = settings.upstream
    return Limits(
        started=upstream.started_timeout,
        finished=upstream.read_timeout,
        write=upstream.write_timeout,
        quiet=upstream.quiet,
        pong=upstream.pong,
    )


def text_limits(settings: Settings) -> TextLimits:
    """How many requests to text models a process has under way, and how long it waits for them."""
    pool, upstream = settings.pool, settings.upstream
    requests = pool.streams or max(REQUESTS, pool.streams_per_host or 0)
    return TextLimits(
        requests=requests,
        requests_per_host=pool.streams_per_host or requests,
        connect_timeout=upstream.connect_timeout,
        timeout=settings.generation.timeout,
        idle_time=pool.idle_time,
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


def made() -> Runtime | None:
    """This process's runtime, if there is one; to look at it, not to make it."""
    with _lock:
        return _made[1] if _made is not None and _made[0] == os.getpid() else None


def close(timeout: float) -> None:
    """Close this process's runtime, if it was made."""
    global _made
    with _lock:
        mine, _made = (_made if _made and _made[0] == os.getpid() else None), None
    if mine is not None:
        mine[1].close(timeout)
