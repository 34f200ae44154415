"""Why a job ended without a transcript, or has not ended yet.

JobError                the sentence and the code that the user gets
├── BadInput            the request or the recording is wrong
├── Refused             the service will not do it: the key, the account, the model, the parameters
└── Unavailable         something outside failed; trying again may help

NotEnded                another attempt will end it: its message has to stay
NotBegun                it waits for quota, and not in a worker
UnderWay                another job does the same work
EndedBefore             an earlier delivery of its message has ended it
Withdrawn               it was cancelled
"""

from typing import Any, ClassVar


class JobError(Exception):
    """One plain sentence for the user and a code for programs.

    `args` is `(code, sentence)`, also after a trip through pickle or JSON, so that a client without our code can read
    both. Neither may hold a key, a query string, credentials or a transcript.
    """

    retryable: ClassVar[bool] = False

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(code, sentence)
        self.code = code
        self.sentence = sentence

    def __str__(self) -> str:
        return f"{self.sentence} [{self.code}]"


class BadInput(JobError):
    """Raised when the request or the recording is at fault."""


class Refused(JobError):
    """Raised when the service declined, and would again."""


class Unavailable(JobError):
    """Raised when the network, the service or a server was at fault. `retry_after`: it asked for so many seconds.

    `is_general`: it is so for all jobs of the account, and no fault of this one, so that the try is not counted.
    """

    retryable: ClassVar[bool] = True
    retry_after: float | None = None
    is_general = False
    is_cut = False
    """The connection broke off, which may have been the service's end or only this connection's."""


class NotEnded(Exception):
    """Raised when a job is left to another attempt.

    `seconds` says when that may begin; 0: at once, elsewhere. `error` is why this one failed; None: it did not.
    """

    def __init__(self, seconds: float, error: JobError | None = None) -> None:
        super().__init__(seconds, error)
        self.seconds = seconds
        self.error = error


class NotBegun(Exception):
    """Raised when the account's quota had no room for the job within its time. `place` is where it stood in line."""

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.place = place


class UnderWay(Exception):
    """Raised when another job does the same work, and has not ended."""


class EndedBefore(Exception):
    """Raised when there is nothing left to do: the job's stored `result`, or the `error` that it failed with."""

    def __init__(self, result: dict[str, Any] | None, error: JobError) -> None:
        super().__init__()
        self.result = result
        self.error = error


class Withdrawn(Exception):
    """Raised when a job was cancelled."""
