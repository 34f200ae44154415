"""What a worker tells of its recognisers when it is asked, and what it is told to do.

    inspect recognizers            figures of each process
    inspect stats                  some rows more, which Flower shows on the worker's page
    control resize_recognizers N   keep N in the process
    control drain                  leave the jobs to other workers, and end
    control revoke ID ...          cancel jobs; `terminate` is the same

Answered by the main process. Under threads, gevent and solo it holds the recognisers itself; under prefork each child
holds its own and reports to Redis, where the main process reads it.

Celery's own `revoke` lets a running job go on, or, with `terminate`, ends its process, or fails, by the pool. A job of
ours looks for a key in Redis, while it runs and before it begins, and so ends itself in the same way in every pool.
"""

import logging
from collections.abc import Sequence
from typing import Any

import redis
from celery import Celery
from celery.bootsteps import StartStopStep
from celery.platforms import EX_OK
from celery.worker import state as celery_state
from celery.worker.control import control_command, inspect_command

from config.pool import MOST_RECOGNIZERS
from config.settings import SettingsError, settings
from worker import drain, runtime
from worker.beat import impatient
from worker.ear import Ear
from worker.ending import DrainLimit
from worker.handback import HandBack
from worker.intake import Intake
from worker.jobs import JOB_ID, cancel_key
from worker.lifecycle import PREFORK, SOLO, kind_of
from worker.report import Report, Reports, process_name, together
from worker.sizing import resized
from worker.slots import FreeSlots
from worker.upkeep import Upkeep
from worker.visibility import Visibility

HURRY = 0.4
"""Seconds for Redis: nothing else is done meanwhile, and `celery inspect` gives up on a worker after one second."""

IDS = "[id1 [id2 [... [idN]]]]"

Reply = dict[str, Any]

log = logging.getLogger("worker")


class RecognizerFigures(StartStopStep):
    """Rows for `inspect stats`. Nothing starts or stops here, but only such steps are asked."""

    def info(self, obj: Any) -> dict[str, int | float | str]:  # type: ignore[override]
        """Flat, because Flower shows a nested value as raw text."""
        try:
            found = reports(obj)
        except redis.RedisError:
            return {}
        return rows(found) if found else {}


class SoloEar(StartStopStep):
    """Hears `revoke` in a worker whose main process does the jobs."""

    def include_if(self, parent: Any) -> bool:
        return kind_of(parent) == SOLO

    def create(self, parent: Any) -> Any:
        return Ear(parent.app, parent.hostname, cancelled)


def install(app: Celery) -> None:
    """Give the app's workers what they have beyond Celery's; the commands are known to it by this file's import.

    Which imports Celery's own commands first, so that those of the same name are replaced whoever imports what when.
    """
    app.steps["worker"].update([RecognizerFigures, DrainLimit, SoloEar, Upkeep])
    app.steps["consumer"].update([FreeSlots, HandBack, Intake, Visibility])


@inspect_command()
def recognizers(state: Any, **_: Any) -> Reply:
    """Figures of the recognisers of each process."""
    try:
        found = reports(state.consumer.controller)
    except redis.RedisError as error:
        return {"error": f"Redis, to which the processes report, does not answer ({type(error).__name__})"}
    return {**found} or {"error": "no process has reported yet; ask again in a second"}


@control_command(args=[("size", None)], signature="N")
def resize_recognizers(state: Any, size: object = None, **_: Any) -> Reply:
    """Keep N recognisers in the process (threads, gevent, solo)."""
    if kind_of(state.consumer.controller) == PREFORK:
        return {"error": "each prefork child holds its own recognisers; set RECOGNITION_OBJECTPOOL_SIZE and restart"}
    house = runtime.made()
    if house is None:
        return {"error": "no recogniser has been made yet; ask again in a second"}
    if not str(size).isdecimal() or not 1 <= int(str(size)) <= MOST_RECOGNIZERS:
        return {"error": f"give the number of recognisers to keep, from 1 to {MOST_RECOGNIZERS}"}
    try:
        kept, most = resized(house.settings, house.accounts.all[0].pool.policy, int(str(size)))
    except SettingsError as error:
        return {"error": str(error)}
    for account in house.accounts.all:
        account.pool.resize(min_size=kept, max_size=most)
    return {"ok": f"keeps {kept} recognisers, opens at most {most}"}


@control_command(name="drain")
def end(state: Any, **_: Any) -> Reply:
    """Take no more jobs, leave those that run to other workers, and end."""
    drain.drain.begin()
    celery_state.should_stop = EX_OK  # type: ignore[assignment]  # looked at when this answer is on its way
    return {"ok": f"takes no more jobs, and has ended within {settings().job.drain:g} seconds; other workers go on"}


@control_command(variadic="task_id", signature=IDS)
def revoke(state: Any, task_id: object = None, **_: Any) -> Reply:
    """Cancel jobs: those that run end within seconds, those that wait when it is their turn."""
    return cancelled(task_id)


@control_command(variadic="task_id", args=[("signal", str)], signature=f"<signal> {IDS}")
def terminate(state: Any, task_id: object = None, **_: Any) -> Reply:
    """The same as revoke; no signal is sent."""
    return cancelled(task_id)


def cancelled(ids: object) -> Reply:
    """Cancel these jobs, whoever runs them, and say how that went."""
    given = ids if isinstance(ids, list | tuple | set) else [ids]
    named = [one for one in given if isinstance(one, str) and JOB_ID.fullmatch(one)]
    if not named:
        return {"error": "give the ids of the jobs to cancel"}
    try:
        note_cancelled(named)
    except redis.RedisError as error:
        return {"error": f"Redis, where jobs look for it, does not answer ({type(error).__name__}); ask again"}
    log.info("cancelled by command: %d jobs", len(named))
    others = len(given) - len(named)
    return {"ok": f"jobs cancelled: {len(named)}" + (f"; ids that no job can have: {others}" if others else "")}


def note_cancelled(job_ids: Sequence[str]) -> None:
    """Connects for this once: a kept socket would be inherited by a fork. Raises redis.RedisError."""
    client = impatient(settings().redis.url, HURRY)
    try:
        with client.pipeline(transaction=False) as pipeline:
            for job_id in job_ids:
                pipeline.set(cancel_key(job_id), "revoked", ex=settings().job.ttl)
            pipeline.execute()
    finally:
        client.close()


def reports(worker: Any) -> dict[str, Report]:
    """By process. Empty when none has anything to tell yet. Raises redis.RedisError."""
    house = runtime.made()
    if house is not None and house.reporter is not None:
        return {house.reporter.process.name: house.reporter.report() | {"age": 0.0}}
    return of_children(worker) if kind_of(worker) == PREFORK else {}


def of_children(worker: Any) -> dict[str, Report]:
    """What the living children have reported. Connects for this once: a kept socket would be inherited by a fork."""
    board = Reports.at(settings().redis.url, HURRY)
    try:
        return board.read(process_name(worker.hostname, pid) for pid in worker.pool.info["processes"])
    finally:
        board.close()


def rows(found: dict[str, Report]) -> dict[str, int | float | str]:
    """All processes of a worker as one, under names for people."""
    whole: dict[str, Any] = together(found.values())
    return {
        "recognizers leased": whole["leased"],
        "recognizers idle": whole["idle"],
        "recognizers opening": whole["opening"],
        "recognizers waiting": whole["waiting"],
        "recognizers max": whole["most_leased"],
        "recognizers created": whole["created"],
        "recognizers reused": whole["reused"],
        "recognizers discarded": whole["discarded"],
        "recognizers borrow p95 ms": round(1000 * whole["borrow_seconds_p95"], 1),
        "recognizers connect p95 ms": round(1000 * whole["connect_seconds_p95"], 1),
        "recognizers limits": whole["limits"] or "none",
        "quota slots": whole.get("quota_slots", 0),
        "quota waiting": whole.get("quota_waiting", 0),
    }
