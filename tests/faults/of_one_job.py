"""Drills that hit one job and leave its worker, its neighbours and Redis alone; so they all happen at once."""

import time
from typing import Any, Final

from tests.faults.board import Chapters
from tests.faults.scene import Scene
from tests.faults.table import Row
from tests.faults.web import AudioServer
from tests.recordings import counting, written

CONCURRENCY: Final = {"prefork": 4, "threads": 24, "gevent": 24, "solo": 1}

LONG: Final = 150.0
"""Seconds to wait for a job: under solo it comes after all others."""

UPSTREAM: Final[dict[str, dict[str, Any]]] = {
    "upstream: TCP cut": {"kind": "abort", "after_ms": 1500},
    "upstream: half-open": {"kind": "silent", "after_ms": 1500},
    "upstream: truncated frame": {"kind": "truncated_frame", "after_ms": 1500},
    "upstream: task-failed in mid-stream": {"kind": "task_failed", "value": "InternalError", "after_ms": 1500},
    "upstream: close 1007": {"kind": "close", "value": 1007, "after_ms": 1500},
    "upstream: close 1011": {"kind": "close", "value": 1011, "after_ms": 1500},
    "upstream: never task-started": {"kind": "no_task_started"},
    "upstream: never task-finished": {"kind": "no_task_finished", "at": "finish"},
}


def upstream(scene: Scene, fault: str) -> Row:
    """The service does to each job's first stream what the fault says."""
    seconds = 7 if "half-open" in fault else 4  # it takes that long to notice
    jobs = [scene.job(seconds) for _ in range(1 if scene.pool == "solo" else 2)]
    for job in jobs:
        scene.fault(job, **UPSTREAM[fault])
    scene.send(*jobs)
    return scene.row(fault, jobs, timeout=LONG)


def audio_server_gone(scene: Scene, fault: str) -> Row:
    """The audio's server vanishes in mid-download and is back three seconds later."""
    scene.crew()
    job, path = scene.job(6), written(scene.audio, counting(6))
    with AudioServer(scene.audio) as web:
        scene.send(job, audio=web.url(path))
        scene.until(lambda: scene.traces.heard(job) >= 2, "two sentences", LONG)
        gone_at = time.time()
        web.vanish()
        scene.pause(3)
        web.come_back()
        return scene.row(fault, [job], {job.id: gone_at}, timeout=LONG)


def cancelled(scene: Scene, fault: str) -> Row:
    """The job's key is set, as the interface says."""
    job = scene.job(20, expected="cancelled")
    scene.send(job)
    scene.until(lambda: scene.traces.heard(job) >= 1, "a sentence", LONG)
    asked_at = time.time()
    scene.redis.set(f"{job.key}:cancel", "1", ex=600)
    return scene.row(fault, [job], {job.id: asked_at}, timeout=LONG)


def revoked(scene: Scene, fault: str) -> Row:
    """Celery's own way to say it."""
    job = scene.job(20, expected="cancelled")
    scene.send(job)
    scene.until(lambda: scene.traces.heard(job) >= 1, "a sentence", LONG)
    asked_at = time.time()
    scene.client.control.revoke(job.id, terminate=True)
    return scene.row(fault, [job], {job.id: asked_at}, timeout=LONG)


OF_ONE_JOB: Final[Chapters] = {
    **dict.fromkeys(UPSTREAM, upstream),
    "cancelled by its key": cancelled,
    "revoked with terminate": revoked,
}

# Played by itself: the job goes back to the queue, and must not have to wait there for others.
OF_AUDIO: Final[Chapters] = {"audio server gone for 3 s": audio_server_gone}
