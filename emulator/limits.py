"""What the emulated service allows: timers, rates of starts and upgrades, streams at once, models."""

import collections
import math
from dataclasses import dataclass

__all__ = ["Admission", "Limits"]

RATE_WINDOW_SECONDS = 1.0

# A name that ends in "*" stands for every model that begins so.
KNOWN_MODELS = ("paraformer-realtime-*", "fun-asr-*", "gummy-*", "qwen-audio-*-streaming")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The service's rules; None switches a rule off.

    Times are seconds. The defaults are the service's documented numbers: a connection is dropped 60 s after its last
    task, a task fails after 23 s without data or 60 s of silent audio, and 20 tasks may start per second.
    `penalty_seconds` is how long all starts, or all upgrades, are refused after one that came over its rate.
    """

    idle_seconds: float | None = 60.0
    no_data_seconds: float | None = 23.0
    silence_seconds: float | None = 60.0
    first_task_seconds: float | None = None
    heartbeat_seconds: float = 10.0
    starts_per_second: int | None = 20
    opens_per_second: int | None = None
    penalty_seconds: float | None = None
    max_streams: int | None = None
    close_code: int = 1000
    queue_chunks: int = 64
    models: tuple[str, ...] = KNOWN_MODELS

    def __post_init__(self) -> None:
        for name in (
            "idle_seconds",
            "no_data_seconds",
            "silence_seconds",
            "first_task_seconds",
            "heartbeat_seconds",
            "penalty_seconds",
        ):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name}={value} must be greater than 0")
        for name in ("starts_per_second", "opens_per_second", "max_streams", "queue_chunks"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise ValueError(f"{name}={count} must be at least 1")

    def knows(self, model: str) -> bool:
        """Whether the service has a model of this name."""
        return any(_matches(pattern, model) for pattern in self.models)


def _matches(pattern: str, model: str) -> bool:
    head, star, tail = pattern.partition("*")
    if not star:
        return model == pattern
    return model.startswith(head) and model.endswith(tail) and len(model) > len(head) + len(tail)


class Gate:
    """Lets `rate` through in any second. One too many shuts it for the penalty, if there is one."""

    def __init__(self, rate: int | None, penalty_seconds: float | None) -> None:
        self._rate = rate
        self._penalty_seconds = penalty_seconds or 0.0
        self._shut_until = -math.inf
        # Only those let through are kept: if refused ones counted too, an eager client would lock itself out for ever.
        self._passed: collections.deque[float] = collections.deque()

    def opens(self, now: float) -> bool:
        """Whether one more may pass. A refusal begins a penalty; one during a penalty does not prolong it."""
        while self._passed and self._passed[0] <= now - RATE_WINDOW_SECONDS:
            self._passed.popleft()
        if now < self._shut_until:
            return False
        if self._rate is None or len(self._passed) < self._rate:
            return True
        self._shut_until = now + self._penalty_seconds
        return False

    def passed(self, now: float) -> None:
        self._passed.append(now)


class Admission:
    """Counts starts and upgrades per second, and streams at once. Knows no connection and has no clock of its own.

    The service counts submissions for each account and model; streams at once, and upgrades, are counted for each
    account.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._starts: dict[tuple[str, str], Gate] = collections.defaultdict(
            lambda: Gate(limits.starts_per_second, limits.penalty_seconds)
        )
        self._upgrades: dict[str, Gate] = collections.defaultdict(
            lambda: Gate(limits.opens_per_second, limits.penalty_seconds)
        )
        self._streams: collections.Counter[str] = collections.Counter()

    def connect(self, account: str, now: float) -> bool:
        """Whether an upgrade asked for at `now` (monotonic seconds) is granted."""
        gate = self._upgrades[account]
        if not gate.opens(now):
            return False
        gate.passed(now)
        return True

    def enter(self, account: str, model: str, now: float) -> str | None:
        """Let a task start at `now` (monotonic seconds), or say by an error code why not."""
        gate = self._starts[account, model]
        if not gate.opens(now):
            return "Throttling.RateQuota"
        if self._limits.max_streams is not None and self._streams[account] >= self._limits.max_streams:
            return "Throttling.Concurrency"
        gate.passed(now)
        self._streams[account] += 1
        return None

    def leave(self, account: str) -> None:
        """A stream that was let in is over."""
        self._streams[account] -= 1
