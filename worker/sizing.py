"""How large a process's pool is: the settings, the jobs it runs at once, and what the vendor's guides ask of both."""

import math

from config.pool import SERVICE_IDLE_LIMIT, PoolSettings
from config.quota import AccountSettings
from config.settings import Settings, SettingsError
from worker.pool import Policy
from worker.quota.ledger import OPEN_MARGIN, Allowance

OPENS_PER_SECOND = 20.0
"""As many as the service lets an account start tasks in a second (its rate-limit page): no reason to connect faster."""

WARM_UPS_PER_SECOND = 2.0
"""A warm-up task is a start, too, and jobs come first."""

MOST_OPENERS = 64

WAITING = 1000
"""Far more than wait for long; but all jobs of a process may come before its first connection."""

JITTER = 0.1
"""Wide enough, with the grace, to replace two hundred that came back together one after the other."""

GRACE = 5.0
"""Longest time, in seconds, that an idle recogniser past its age stays while others are being replaced."""

JOBS_A_CORE = 4
"""Of a prefork worker that was given no size (-c): a child holds one stream in about 20 MB and a fiftieth of a core,
but needs all of a core to go through a recording that is not paced."""

JOBS_A_PROCESS = 100
"""Of a threads or gevent worker that was given no size. One core holds more than ten times as many; but the process
keeps a warm connection for each, which it replaces after twenty seconds without a job, and an account without a raised
limit takes five seconds to start a hundred."""

MANY = 3
"""So many times the default is a misunderstanding: the vendor's sizes are for a server, these for a process."""


def jobs_at_once(settings: Settings, forks: bool, cores: int) -> int:
    """How many jobs a worker runs at once that was not told; `forks`: each in a process of its own."""
    if forks:
        return JOBS_A_CORE * cores
    pool = settings.pool
    return min(size for size in (JOBS_A_PROCESS, pool.most_streams, pool.connections or pool.size) if size)


def with_spare(streams: int) -> int:
    """How many recognisers serve so many jobs without a wait: one each, one more, and one more for each ten.

    The spare stands in while a discarded or retired one is being replaced, which takes two or three round trips.
    `python -m bench.sizes` measures what it saves.
    """
    return streams + 1 + streams // 10


def resized(settings: Settings, limits: Policy, size: int) -> tuple[int, int]:
    """How many are kept and how many there may be, in a pool of these limits that is told to keep `size`.

    Raises:
        SettingsError: the settings do not allow so many.
    """
    most = settings.pool.connections
    if most and size > most:
        raise SettingsError(f"{size} is more than DASHSCOPE_CONNECTION_POOL_SIZE={most}; raise that and restart")
    if size / limits.max_unused > limits.opens_per_second:
        raise SettingsError(
            f"at {limits.opens_per_second:g} connections a second {size} recognisers cannot be kept warm; "
            "set RECOGNITION_OBJECTPOOL_SIZE and restart"
        )
    return size, most or size


def policy(settings: Settings, streams: int) -> Policy:
    """The limits of a pool in a process that runs `streams` jobs at once.

    Raises:
        SettingsError: so many cannot be kept warm at the rate that was set.
    """
    pool = settings.pool
    kept = pool.size or min(with_spare(streams), pool.connections or with_spare(streams))
    unused = pool.idle_time if pool.warm_up_model else min(pool.unused_time, pool.idle_time)
    rate = _opens_per_second(pool, kept, unused)
    return Policy(
        min_size=kept,
        max_size=pool.connections or kept,
        max_leased=pool.most_streams,
        max_waiting=max(WAITING, streams) if pool.waiting is None else pool.waiting,
        lease_timeout=min(pool.lease_timeout, settings.job.deadline),
        max_idle=pool.idle_time,
        max_unused=unused,
        max_lifetime=pool.lifetime,
        # Below the service's own limit, whatever the ages.
        grace=min(GRACE, unused / 4, (SERVICE_IDLE_LIMIT - pool.idle_time) / 2),
        jitter=JITTER,
        openers=pool.openers or min(MOST_OPENERS, math.ceil(rate / 2)),
        opens_per_second=rate,
        spread=pool.spread,
        max_lease=settings.job.deadline,
    )


def allowance(settings: Settings, account: AccountSettings, limits: Policy) -> Allowance:
    """What an account may do: what is said of it, else of all accounts, else of a process's own pool."""
    rules = settings.quota
    return Allowance(
        streams=account.streams or rules.streams,
        starts_per_second=account.starts_per_second or rules.starts_per_second,
        opens_per_second=account.opens_per_second or rules.opens_per_second or limits.opens_per_second,
    )


def cautions(settings: Settings, processes: int, streams: int) -> list[str]:
    """What an operator should know of these sizes before a thousand jobs tell it; a sentence each."""
    limits = policy(settings, streams)
    said = []
    if limits.lendable < streams:
        said.append(
            f"{streams} jobs run at once in a process and {limits.lendable} of them can stream; the others wait. Raise "
            "RECOGNITION_OBJECTPOOL_SIZE, DASHSCOPE_CONNECTION_POOL_SIZE and DASHSCOPE_MAXIMUM_ASYNC_REQUESTS, "
            "or lower the concurrency (-c)."
        )
    if limits.min_size > MANY * with_spare(streams):
        said.append(
            f"Each of {processes} processes keeps {limits.min_size} recognisers for {streams} jobs at once; "
            f"{with_spare(streams)} are enough: lower RECOGNITION_OBJECTPOOL_SIZE, or leave it out."
        )
    at_once, starts = processes * min(streams, limits.lendable), settings.quota.starts_per_second
    if at_once > starts:
        said.append(
            f"{at_once} jobs can begin at once, and an account may start {starts:g} in a second: if all come together, "
            f"the last begins after {at_once / starts:.0f} seconds. If your account may start more, raise "
            "STENOPOOL_QUOTA_STARTS_PER_SECOND."
        )
    opens = min(allowance(settings, one, limits).opens_per_second for one in settings.accounts()) / OPEN_MARGIN
    needed = processes * limits.min_size / limits.max_unused
    if opens < needed:
        said.append(
            f"{processes * limits.min_size} recognisers that wait for jobs take {needed:.1f} connections a second, and "
            f"all workers together open {opens:.1f} for an account: raise STENOPOOL_QUOTA_OPENS_PER_SECOND (or the "
            "account's own `opens_per_second`), or keep fewer."
        )
    return said


def _opens_per_second(pool: PoolSettings, kept: int, unused: float) -> float:
    """Enough to replace each idle recogniser before the service gives it up, with as much again to spare."""
    needed = kept / unused
    if pool.opens_per_second is None:
        return max(WARM_UPS_PER_SECOND if pool.warm_up_model else OPENS_PER_SECOND, 2 * needed)
    if pool.opens_per_second < needed:
        raise SettingsError(
            f"STENOPOOL_POOL_OPENS_PER_SECOND={pool.opens_per_second:g} cannot keep {kept} recognisers warm, of which "
            f"each is replaced after {unused:g} seconds without a job; raise it to {2 * needed:.1f}, or lower "
            "RECOGNITION_OBJECTPOOL_SIZE"
        )
    return pool.opens_per_second
