"""python -m bench.pin CORES COMMAND...: become COMMAND, held to these cores, with as many open files as are allowed.

What is measured has a core to itself; all else of a benchmark shares the others.
"""

import os
import resource
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """The core of what is measured, and those of all else."""

    measured: int
    rest: frozenset[int]

    @classmethod
    def of_this_process(cls) -> "Cores":
        """The first that we may use is the measured one. Exits with a sentence where processes cannot be pinned."""
        if not hasattr(os, "sched_getaffinity"):
            sys.exit("this benchmark pins processes to cores, which needs Linux")
        first, *others = sorted(os.sched_getaffinity(0))
        return cls(measured=first, rest=frozenset(others or [first]))

    def note(self) -> str:
        """Which core did what, for the table."""
        if self.measured in self.rest:
            return f"There was only one core ({self.measured}): load server and Valkey took their part of it."
        rest = ", ".join(map(str, sorted(self.rest)))
        return (
            f"Measured on core {self.measured}; load server, Valkey and the benchmark itself were held to core {rest}."
        )

    @contextmanager
    def stand_aside(self) -> Iterator[None]:
        """Keep the calling process off the measured core meanwhile."""
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self.rest)
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)


def pinned(command: Sequence[str], cores: Iterable[int]) -> list[str]:
    """The same command, held to these cores."""
    return [sys.executable, "-m", "bench.pin", ",".join(map(str, sorted(cores))), *command]


def main() -> None:
    """Become the command."""
    cores, *command = sys.argv[1:]
    os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
