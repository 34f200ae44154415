"""A job whose work another has done: by its key, or because the recording and all that is asked of it are the same."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tasks.errors import JobError
from tasks.job.twins import same
from tasks.track import Work
from worker.script import Value


class Repeats:
    """One job's. `content` tells its recording from others, if an earlier attempt has read it. `check` is asked while a
    recording is read, and may raise.
    """

    def __init__(self, work: Work, check: Callable[[], None], content: str = "") -> None:
        self._work = work
        self._check = check
        self._content = content
        self._was_read_before = content != ""
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
            if not self._was_read_before:
                self._content = self._digest()
                self._work.record.note(content=self._content)
            found = self._first(same("content", request.tenant, request.work(), self._content), self._content)
            return found and self._as_ours(found)
        return None

    def confirmed(self) -> dict[str, Value]:
        """What is to be noted with the result of this job's own work.

        A recording that an earlier attempt has read may have been another when it was heard. Then nobody else may have
        what came of it.
        """
        if not self._was_read_before:
            return {}
        try:
            is_same = self._digest() == self._content
        except JobError:
            is_same = False
        return {} if is_same else {"content": ""}

    def keep(self) -> None:
        """The job's result is there. That it is forgotten too early would cost another transcript, no more."""
        with suppress(JobError):
            for key in self._keys:
                self._work.house.twins.keep(key, self._work.record.job_id)

    def _digest(self) -> str:
        return self._work.house.digest(self._work.reference, self._check)

    def _first(self, key: str, content: str = "") -> dict[str, Any] | None:
        found = self._work.house.twins.result(key, self._work.record.job_id, content)
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
