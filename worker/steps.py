"""What a worker tells of its recognisers when it is asked, and how it is told to keep more or fewer.

    inspect recognizers            figures of each process
    control resize_recognizers N   keep N in the process
    inspect stats                  some rows more, which Flower shows on the worker's page

Answered by the main process. Under threads, gevent and solo it holds the recognisers itself; under prefork each child
holds its own and reports to Redis, where the main process reads it.
"""

from typing import Any

import redis
from celery import Celery
from celery.bootsteps import StartStopStep
from celery.worker.control import control_command, inspect_command

from config.pool import MOST_RECOGNIZERS
from config.settings import SettingsError, settings
from worker import runtime
from worker.lifecycle import PREFORK, kind_of
from worker.report import Report, Reports, process_name, together
from worker.sizing import resized
from worker.slots import FreeSlots

HURRY = 0.4
"""Seconds for Redis: nothing else is done meanwhile, and `celery inspect` gives up on a worker after one second."""

Reply = dict[str, Any]


class RecognizerFigures(StartStopStep):
    """Rows for `inspect stats`. Nothing starts or stops here, but only such steps are asked."""

    def info(self, obj: Any) -> dict[str, int | float | str]:  # type: ignore[override]
        """Flat, because Flower shows a nested value as raw text."""
        try:
            found = reports(obj)
        except redis.RedisError:
            return {}
        return rows(found) if found else {}


def install(app: Celery) -> None:
    """Give the app's workers the rows and what fills slots; the commands are known to Celery by this file's import."""
    app.steps["worker"].add(RecognizerFigures)
    app.steps["consumer"].add(FreeSlots)


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
        kept, most = resized(house.settings, house.pool.policy, int(str(size)))
    except SettingsError as error:
        return {"error": str(error)}
    house.pool.resize(min_size=kept, max_size=most)
    return {"ok": f"keeps {kept} recognisers, opens at most {most}"}


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
    }
