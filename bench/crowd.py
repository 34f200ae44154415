"""Many job threads on one pool, each running short jobs back to back, of which every tenth is broken off."""

import itertools
import math
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from bench.audio import MODEL, PARAMETERS, chunks
from worker.pool import Pool, PoolError
from worker.recognition import Event, Final, Partial, RecognitionError, Recognizer

BREAK_EVERY = 10
SENTENCE_MS = 500  # two results each, so that a chunk has two fifths of one
TIMEOUT = 30.0


@dataclass(slots=True)
class Outcome:
    """What the jobs of one crowd met; `cpu` is this process's part of `seconds`."""

    borrows: list[float] = field(default_factory=list)  # from ask to lent
    errors: list[str] = field(default_factory=list)  # what ended a job that nobody broke off
    broken: int = 0
    seconds: float = 0.0
    cpu: float = 0.0


class Crowd:
    """`size` threads. Job number ten, twenty and so on stop listening in the middle, as a cancelled job does.

    A job lasts half of `job_seconds` to one and a half of it, so that they do not march in step.
    """

    def __init__(self, pool: Pool[Recognizer], size: int, job_seconds: float = 1.0) -> None:
        self._pool = pool
        self._size = size
        self._lengths = round(5 * job_seconds), round(15 * job_seconds)
        self._audio = chunks(self._lengths[1], pace=1.0)
        self._numbers = itertools.count(1)
        self._over = threading.Event()
        self._outcome = Outcome()

    def work(self, seconds: float) -> Outcome:
        """Let them work so long, and finish what they have begun."""
        threads = [threading.Thread(target=self._jobs, args=(seed,), daemon=True) for seed in range(self._size)]
        began, cpu = time.monotonic(), time.process_time()
        try:
            for thread in threads:
                thread.start()
            self._over.wait(seconds)
        finally:  # interrupted: they end with the process
            self._over.set()
        for thread in threads:
            thread.join(TIMEOUT)
        self._outcome.seconds, self._outcome.cpu = time.monotonic() - began, time.process_time() - cpu
        self._outcome.broken = (next(self._numbers) - 1) // BREAK_EVERY
        return self._outcome

    def _jobs(self, seed: int) -> None:
        chance = random.Random(seed)
        self._over.wait(chance.random() * self._lengths[0] / 5)  # not all in the same moment
        while not self._over.is_set():
            number, length = next(self._numbers), chance.randint(*self._lengths)
            try:
                self._job(length, max(1, length // 5) if number % BREAK_EVERY == 0 else math.inf)
            except (PoolError, RecognitionError) as exc:
                self._outcome.errors.append(type(exc).__name__)

    def _job(self, length: int, most: float) -> None:
        """Run a task of `length` chunks; stop listening after `most` results."""
        asked = time.monotonic()
        with self._pool.lease(TIMEOUT, borrower="crowd") as recognizer:
            self._outcome.borrows.append(time.monotonic() - asked)
            task = recognizer.transcribe(
                model=MODEL, parameters=PARAMETERS, chunks=self._audio[:length], deadline=asked + 2 * TIMEOUT
            )
            listen(task, most)


def listen(task: Iterator[Event], most: float) -> None:
    """To the end, or until so many results have come."""
    heard = 0
    for event in task:
        heard += isinstance(event, Partial | Final)
        if heard >= most:
            return
