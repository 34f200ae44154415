"""The use case, top to bottom: lease -> parts -> requests at the same time -> one text -> result."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

from config.settings import JobSettings
from tasks.errors import BadInput, JobError, NotEnded, Unavailable, Withdrawn
from tasks.text.answers import Answers, Cancelled, Claimed, Held, digest_of
from tasks.text.asking import Asked, Asking
from tasks.text.cut import cut, joined
from tasks.text.request import GenerateRequest
from tasks.track import pause
from worker.beat import Pulse
from worker.generation import Answer, Caller
from worker.stops import Cancelled as Revoked
from worker.stops import LeaseLost, Stop, Stopped

MOST_ROUNDS = 5
"""Of `reduce`. With parts of 6,000 characters and answers of 1,500, three are enough for a million."""

MOST_DOUBLINGS = 20
"""Of the pause between two tries, which has its own limit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class House:
    """What a job uses of the process that it runs in, and by which rules. `caller` finds an account by its name.

    `watch` lets the process's heartbeat speak for the job, and ask it to stop; `explain` says what an exception means
    that nobody foresaw.
    """

    rules: JobSettings
    asked: Asked
    caller: Callable[[str | None], Caller]
    watch: Callable[[str, Stop, Pulse], AbstractContextManager[None]]
    explain: Callable[[Exception], JobError]


def run(request: GenerateRequest, job_id: str, answers: Answers, house: House, tries: int) -> dict[str, Any]:
    """Ask about the whole text and return the result as the interface describes it. `tries` came before this one.

    Raises:
        JobError: why there is no answer, and will be none.
        NotEnded: another attempt goes on.
        Withdrawn: it was cancelled.
    """
    caller = house.caller(request.account)
    try:
        claim = answers.claim()
    except Unavailable as error:
        raise NotEnded(random.uniform(1, 5), error) from None
    match claim:
        case Held():  # a second delivery of the message: it stays, in case the holder dies
            raise NotEnded(claim.seconds + random.uniform(0.1, 1.0))
        case Cancelled():
            raise Withdrawn
    return Attempt(request, job_id, answers, house, claim, tries).run(caller)


class Attempt:
    """One worker's work on a job that it has claimed."""

    def __init__(
        self, request: GenerateRequest, job_id: str, answers: Answers, house: House, claim: Claimed, tries: int
    ) -> None:
        self._request = request
        self._job_id = job_id
        self._answers = answers
        self._house = house
        self._claim = claim
        self._tries = min(tries, MOST_DOUBLINGS)
        self._stop = Stop()
        self._begun = time.monotonic()
        self._deadline = self._begun + house.rules.deadline - claim.elapsed
        self._heard: dict[str, Answer] = {}

    def run(self, caller: Caller) -> dict[str, Any]:
        """See the function of this name."""
        with self._house.watch(self._answers.keys.cancel, self._stop, self._answers.pulse(self._stop)), self._leaving():
            self._check_claim()
            parts = self._parts(self._request.text)
            asking = Asking(self._house.asked, caller, self._answers, self._stop, self._deadline)
            text = self._merged(asking, parts)
        self._answers.leave("ended")
        return self._result(len(parts), text)

    def _check_claim(self) -> None:
        tries = self._claim.fruitless - 1
        if tries > self._house.rules.retries:
            raise JobError(
                "worker_lost",
                f"The worker was lost each time that it had begun this job, {tries} times without a new answer; check "
                "the worker's memory.",
            )

    def _parts(self, text: str) -> list[str]:
        """None of a text that says nothing, such as the transcript of a silent recording."""
        return cut(text, self._request.part_chars) if text.strip() else []

    def _merged(self, asking: Asking, parts: list[str]) -> str:
        """The answers as one text; with `reduce` by asking the same of the answers, until there is one."""
        for _ in range(MOST_ROUNDS):
            said = [answer.text for answer in self._answered(asking, parts)]
            if len(parts) < 2 or self._request.merge == "join":
                return joined(parts, said)
            text = "\n\n".join(one.strip() for one in said)
            if len(text) >= sum(map(len, parts)):
                break
            parts = self._parts(text)
        raise BadInput(
            "answers_too_long",
            "The answers about the parts do not get shorter, so there is no answer about the whole: ask for a shorter "
            "one, raise part_chars, or set merge to join.",
        )

    def _answered(self, asking: Asking, parts: list[str]) -> list[Answer]:
        prompts = [self._request.prompt(part) for part in parts]
        found = asking.answers(prompts)
        # Under a digest: what is the same is asked, and paid for, once.
        self._heard |= zip((digest_of(prompt.encode()) for prompt in prompts), found, strict=True)
        return found

    def _result(self, parts: int, text: str) -> dict[str, Any]:
        heard = self._heard.values()
        # The text comes last: what Celery shows of a result is its beginning.
        return {
            "job_id": self._job_id,
            "model": self._request.model,
            "parts": parts,
            "requests": len(heard),
            "truncated": sum(answer.is_cut for answer in heard),
            "usage": {
                "input_tokens": sum(answer.input_tokens for answer in heard),
                "output_tokens": sum(answer.output_tokens for answer in heard),
            },
            "timing": {"wall_ms": round(1000 * (time.monotonic() - self._begun))},
            "metadata": self._request.metadata,
            "text": text,
        }

    # -- how it is left ------------------------------------------------------------------------------------------------

    @contextmanager
    def _leaving(self) -> Iterator[None]:
        """What ends the block also ends the attempt, and the caller learns how."""
        try:
            yield
        except LeaseLost:
            # Whoever has the job now may hold the very message that we are about to acknowledge: one has to stay.
            raise NotEnded(self._answers.lease) from None
        except Revoked:
            self._answers.leave("ended")
            raise Withdrawn from None
        except Stopped:
            self._answers.leave("spared")
            raise NotEnded(0) from None
        except JobError as error:
            self._fail(error)
        except Exception as error:
            self._fail(self._house.explain(error))

    def _fail(self, error: JobError) -> NoReturn:
        """Leave it to another attempt, if one may help and there has not been too much of that in vain; else end it."""
        rules = self._house.rules
        vain = self._claim.fruitless if not self._answers.is_new else 0
        is_general = isinstance(error, Unavailable) and error.is_general
        if error.retryable and (is_general or vain <= rules.retries):
            self._answers.leave("spared" if is_general else "counted")
            raise NotEnded(pause(self._tries, error, rules), error) from None
        self._answers.leave("ended")
        raise error from None
