"""Why a job ended without a transcript.

JobError                the sentence and the code that the user gets
├── BadInput            the request or the recording is wrong
├── Refused             the service will not do it: the key, the account, the model, the parameters
└── Unavailable         something outside failed; trying again may help
"""

from typing import ClassVar


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
    """Raised when the network, the service or a server was at fault."""

    retryable: ClassVar[bool] = True
