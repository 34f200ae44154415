"""How much and how long."""

from dataclasses import dataclass

REQUESTS = 32
"""The vendor's own default, of requests and of connections."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Sizes are of one process; times in seconds. `timeout` is for a whole request, from the first byte to the last."""

    requests: int = REQUESTS
    requests_per_host: int = REQUESTS
    connect_timeout: float = 10.0
    timeout: float = 300.0
    idle_time: float = 50.0

    @property
    def at_once(self) -> int:
        """Requests under way at the same time. A process asks one host, so the smaller limit counts."""
        return min(self.requests, self.requests_per_host)
