"""What happened since the pool was made."""

import collections

from worker.pool.entry import Reason

EVENTS = (
    "created",
    "overflow",
    "leases",
    "reused",
    "fresh",
    "waits",
    "timeouts",
    "rejected",
    "open_failures",
    "returned_late",
)
DURATIONS = ("borrow_seconds", "use_seconds", "connect_seconds")
RECENT = 512
"""How many of the newest durations the percentiles are taken of."""


class Duration:
    """One kind of duration: sum and largest of all, median and 95th percentile of the recent ones."""

    def __init__(self) -> None:
        self._total = 0.0
        self._max = 0.0
        self._recent: collections.deque[float] = collections.deque(maxlen=RECENT)

    def took(self, seconds: float) -> None:
        self._total += seconds
        self._max = max(self._max, seconds)
        self._recent.append(seconds)

    def figures(self) -> dict[str, float]:
        ranked = sorted(self._recent) or [0.0]
        return {
            "total": self._total,
            "max": self._max,
            "p50": ranked[len(ranked) // 2],
            "p95": ranked[len(ranked) * 95 // 100],
        }


class Counters:
    """Sums that only grow, and durations."""

    def __init__(self) -> None:
        self._events = dict.fromkeys(EVENTS, 0)
        self._ends = dict.fromkeys(Reason, 0)
        self._durations = {name: Duration() for name in DURATIONS}

    def add(self, event: str) -> None:
        self._events[event] += 1

    def ended(self, reason: Reason) -> None:
        self._ends[reason] += 1

    def took(self, duration: str, seconds: float) -> None:
        self._durations[duration].took(seconds)

    def figures(self) -> dict[str, int | float]:
        ends = {"retired": 0, "discarded": 0}
        for reason, count in self._ends.items():
            ends[reason.word] += count
            ends[f"{reason.word}_{reason.value}"] = count
        times = {
            f"{name}_{kind}": value
            for name, duration in self._durations.items()
            for kind, value in duration.figures().items()
        }
        return {**self._events, **ends, **times}
