"""What can go wrong when a text model is asked: the errors of recognition, where they say the same.

The account, the key and the codes are those of one service, so a user shall read the same word for the same thing.
"""

from worker.recognition import (
    AccessDenied,
    ConnectFailed,
    ConnectionLost,
    InvalidRequest,
    NoDataTimeout,
    NoSpeech,
    NotFound,
    OutOfStep,
    RecognitionError,
    RemoteProtocolError,
    ServerFault,
    ServiceError,
    SilenceTimeout,
    Throttled,
    Unauthorized,
    UnsupportedAudio,
    UpstreamSilent,
)
from worker.recognition.refusals import refusal as known

OF_AUDIO = (ConnectionLost, NoDataTimeout, NoSpeech, OutOfStep, SilenceTimeout, UnsupportedAudio)
"""What only a stream can be refused for; a text that is refused by the same code is refused for something else."""

ECHO = 16
"""So many characters in a row that were in the text are no accident."""


class Unreachable(ConnectFailed):
    """Raised when no connection came about."""

    advice = "The text models cannot be reached: check the network and DASHSCOPE_HTTP_BASE_URL"


class Lost(ConnectionLost):
    """Raised when the connection ended before the answer did."""

    advice = "The connection to the text model was lost: try again"


class Unanswered(UpstreamSilent):
    """Raised when the answer did not come in time."""

    advice = (
        "The text model did not answer in time: try again, send smaller parts, or raise STENOPOOL_GENERATION_TIMEOUT"
    )


class Garbled(RemoteProtocolError):
    """Raised for a reply that is no answer."""

    advice = "The text model's answer cannot be read: try again, and check DASHSCOPE_HTTP_BASE_URL when it stays so"


def refusal(status: int, code: str, message: str, *, retry_after: float | None, asked: str) -> RecognitionError:
    """The error for a reply that says no. It quotes the service, unless that quotes what it was `asked`."""
    error = known(code, "" if echoes(message, asked) else message)
    detail = error.detail or f"HTTP {status}"
    if status == 429 or isinstance(error, Throttled):
        return Throttled(detail, retry_after)
    if status >= 500 or status == 408:
        return ServerFault(detail, retry_after)
    if status == 200:
        return error
    if isinstance(error, (ServerFault, *OF_AUDIO)) or type(error) is ServiceError:
        return _by_status(status)(detail)
    return error


def echoes(message: str, asked: str) -> bool:
    """Whether the message repeats a piece of what was asked, which nobody else may read."""
    length = min(ECHO, len(asked.strip()))
    return any(message[at : at + length] in asked for at in range(len(message) - length + 1))


def _by_status(status: int) -> type[RecognitionError]:
    """No redirect is followed, as the key would go along: what answers so is not where we look."""
    astray = NotFound if status == 404 or status < 400 else InvalidRequest
    return {401: Unauthorized, 403: AccessDenied}.get(status, astray)
