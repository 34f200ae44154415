"""Drills that hit all pools at once, because they all hang on it: Redis, the service itself."""

import functools
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import redis

from emulator.stack import is_listening
from tests.faults.board import Board
from tests.faults.scene import Scene
from tests.faults.table import Row
from tests.faults.traces import Job

Damage = Callable[[Scene], None]
Together = Callable[[Sequence[Scene], str], list[Row]]
"""One drill of several pools: does the damage once, and tells what came of each pool's jobs."""


def struck(
    scenes: Sequence[Scene], fault: str, *, damage: Damage, seconds: tuple[float, ...], **judging: Any
) -> list[Row]:
    """Each pool has jobs of these lengths under way when the damage is done, solo the first of them only."""
    jobs = under_way(scenes, seconds)
    hit_at = time.time()
    damage(scenes[0])
    return [scene.row(fault, given, {job.id: hit_at for job in given}, **judging) for scene, given in jobs.items()]


def under_way(scenes: Sequence[Scene], seconds: tuple[float, ...]) -> dict[Scene, list[Job]]:
    """Send the jobs and wait until each has a sentence."""
    for scene in scenes:
        scene.hire_up_to(1)
    for scene in scenes:
        scene.crew()
    jobs = {scene: scene.sent(*(seconds[:1] if scene.pool == "solo" else seconds)) for scene in scenes}
    for scene, given in jobs.items():
        scene.until(functools.partial(_are_under_way, scene, given), "a sentence of each job")
    return jobs


def _are_under_way(scene: Scene, jobs: Sequence[Job]) -> bool:
    return all(map(scene.traces.heard, jobs))


def emulator_restarted(scenes: Sequence[Scene], fault: str) -> list[Row]:
    """Its logbook is gone with it, so it is read just before."""
    jobs = under_way(scenes, (5, 5))
    stack, hit_at = scenes[0].stack, time.time()
    earlier = scenes[0].traces.tasks({job.id for given in jobs.values() for job in given})
    stack.emulator.stop(timeout=0.0)
    stack.start_emulator().wait_until(is_listening)
    lost = [{**task, "ended": task["ended"] or hit_at, "outcome": "lost"} for task in earlier]
    return [
        scene.row(fault, given, {job.id: hit_at for job in given}, earlier=of_jobs(lost, given))
        for scene, given in jobs.items()
    ]


def of_jobs(tasks: Sequence[Mapping[str, Any]], jobs: Sequence[Job]) -> list[Mapping[str, Any]]:
    ids = {job.id for job in jobs}
    return [task for task in tasks if task["parameters"]["marker"] in ids]


def cut(scene: Scene) -> None:
    """Every connection to Redis at once: those of the broker, of the jobs and of the results."""
    with redis.Redis.from_url(scene.stack.redis_url) as client:
        for kind in ("normal", "pubsub"):
            client.client_kill_filter(_type=kind, skipme=True)


def hung(scene: Scene, seconds: float) -> None:
    """Connections stand, and nothing is answered."""
    valkey = scene.stack.valkey.pid
    os.kill(valkey, signal.SIGSTOP)
    try:
        scene.pause(seconds)
    finally:
        os.kill(valkey, signal.SIGCONT)


def stopped(scene: Scene, seconds: float) -> None:
    """It has written down what it holds, and begins with it again."""
    scene.stack.valkey.stop()
    scene.pause(seconds)
    scene.stack.start_valkey().wait_until(scene.stack.valkey_answers)


def emptied(scene: Scene) -> None:
    """It begins with nothing."""
    scene.stack.valkey.stop()
    scene.stack.start_valkey("--host", "127.0.0.1").wait_until(scene.stack.valkey_answers)


OF_REDIS: Final[Mapping[str, Together]] = {
    "upstream: emulator restarted": emulator_restarted,
    "Redis: CLIENT KILL of all connections": functools.partial(struck, damage=cut, seconds=(5, 5)),
    "Redis: hung for 5 s": functools.partial(struck, damage=functools.partial(hung, seconds=5), seconds=(9, 4)),
    "Redis: stopped for 5 s": functools.partial(struck, damage=functools.partial(stopped, seconds=5), seconds=(9, 4)),
    "Redis: restarted empty": functools.partial(struck, damage=emptied, seconds=(5, 5), forgotten=True),
}

OF_LONG_OUTAGE: Final[Mapping[str, Together]] = {
    "Redis: stopped for 60 s": functools.partial(
        struck, damage=functools.partial(stopped, seconds=60), seconds=(70, 6)
    ),
}


def together(board: Board, scenes: Sequence[Scene], chapters: Mapping[str, Together]) -> None:
    """One drill after the other, each for all pools for which it is wanted."""
    for fault, chapter in chapters.items():
        wanted = [scene for scene in scenes if board.wants(fault, scene.pool)]
        if not wanted:
            continue
        with board.giving([fault], [scene.pool for scene in wanted]):
            for row in chapter(wanted, fault):
                board.put(row)
