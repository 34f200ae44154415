"""How many files and sockets the process may open: the usual limit of 1,024 holds a few hundred streams."""

from typing import Protocol

SPARE = 256
"""For Redis, logs, libraries."""

FOR_A_STREAM = 2
"""Its connection, and its recording or where that is fetched from."""

FOR_A_CHILD = 8
"""The pipes that a prefork worker keeps to each child."""


class Resource(Protocol):
    """The standard library's `resource`, by shape."""

    RLIMIT_NOFILE: int
    RLIM_INFINITY: int

    def getrlimit(self, resource: int, /) -> tuple[int, int]: ...

    def setrlimit(self, resource: int, limits: tuple[int, int], /) -> None: ...


def needed(children: int, connections: int) -> int:
    """How many descriptors a process with so many connections needs, and the parent of so many children."""
    return max(FOR_A_STREAM * connections, FOR_A_CHILD * children) + SPARE


def system() -> Resource | None:
    """The system's limits; None where it has none that can be read."""
    try:
        import resource
    except ImportError:
        return None
    return resource


def allow(wanted: int, limits: Resource | None) -> str | None:
    """Raise the limit of this process, and of the children that it will have, to what is wanted.

    Returns a sentence for the operator if the system allows fewer.
    """
    if limits is None:
        return None
    soft, hard = limits.getrlimit(limits.RLIMIT_NOFILE)
    if soft == limits.RLIM_INFINITY or soft >= wanted:
        return None
    most = wanted if hard == limits.RLIM_INFINITY else min(wanted, hard)
    try:
        limits.setrlimit(limits.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):  # macOS has another limit below the one that it tells
        most = soft
    if most >= wanted:
        return None
    return (
        f"This worker needs up to {wanted} open files and sockets in a process, and the system allows {most}: "
        "connections beyond that fail. Raise the limit (`ulimit -Hn`, LimitNOFILE of systemd, --ulimit nofile of "
        "Docker), or lower the concurrency (-c)."
    )
