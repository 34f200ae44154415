"""Says of a job, from what it left behind, whether anything was lost or done twice. Reads nothing itself.

The recordings count up in their samples and the emulator answers with what it heard, so that each sentence proves by
its text where in the recording it belongs: nothing can be missing, twice or shifted unseen.
"""

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

RATE: Final = 16_000
SENTENCE_MS: Final = 1000
ENDED: Final = frozenset({"succeeded", "failed", "cancelled"})
GRACE: Final = 0.3
"""Seconds of audio that a stream may get after the next has begun: it was on its way, or in a frozen worker's hand."""

Place = tuple[int, int, str]
"""A sentence: begin and end in milliseconds, text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What one job has left behind. Times are Unix seconds.

    `events` are (time, type, data), `tasks` the emulator's, `celery` is what the result backend holds. With `hit_at`
    the job was hit then, whatever its streams say. `forgotten` says that Redis has lost what it held before.
    """

    job_id: str
    seconds: float
    expected: str = "succeeded"
    celery: Mapping[str, Any] | None = None
    record: Mapping[str, str] = field(default_factory=dict)
    sentences: Sequence[Mapping[str, Any]] = ()
    events: Sequence[tuple[float, str, Mapping[str, Any]]] = ()
    tasks: Sequence[Mapping[str, Any]] = ()
    hit_at: float | None = None
    forgotten: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Why a job is lost, why it is doubled, and what the fault has cost it. `streams` are those beyond the first."""

    job_id: str
    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    again: float
    streams: int
    takeover: float | None


def told(seconds: float) -> list[Place]:
    """The sentences of a recording that counts up, when every sample is heard once and in order."""
    samples, step = round(seconds * RATE), RATE * SENTENCE_MS // 1000
    return [_place(first, min(first + step, samples)) for first in range(0, samples, step)]


def _place(first: int, end: int) -> Place:
    return first * 1000 // RATE, math.floor(end * 1000 / RATE), f"{first % 65_536}-{(end - 1) % 65_536}"


def judge(evidence: Evidence) -> Verdict:
    """All that speaks against the job, and its cost."""
    return Verdict(
        job_id=evidence.job_id,
        lost=tuple(_lost(evidence)),
        doubled=tuple(_doubled(evidence)),
        again=max(0.0, sum(task["audio_bytes"] for task in evidence.tasks) / (2 * RATE) - evidence.seconds),
        streams=max(0, len(evidence.tasks) - 1),
        takeover=max(_takeovers(evidence), default=None),
    )


# -- lost --------------------------------------------------------------------------------------------------------------


def _lost(evidence: Evidence) -> Iterator[str]:
    state = evidence.record.get("state", "missing")
    if state != evidence.expected:
        yield f"ended {state} instead of {evidence.expected}: {evidence.record.get('error_code', 'no error code')}"
    whole, kept = told(evidence.seconds), _places(evidence.sentences)
    if evidence.expected != "succeeded":
        yield from _differ("list", kept, whole[: len(kept)])
        if evidence.celery is None:
            yield "Celery knows no result"
        return
    result = _result(evidence)
    yield from _differ("list", kept, whole)
    yield from _differ("result", _places(result.get("sentences", ())), whole)
    if result.get("text") != " ".join(text for _, _, text in whole):
        yield f"the result's text is {result.get('text')!r}"
    finals = _finals(evidence)
    yield from _differ("events", finals, whole[len(whole) - len(finals) :] if evidence.forgotten else whole)


def _result(evidence: Evidence) -> Mapping[str, Any]:
    """What the client is given; empty when it is no transcript."""
    if evidence.celery is None or evidence.celery.get("status") != "SUCCESS":
        return {}
    result: Mapping[str, Any] = evidence.celery["result"]
    return result


def _differ(where: str, found: list[Place], whole: list[Place]) -> Iterator[str]:
    """How the sentences differ from what they have to be, the first three ways."""
    if found != whole:
        missing = [f"{place} is missing" for place in whole if place not in found]
        strange = [f"{place} does not belong there" for place in found if place not in whole]
        reasons = missing + strange or ["their order or number is wrong"]
        yield f"{where}: {'; '.join(reasons[:3])}{f' and {len(reasons) - 3} more' if reasons[3:] else ''}"


# -- doubled -----------------------------------------------------------------------------------------------------------


def _doubled(evidence: Evidence) -> Iterator[str]:
    result = _result(evidence)
    yield from _repeated("result", _places(result.get("sentences", ())))
    yield from _repeated("list", _places(evidence.sentences))
    yield from _repeated("events", _finals(evidence))
    ends = [data["state"] for _, kind, data in evidence.events if kind == "state" and data["state"] in ENDED]
    if len(ends) > 1:
        yield f"told its end {len(ends)} times: {', '.join(ends)}"
    if result and "result" in evidence.record and json.loads(evidence.record["result"]) != result:
        yield "has two different results, one of Celery and one in its record"
    yield from _overlapping(evidence.tasks)


def _repeated(where: str, places: list[Place]) -> Iterator[str]:
    """Sentences that come twice, or begin before the last one has ended."""
    for before, after in itertools.pairwise(sorted(places)):
        if after[0] < before[1]:
            yield f"{where}: {after} {'comes twice' if after == before else f'overlaps {before}'}"


def _overlapping(tasks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Streams of one job that took audio at the same time, and those that have not ended."""
    heard = sorted((task for task in tasks if task["chunks"]), key=lambda task: float(task["began"]))
    for before, after in itertools.pairwise(heard):
        late = sum(size for at, size in before["chunks"] if at > after["chunks"][0][0]) / (2 * RATE)
        if late > GRACE:
            yield f"stream {before['task_id']} took {late:.1f} s of audio after {after['task_id']} had begun"
    for task in tasks:
        if task["ended"] is None:
            yield f"stream {task['task_id']} still runs"


# -- cost --------------------------------------------------------------------------------------------------------------


def _takeovers(evidence: Evidence) -> Iterator[float]:
    """Seconds from each hit to the next sign of life: a new sentence, or the end."""
    signs = [at for at, kind, data in evidence.events if kind == "final" or data.get("state") in ENDED]
    for hit, over in _hits(evidence):
        if after := [at for at in signs if at > over]:
            yield min(after) - hit


def _hits(evidence: Evidence) -> Iterator[tuple[float, float]]:
    """When something happened to the job, and from when on a sign of life is one."""
    if evidence.hit_at is not None:
        yield evidence.hit_at, evidence.hit_at
        return
    for task in evidence.tasks:
        if task["outcome"] not in ("finished", "running"):
            # One that fell silent ended only when its client gave it up: it was lost when the last audio came.
            last = task["chunks"][-1][0] if task["chunks"] else task["began"]
            yield last, task["ended"]


def _finals(evidence: Evidence) -> list[Place]:
    return _places(data for _, kind, data in evidence.events if kind == "final")


def _places(sentences: Iterable[Mapping[str, Any]]) -> list[Place]:
    return [(one["begin_time"], one["end_time"], one["text"]) for one in sentences]
