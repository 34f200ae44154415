"""Processes on the cores that they were given."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.pin import Cores, pinned

TELL = """
import json, os, resource
print(json.dumps([*os.sched_getaffinity(0), *resource.getrlimit(resource.RLIMIT_NOFILE)]))
"""


def test_the_first_core_is_measured_and_all_else_has_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5, 2, 3})
    cores = Cores.of_this_process()
    assert cores == Cores(measured=2, rest=frozenset({3, 5}))
    assert "core 2" in cores.note() and "3, 5" in cores.note()


def test_a_machine_of_one_core_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {7})
    cores = Cores.of_this_process()
    assert cores == Cores(measured=7, rest=frozenset({7}))
    assert "only one core" in cores.note()


def test_who_measures_stands_aside_and_comes_back() -> None:
    before = os.sched_getaffinity(0)
    cores = Cores.of_this_process()
    with cores.stand_aside():
        assert os.sched_getaffinity(0) == cores.rest
    assert os.sched_getaffinity(0) == before


def test_a_pinned_command_has_its_core_and_all_the_files_it_may_open() -> None:
    core = min(os.sched_getaffinity(0))
    ran = subprocess.run(
        pinned([sys.executable, "-c", TELL], [core]), capture_output=True, cwd=Path(__file__).parents[2], timeout=30
    )
    only, soft, hard = json.loads(ran.stdout)
    assert (only, soft) == (core, hard)
