import json
import subprocess
import sys

import pytest

from worker.descriptors import SPARE, allow, needed, system

TRY = """
import json, resource, sys
from worker.descriptors import allow, system
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(json.dumps([allow(wanted, system()), *resource.getrlimit(resource.RLIMIT_NOFILE)]))
"""


@pytest.mark.parametrize(
    ("children", "connections", "descriptors"), [(0, 1, 2), (0, 2500, 5000), (200, 2, 1600), (1, 2, 8)]
)
def test_a_stream_needs_two_and_a_parent_eight_for_each_child(
    children: int, connections: int, descriptors: int
) -> None:
    assert needed(children, connections) == descriptors + SPARE


def tried(soft: int, hard: int, wanted: int) -> tuple[str | None, int, int]:
    """What is said, and the limits after it, in a process with these limits."""
    command = [sys.executable, "-c", TRY, str(soft), str(hard), str(wanted)]
    said, left, most = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    return said, left, most


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "left"),
    [(256, 1000, 255, 256), (256, 1000, 256, 256), (256, 1000, 257, 257), (256, 1000, 1000, 1000)],
)
def test_a_limit_that_is_too_low_is_raised_to_what_is_needed(soft: int, hard: int, wanted: int, left: int) -> None:
    assert tried(soft, hard, wanted) == (None, left, hard)


def test_where_the_system_allows_fewer_it_takes_them_all_and_says_so() -> None:
    said, left, _ = tried(256, 1000, 1001)
    assert left == 1000
    assert said is not None and said.startswith(
        "This worker needs up to 1001 open files and sockets in a process, and the system allows 1000: "
    )


class Refusing:
    """A system whose real limit is below the one that it tells, as macOS."""

    RLIMIT_NOFILE, RLIM_INFINITY = 7, -1

    def getrlimit(self, resource: int, /) -> tuple[int, int]:
        return 256, self.RLIM_INFINITY

    def setrlimit(self, resource: int, limits: tuple[int, int], /) -> None:
        raise ValueError("current limit exceeds maximum limit")


def test_a_limit_that_cannot_be_raised_is_told() -> None:
    said = allow(300, Refusing())
    assert said is not None and "the system allows 256:" in said


class Unlimited(Refusing):
    def getrlimit(self, resource: int, /) -> tuple[int, int]:
        return self.RLIM_INFINITY, self.RLIM_INFINITY


def test_without_limits_there_is_nothing_to_do() -> None:
    assert allow(10**6, Unlimited()) is None
    assert allow(10**6, None) is None


def test_a_system_without_limits_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    assert system() is None
