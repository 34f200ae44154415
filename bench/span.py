"""What an act costs, however long it takes; and what a process of its own has to say of it."""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from bench.rig import Rig, Subject
from bench.window import Window, idle_seconds, session_seconds
from emulator.stack import NotReady, Process

STOP_TIMEOUT = 5.0


def span(it: Rig, subject: Subject, act: Callable[[], object]) -> Window:
    """Measure the act as `Subject.window` measures a span of time."""
    core, leader = it.cores.measured, subject.process.pid
    it.load.reset()
    began, idle, cpu = time.monotonic(), idle_seconds(core), session_seconds(leader)
    act()
    took, idled, used = time.monotonic() - began, idle_seconds(core) - idle, session_seconds(leader) - cpu
    figures = it.load.figures()
    return Window(seconds=took, core_seconds=max(0.0, took - idled), process_seconds=used, figures=figures)


def answer(process: Process, timeout: float) -> Any:
    """The line of JSON that a process has printed by its end. Raises `NotReady` when it fails or is too slow."""
    until = time.monotonic() + timeout
    while process.running and time.monotonic() < until:
        time.sleep(0.05)
    code, output = process.stop(STOP_TIMEOUT), process.output
    if code:
        raise NotReady(f"{process.name} failed. The end of its output:\n{output[-2000:]}")
    return json.loads(next(line for line in output.splitlines() if line.startswith("{")))


def middle(values: Sequence[float]) -> tuple[float, float]:
    """The median, and the half of the distance between the extremes as a part of it."""
    found = statistics.median(values)
    return found, (max(values) - min(values)) / 2 / found if found else 0.0
