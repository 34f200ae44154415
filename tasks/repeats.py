"""A job whose work another has done: by its key, or because the recording and all that is asked of it are the same."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tasks.errors import JobError
from tasks.job.twins import same
from tasks.track import Work


class Repeats:
    """One job's. `check` is asked while a recording is read, and may raise."""

    def __init__(self, work: Work, check: Callable[[], None]) -> None:
        self._work = work
        self._check = check
        self._keys: list[str] = []

    def result(self) -> dict[str, Any] | None:
        """What the first such job has found; None: it is this one.

        Raises:
            UnderWay: the first is at work.
            JobError: the recording cannot be read, or Redis not be asked.
        """
        request = self._work.request
        if request.idempotency_key is not None:
            found = self._first(same("key", request.tenant, request.idempotency_key))
            if found is not None:
                return found
        if request.deduplicate:
            content = self._work.house.digest(self._work.reference, self._check)
            found = self._first(same("content", request.tenant, request.work(), content))
            return found and self._as_ours(found)
        return None

    def keep(self) -> None:
        """The job's result is there. That it is forgotten too early would cost another transcript, no more."""
        with suppress(JobError):
            for key in self._keys:
                self._work.house.twins.keep(key, self._work.record.job_id)

    def _first(self, key: str) -> dict[str, Any] | None:
        found = self._work.house.twins.result(key, self._work.record.job_id)
        if found is None:
            self._keys.append(key)
        return found

    def _as_ours(self, found: dict[str, Any]) -> dict[str, Any]:
        """The same transcript, for which nothing was sent this time."""
        work = self._work
        return found | {
            "job_id": work.record.job_id,
            "audio": work.reference.shown,
            "usage": found["usage"] | {"sent_ms": 0, "streams": 0},
            "timing": work.watch.timing() | {"reused_connection": False},
            "attempts": work.attempt,
            "resumes": 0,
            "metadata": work.request.metadata,
        }
