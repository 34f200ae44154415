import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from celery.apps import worker as celery_worker
from celery.signals import worker_shutting_down

from config.settings import Settings
from tests.fakes import FakeClock
from worker import drain, ending, lifecycle
from worker.drain import Drain
from worker.ending import DrainLimit, leave_after

Given = Callable[..., Settings]


@pytest.fixture
def draining(monkeypatch: pytest.MonkeyPatch) -> Drain:
    """The drain of a worker that has just begun to work; this process goes on being none that ends."""
    monkeypatch.setattr(drain, "drain", Drain())
    return drain.drain


# -- the moment --------------------------------------------------------------------------------------------------------


def test_a_worker_is_not_ending_until_it_is_told_to() -> None:
    clock = FakeClock()
    draining = Drain(clock)
    assert draining.elapsed() is None and repr(draining) == "<Drain not begun>"
    draining.begin()
    assert draining.elapsed() == 0.0
    clock.advance(2.5)
    assert draining.elapsed() == 2.5 and repr(draining) == "<Drain for 2.5 s>"


def test_a_second_begin_keeps_the_first_moment() -> None:
    clock = FakeClock()
    draining = Drain(clock)
    for _ in range(3):
        draining.begin()
        clock.advance(1)
    assert draining.elapsed() == 3.0


def test_a_child_that_was_forked_before_sees_it_begin() -> None:
    draining = Drain()
    parent, child = socket.socketpair()
    with parent, child:
        pid = os.fork()
        if pid == 0:
            before = draining.elapsed()
            child.send(b"looked")
            child.recv(10)
            after = draining.elapsed()
            os._exit(0 if before is None and after is not None and 0 <= after < 60 else 1)
        parent.recv(10)
        draining.begin()
        parent.send(b"begun")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# -- what begins it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "install"),
    [(signal.SIGTERM, "install_worker_term_handler"), (signal.SIGINT, "install_worker_int_handler")],
)
def test_the_signals_that_end_a_worker_begin_it(
    draining: Drain, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, install: str
) -> None:
    monkeypatch.setattr("celery.worker.state.should_stop", None)
    kept = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)}
    try:
        getattr(celery_worker, install)(SimpleNamespace(hostname="celery@h"))
        os.kill(os.getpid(), number)
        assert draining.elapsed() is not None
    finally:
        for one, handler in kept.items():
            signal.signal(one, handler)


def test_every_other_way_to_end_begins_it_when_the_worker_closes(draining: Drain) -> None:
    DrainLimit(None).close(None)
    assert draining.elapsed() is not None


def test_the_wiring_is_that_of_the_lifecycle() -> None:
    assert lifecycle.begin_to_end in [receiver() for _, receiver in worker_shutting_down.receivers]


# -- its end -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [0.0, 100.0])
def test_when_the_time_is_over_the_worker_leaves_with_one_warning(
    caplog: pytest.LogCaptureFixture, late: float
) -> None:
    clock = FakeClock()
    draining = Drain(clock)
    draining.begin()
    clock.advance(29.5 + late)
    left: list[int] = []
    leave_after(draining, 29.5, left.append)
    assert left == [0]
    assert [(one.levelno, one.message) for one in caplog.records] == [
        (logging.WARNING, "jobs that did not stop in time are left; another worker goes on with them")
    ]


def test_it_does_not_leave_before(caplog: pytest.LogCaptureFixture) -> None:
    draining = Drain()
    draining.begin()
    left: list[float | None] = []
    leave_after(draining, 0.1, lambda code: left.append(draining.elapsed()))
    assert len(left) == 1 and left[0] is not None and left[0] >= 0.1


ENDLESS = textwrap.dedent("""
    import threading, time
    from worker.drain import drain
    from worker.ending import DrainLimit
    DrainLimit(None).start(None)
    if {begins}:
        drain.begin()
    print("begun", flush=True)
    threading.Thread(target=time.sleep, args=({seconds},)).start()
""")


def run(begins: bool, seconds: float, limit: float) -> tuple[float, int, str]:
    """How long a process lives whose last thread sleeps so long, its exit code, and what it logs."""
    command = [sys.executable, "-c", ENDLESS.format(begins=begins, seconds=seconds)]
    env = dict(os.environ) | {"STENOPOOL_DRAIN_SECONDS": str(limit)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
        began = time.monotonic()
        _, said = process.communicate(timeout=60)
        return time.monotonic() - began, process.returncode, said


def test_a_worker_that_does_not_end_by_itself_has_left_in_time() -> None:
    lived, code, said = run(begins=True, seconds=50, limit=2)
    assert lived < 25 and code == 0
    assert said == "jobs that did not stop in time are left; another worker goes on with them\n"


@pytest.mark.parametrize("begins", [True, False])
def test_a_worker_that_ends_by_itself_is_held_up_by_nothing(begins: bool) -> None:
    lived, code, said = run(begins, seconds=0.1, limit=50)
    assert lived < 25 and (code, said) == (0, "")


def test_the_limit_is_that_of_the_settings(given: Given) -> None:
    settings: Any = given()
    assert settings.job.drain == 30.0 and ending.LOOK_EVERY == 0.5
