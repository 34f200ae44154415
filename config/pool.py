"""How many recognisers a process keeps, how it makes them, and for how long it keeps them."""

from pydantic import model_validator

from config.group import Group, setting

SERVICE_IDLE_LIMIT = 60.0
"""Seconds after which the service closes a connection without a task (vendor's high-concurrency guide)."""

MOST_RECOGNIZERS = 10_000
"""Of one process; above what one process can stream."""


class PoolSettings(Group):
    """How many recognisers a process keeps, how it makes them, and for how long it keeps them."""

    size: int | None = setting(
        "RECOGNITION_OBJECTPOOL_SIZE",
        None,
        "a whole number from 1 to 10000",
        "Recognisers that a process keeps warm (a prefork child is a process). "
        "Default: the jobs it runs at once, one more, and one more for each ten.",
        ge=1,
        le=MOST_RECOGNIZERS,
    )
    connections: int | None = setting(
        "DASHSCOPE_CONNECTION_POOL_SIZE",
        None,
        "a whole number from 1 to 10000, at least RECOGNITION_OBJECTPOOL_SIZE",
        "Most connections of a process. What it has beyond RECOGNITION_OBJECTPOOL_SIZE is opened when all are lent and "
        "closed on return. Default: RECOGNITION_OBJECTPOOL_SIZE.",
        ge=1,
        le=MOST_RECOGNIZERS,
    )
    streams: int | None = setting(
        "DASHSCOPE_MAXIMUM_ASYNC_REQUESTS",
        None,
        "a whole number from 1 to 10000, at most DASHSCOPE_CONNECTION_POOL_SIZE",
        "Most jobs of a process that stream at the same time; others wait. Default: no limit but the connections. "
        "And most requests to text models under way at once, of all jobs of a process; default: 32.",
        ge=1,
        le=MOST_RECOGNIZERS,
    )
    streams_per_host: int | None = setting(
        "DASHSCOPE_MAXIMUM_ASYNC_REQUESTS_PER_HOST",
        None,
        "a whole number from 1 to 10000, at most DASHSCOPE_MAXIMUM_ASYNC_REQUESTS",
        "The same for each host of the service. A process has one host, so the smaller of the two counts.",
        ge=1,
        le=MOST_RECOGNIZERS,
    )
    idle_time: float = setting(
        "DASHSCOPE_CONNECTION_IDLE_TIME",
        50.0,
        "seconds, more than 0 and less than 60",
        "An idle recogniser older than this is replaced. The service closes an idle connection after 60 seconds.",
        gt=0,
        lt=SERVICE_IDLE_LIMIT,
    )
    unused_time: float = setting(
        "STENOPOOL_POOL_UNUSED_TIME",
        20.0,
        "seconds, more than 0 and less than 60",
        "The same for one that has served no job yet: the service has been seen to give up such connections earlier.",
        gt=0,
        lt=SERVICE_IDLE_LIMIT,
    )
    lifetime: float = setting(
        "STENOPOOL_POOL_LIFETIME",
        1800.0,
        "seconds, more than 0",
        "A connection older than this is replaced when it is idle.",
        gt=0,
    )
    waiting: int | None = setting(
        "STENOPOOL_POOL_WAITING",
        None,
        "a whole number, 0 or more",
        "Most jobs of a process that wait for a recogniser at once. Default: 1000, or as many as it runs at once if "
        "that is more.",
        ge=0,
    )
    lease_timeout: float = setting(
        "STENOPOOL_POOL_TIMEOUT",
        300.0,
        "seconds, more than 0",
        "Longest wait of a job for a recogniser, before it is tried again later.",
        gt=0,
    )
    openers: int | None = setting(
        "STENOPOOL_POOL_OPENERS",
        None,
        "a whole number from 1 to 64",
        "Connections that a process opens at the same time. Default: half of those that it opens in a second.",
        ge=1,
        le=64,
    )
    opens_per_second: float | None = setting(
        "STENOPOOL_POOL_OPENS_PER_SECOND",
        None,
        "a number from 0.1 to 1000",
        "Connections that a process opens in a second. Default: 20 (2 with a warm-up model), or more where it takes "
        "more to keep all warm.",
        ge=0.1,
        le=1000,
    )
    spread: float = setting(
        "STENOPOOL_POOL_WARM_SPREAD",
        2.0,
        "seconds, from 0 to 60",
        "A process begins to warm at a random moment within this time, so that many that start together do not connect "
        "together. A job does not wait for it.",
        ge=0,
        le=60,
    )
    warm_up_model: str | None = setting(
        "STENOPOOL_POOL_WARM_UP_MODEL",
        None,
        "a model's name",
        "Each new recogniser first hears a second of a tone with this model, which the account pays for. "
        "None: the handshake is enough.",
    )

    @property
    def most_streams(self) -> int | None:
        """How many jobs may stream at once; None for no limit of its own."""
        return min(filter(None, (self.streams, self.streams_per_host)), default=None)

    @model_validator(mode="after")
    def _ordered(self) -> "PoolSettings":
        """The constraints of the vendor's guides on these sizes. What is not given is as large as it may be."""
        kept = ("RECOGNITION_OBJECTPOOL_SIZE", self.size)
        connections = ("DASHSCOPE_CONNECTION_POOL_SIZE", self.connections) if self.connections else kept
        streams = ("DASHSCOPE_MAXIMUM_ASYNC_REQUESTS", self.streams) if self.streams else connections
        per_host = ("DASHSCOPE_MAXIMUM_ASYNC_REQUESTS_PER_HOST", self.streams_per_host)
        for (smaller, value), (larger, bound) in ((kept, connections), (streams, connections), (per_host, streams)):
            if value and bound and value > bound:
                rule = f"{smaller}={value} must not be above {larger}={bound}"
                raise ValueError(f"{rule}; raise the second or lower the first")
        return self
