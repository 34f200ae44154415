"""Drills that end workers, or their children: another goes on from the last finished sentence."""

import os
import signal
import time
from collections.abc import Callable
from typing import Final

from tests.faults.board import Chapters
from tests.faults.scene import DRAIN, Scene
from tests.faults.table import Row
from tests.faults.traces import Job

TRIES: Final = 3
"""How often a job may kill its child or its worker: its first try and two more."""

EXIT_GRACE: Final = 1.5
"""Seconds beyond the limit that a machine busy with other drills may take to end a process."""

HANDED_OVER: Final = 0.3
"""Seconds in which Redis has given a message to a waiting connection, if it does so."""


def same_id_five_times(scene: Scene, fault: str) -> Row:
    """Two workers are given the same job, five times at once."""
    scene.crew(2)
    job = scene.job(4)
    scene.send(job, copies=5)
    row = scene.row(fault, [job])
    return row.but(f"{row.streams + 1} streams instead of one") if row.streams else row


def worker_killed(scene: Scene, fault: str) -> Row:
    """In the middle of a sentence. Its other jobs are hit, too; those of the other worker are not."""
    scene.crew(2)
    jobs = scene.sent(5, 5)
    scene.until(lambda: scene.traces.heard(jobs[1]), "a sentence")
    scene.reach_mid_sentence(jobs[0], 2)
    return struck(scene, fault, jobs)


def worker_told_to_quit(scene: Scene, fault: str) -> Row:
    """SIGQUIT, or a second Ctrl-C: it leaves at once."""
    scene.crew(2)
    jobs = scene.sent(5)
    scene.reach_mid_sentence(jobs[0], 2)
    return struck(scene, fault, jobs, signal.SIGQUIT)


def worker_killed_in_its_first_second(scene: Scene, fault: str) -> Row:
    """As soon as it says that the job runs."""
    scene.crew(2)
    jobs = scene.sent(4)
    scene.until(lambda: scene.traces.state(jobs[0]) == "running", "it runs", every=0.003)
    return struck(scene, fault, jobs)


def worker_killed_in_its_last_second(scene: Scene, fault: str) -> Row:
    """All audio was sent and all sentences have come, only the service has not yet said that it is done."""
    scene.crew(2)
    job = scene.job(4)
    scene.fault(job, kind="no_task_finished", at="finish")
    scene.send(job)
    scene.until(lambda: scene.traces.heard(job) == 4, "all sentences", every=0.01)
    return struck(scene, fault, [job])


def struck(scene: Scene, fault: str, jobs: list[Job], by: signal.Signals = signal.SIGKILL) -> Row:
    """End the worker of the first job; what it had is taken over by the other."""
    victim = scene.runner(jobs[0])
    hit = [job for job in jobs if scene.runner(job) is victim]
    killed_at = scene.dismiss(victim, by)
    scene.hire()  # for the next drill: its start takes as long as this one lasts
    return scene.row(fault, jobs, {job.id: killed_at for job in hit})


def frozen(scene: Scene, fault: str) -> Row:
    """The worker stands still until another has taken its job over, then wakes up and knows nothing of it."""
    scene.crew(2)
    (job,) = scene.sent(8)
    scene.reach_mid_sentence(job, 2)
    victim, frozen_at = scene.runner(job), time.time()
    os.killpg(victim.pid, signal.SIGSTOP)
    try:
        scene.until(lambda: scene.traces.heard(job) >= 4, "another goes on")
    finally:
        os.killpg(victim.pid, signal.SIGCONT)
    return scene.row(fault, [job], {job.id: frozen_at})


def drained(scene: Scene, fault: str) -> Row:
    """SIGTERM: the worker stops its jobs after a sentence, gives them back and ends; the other goes on."""
    scene.crew(2)
    jobs = scene.sent(8, 8)
    scene.until(lambda: all(scene.traces.heard(job) >= 1 for job in jobs), "sentences")
    victim = scene.runner(jobs[0])
    hit = [job for job in jobs if scene.runner(job) is victim]
    told_at = scene.dismiss(victim, signal.SIGTERM)
    ended = scene.holds(lambda: not victim.running, DRAIN + EXIT_GRACE)
    took = time.time() - told_at
    complaints = [] if ended else [f"{victim.name} has not ended {took:.1f} s after SIGTERM"]
    if ended and (code := victim.stop()) != 0:
        complaints.append(f"{victim.name} has ended with exit code {code} after SIGTERM")
    return scene.row(fault, jobs, {job.id: told_at for job in hit}, complaints=complaints)


def killed_at_the_door(scene: Scene, fault: str) -> Row:
    """Idle workers that are killed in the instant in which a job comes, before they have looked at it.

    They stand still meanwhile, so that the instant lasts for as long as Redis needs to give a message to a connection.
    """
    scene.crew()
    for worker in scene.workers:
        os.kill(worker.pid, signal.SIGSTOP)
    (job,) = scene.sent(2)
    scene.pause(HANDED_OVER)
    for worker in list(scene.workers):
        scene.dismiss(worker)
    scene.hire()
    return scene.row(fault, [job])


OF_WORKERS: Final[Chapters] = {
    "same job id sent five times": same_id_five_times,
    "worker killed in mid-stream": worker_killed,
    "worker ended by SIGQUIT": worker_told_to_quit,
    "worker killed in its first second": worker_killed_in_its_first_second,
    "worker killed in its last second": worker_killed_in_its_last_second,
    "worker frozen until another has its job": frozen,
    "worker drained by SIGTERM": drained,
    "idle worker killed as a job comes": killed_at_the_door,
}


def child_killed(scene: Scene, fault: str) -> Row:
    scene.crew()
    jobs = scene.sent(5)
    scene.reach_mid_sentence(jobs[0], 2)
    return scene.row(fault, jobs, {jobs[0].id: bereft(scene)})


def child_killed_in_its_first_second(scene: Scene, fault: str) -> Row:
    scene.crew()
    jobs = scene.sent(4)
    scene.until(lambda: scene.traces.state(jobs[0]) == "running", "it runs", every=0.003)
    return scene.row(fault, jobs, {jobs[0].id: bereft(scene)})


def child_poisoned(scene: Scene, fault: str) -> Row:
    return poisoned(scene, fault, lambda: bereft(scene))


def worker_poisoned(scene: Scene, fault: str) -> Row:
    def replaced() -> None:
        scene.dismiss(scene.workers[0])
        scene.hire()

    return poisoned(scene, fault, replaced)


def poisoned(scene: Scene, fault: str, kill: Callable[[], object]) -> Row:
    """A job that kills each time before a sentence has come. It has to fail at last, and not go round."""
    scene.crew()
    job, deaths = scene.job(4, expected="failed"), 0
    scene.send(job)
    while deaths < 2 * TRIES and runs_again(scene, job, deaths):
        kill()
        deaths += 1
    row = scene.row(fault, [job])
    if deaths != TRIES:
        row = row.but(f"it has killed {deaths} times instead of {TRIES}")
    return row if scene.traces.record(job).get("error_code") else row.but("no error code says why it failed")


def runs_again(scene: Scene, job: Job, times: int) -> bool:
    """Wait until a job has begun more often than this; False when it has failed instead."""
    scene.until(
        lambda: scene.traces.states(job).count("running") > times or scene.traces.state(job) == "failed",
        "it runs or fails",
    )
    return scene.traces.state(job) != "failed"


def bereft(scene: Scene) -> float:
    """Kill a worker's only child. Returns when that was."""
    (child,) = scene.children(scene.workers[0])
    os.kill(child, signal.SIGKILL)
    return time.time()


OF_CHILDREN: Final[Chapters] = {
    "child killed in mid-stream": child_killed,
    "child killed in its first second": child_killed_in_its_first_second,
    "job that kills its child each time": child_poisoned,
}

OF_POISON: Final[Chapters] = {"job that kills its worker each time": worker_poisoned}
