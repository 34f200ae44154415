"""What happened since the pool was made."""

from worker.pool.entry import Reason

EVENTS = ("created", "reused", "leases", "waits", "timeouts", "rejected", "open_failures", "returned_late")
DURATIONS = ("wait_seconds", "connect_seconds")


class Counters:
    """Sums that only grow, and the largest value of each duration."""

    def __init__(self) -> None:
        self._events = dict.fromkeys(EVENTS, 0)
        self._ends = dict.fromkeys(Reason, 0)
        self._durations = {f"{name}_{kind}": 0.0 for name in DURATIONS for kind in ("total", "max")}

    def add(self, event: str) -> None:
        self._events[event] += 1

    def ended(self, reason: Reason) -> None:
        self._ends[reason] += 1

    def took(self, duration: str, seconds: float) -> None:
        self._durations[f"{duration}_total"] += seconds
        self._durations[f"{duration}_max"] = max(self._durations[f"{duration}_max"], seconds)

    def figures(self) -> dict[str, int | float]:
        ends = {"retired": 0, "discarded": 0}
        for reason, count in self._ends.items():
            ends[reason.word] += count
            ends[f"{reason.word}_{reason.value}"] = count
        return {**self._events, **ends, **self._durations}
