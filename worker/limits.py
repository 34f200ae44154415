"""What holds a process back when it is slower than it could be, and what its operator can do about it. Pure."""

from collections.abc import Iterable

from worker.figures import Figures, number
from worker.recognition.load import LATE, WINDOW

CALM = 60.0
"""Seconds without a limit, after which it counts as gone: one that comes and goes is told once."""

CURES = {
    "quota": (
        f"the account's quota slows this worker (starts refused in {WINDOW:g} s: {{throttled}}, jobs that wait for it: "
        "{quota_waiting}); have the limits raised and tell the workers by STENOPOOL_QUOTA_STREAMS and "
        "STENOPOOL_QUOTA_STARTS_PER_SECOND, or add an account; see: stenopool quota"
    ),
    "bandwidth": (
        "the network slows this worker: {blocked_share:.1%} of the time its streams waited for it to take more audio "
        "(longest {blocked_ms_max:.0f} ms); give the machine more bandwidth, or run fewer jobs on it"
    ),
    "cpu": (
        f"the processor slows this worker: {{late_share:.1%}} of the audio was sent more than {1000 * LATE:g} ms late "
        "(most {late_ms_max:.0f} ms); run fewer jobs in a process (-c), or add processes or machines"
    ),
    "pool": (
        "jobs wait for a recogniser (now waiting: {waiting}, lent: {leased}); "
        "raise {bound}, or run fewer jobs in a process (-c)"
    ),
    "service": (
        "jobs wait and no recogniser can be opened ({last_error}); "
        "see whether service, key and network are well: stenopool doctor"
    ),
}
"""What to say of each limit."""


def most_leased(figures: Figures) -> float:
    """How many recognisers of a process can be lent at once."""
    return min(number(figures, "max_leased"), number(figures, "max_size"))


def limits(figures: Figures, last_error: str, strained: Iterable[str]) -> tuple[str, ...]:
    """The names of what holds the process back: what the streams tell, then what the jobs wait for."""
    held = dict.fromkeys(strained)
    if number(figures, "quota_waiting"):
        held = {"quota": None, **held}
    if figures["waiting"] and last_error:
        held["service"] = None
    elif figures["waiting"] and number(figures, "leased") >= most_leased(figures):
        held["pool"] = None
    return tuple(held)


def cure(limit: str, report: Figures) -> str:
    """A limit and its cure, in a sentence for the operator."""
    by_tasks = number(report, "max_leased") < number(report, "max_size")
    sizes = "RECOGNITION_OBJECTPOOL_SIZE and DASHSCOPE_CONNECTION_POOL_SIZE"
    bound = "DASHSCOPE_MAXIMUM_ASYNC_REQUESTS" if by_tasks else sizes
    return CURES[limit].format_map({**report, "bound": bound, "quota_waiting": number(report, "quota_waiting")})


class Watch:
    """Remembers which limits hold, so that each is told when it comes and when it has gone. Has no clock."""

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}

    def look(self, found: Iterable[str], now: float) -> tuple[list[str], list[str]]:
        """Which limits are new, and which have gone, now that these are found."""
        held = list(found)
        come = [limit for limit in held if limit not in self._seen]
        self._seen |= dict.fromkeys(held, now)
        gone = [limit for limit, seen in self._seen.items() if now - seen >= CALM]
        for limit in gone:
            del self._seen[limit]
        return come, gone
