"""Asks a model several things at the same time, and each as often as may help."""

import heapq
import random
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from typing import Protocol

from tasks.errors import JobError, Refused, Unavailable
from tasks.stream import translated
from tasks.text.answers import Answers, digest_of
from worker.generation import Answer, Caller, Lost, Prompt, Reply, decode
from worker.recognition import DeadlinePassed
from worker.stops import Stop, Stopped

TRIES = 3
"""Of one request within an attempt."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 8.0
"""Seconds at most before the second try, doubled before each further one; full jitter."""

PATIENCE = 20.0
"""Seconds. When the service asks for a longer pause, the job waits for that in the queue and not in a worker."""

TRYING = 60.0
"""Seconds after which an attempt sends nothing a second time: a model that does not answer keeps a worker waiting."""

LOOK_EVERY = 0.5
"""Seconds after which a job that waits looks whether it is to stop."""


class Asked(Protocol):
    """Who begins a request: the process's client of text models."""

    def begin(self, prompt: Prompt, caller: Caller, *, alone: bool, patience: float) -> "Future[Reply] | None": ...


class Asking:
    """One attempt's requests. `deadline` is in monotonic seconds."""

    def __init__(self, asked: Asked, caller: Caller, answers: Answers, stop: Stop, deadline: float) -> None:
        self._asked = asked
        self._caller = caller
        self._answers = answers
        self._stop = stop
        self._deadline = deadline
        self._begun = time.monotonic()
        self._error: JobError | None = None
        self._due: list[tuple[float, int, str]] = []
        self._under_way: dict[Future[Reply], tuple[str, int]] = {}
        self._prompts: dict[str, Prompt] = {}

    def __repr__(self) -> str:
        return f"<Asking {len(self._under_way)} under way, {len(self._due)} to come>"

    def answers(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """The answers to these, in their order. What was answered in an earlier attempt is not asked again.

        Raises:
            JobError: one of them has failed for good, or too often. The others that were under way have been waited
                for, if another attempt may need them.
            Stopped: the job is to stop; at once, or when what was under way has come.
        """
        digests = [digest_of(prompt.encode()) for prompt in prompts]
        self._prompts = dict(zip(digests, prompts, strict=True))
        self._due = [(0.0, 0, digest) for digest in self._prompts if self._answers.find(digest) is None]
        heapq.heapify(self._due)
        alone = len(self._due) == 1
        try:
            while self._due or self._under_way:
                self._stop.linger(0)
                if self._may_begin():
                    self._begin(alone)
                self._take()
            if self._error is not None:
                raise self._error
        finally:
            for future in self._under_way:
                future.cancel()
            self._under_way.clear()
        return [answer for answer in map(self._answers.find, digests) if answer is not None]

    def _may_begin(self) -> bool:
        """Whether another request may be sent. When none may and none is under way, it is over."""
        try:
            if time.monotonic() > self._deadline:
                raise Refused(DeadlinePassed.code, str(DeadlinePassed()))
            if self._error is not None:
                raise self._error
            self._stop.check()
        except (JobError, Stopped):
            if self._under_way and (self._error is None or self._error.retryable):
                return False
            raise
        return True

    def _begin(self, alone: bool) -> None:
        """Send what is due, as long as there is room. Who has nothing under way may wait for some."""
        while self._due and self._due[0][0] <= time.monotonic():
            _, tries, digest = self._due[0]
            patience = 0.0 if self._under_way else LOOK_EVERY
            with translated():
                future = self._asked.begin(self._prompts[digest], self._caller, alone=alone, patience=patience)
            if future is None:
                return
            heapq.heappop(self._due)
            self._under_way[future] = (digest, tries + 1)

    def _take(self) -> None:
        """Wait a moment for answers, and take those that have come."""
        pause = max(0.0, min(LOOK_EVERY, self._due[0][0] - time.monotonic())) if self._due else LOOK_EVERY
        if not self._under_way:
            return self._stop.wait(pause)
        ended, _ = wait(self._under_way, timeout=pause or LOOK_EVERY, return_when=FIRST_COMPLETED)
        for future in ended:
            digest, tries = self._under_way.pop(future)
            try:
                with translated():
                    answer = decode(_reply(future), self._prompts[digest])
            except JobError as error:
                self._failed(digest, tries, error)
            else:
                self._answers.keep(digest, answer)

    def _failed(self, digest: str, tries: int, error: JobError) -> None:
        asked = (isinstance(error, Unavailable) and error.retry_after) or 0.0
        tried = tries >= TRIES or time.monotonic() - self._begun > TRYING
        if not error.retryable or tried or asked > PATIENCE:
            self._error = self._error if self._error and not self._error.retryable else error
            return
        pause = asked + random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (tries - 1)))
        heapq.heappush(self._due, (time.monotonic() + pause, tries, digest))


def _reply(future: "Future[Reply]") -> Reply:
    try:
        return future.result()
    except CancelledError:  # the process closes its connections
        raise Lost from None
