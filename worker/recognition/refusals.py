"""The service's own error codes, texts, close codes and HTTP statuses, each to one class of ours.

The codes are the vendor's, from its error-code pages; the texts are those it documents or third parties recorded. A
text is judged before a code, because the pairing is documented for few of them: "Invalid action('run-task')!" and
"Failed to decode audio" come with codes as vague as `InvalidParameter`.
"""

import re
from collections.abc import Mapping
from typing import Final

from worker.recognition.errors import (
    AccessDenied,
    AccountBlocked,
    ConnectFailed,
    ConnectionLost,
    InvalidRequest,
    NoDataTimeout,
    NoSpeech,
    NotFound,
    OutOfStep,
    RecognitionError,
    ServerFault,
    ServiceError,
    SilenceTimeout,
    Throttled,
    Unauthorized,
    UnknownModel,
    UnsupportedAudio,
)

BY_TEXT: Final[Mapping[str, type[RecognitionError]]] = {
    "invalid action(": OutOfStep,
    "task can not be null": InvalidRequest,
    "failed to decode audio": UnsupportedAudio,
    "no_valid_audio_error": NoSpeech,  # third parties saw it inside the message, too
    "no effective audio received": NoSpeech,
    "requests rate limit exceeded": Throttled,
    "model not found": UnknownModel,
}

# A code that is not here is looked up by its first words: Throttling.RateQuota is a Throttling.
BY_CODE: Final[Mapping[str, type[RecognitionError]]] = {
    "InvalidApiKey": Unauthorized,
    "AccessDenied": AccessDenied,
    "Model.AccessDenied": AccessDenied,
    "Workspace.AccessDenied": AccessDenied,
    "AllocationQuota.FreeTierOnly": AccountBlocked,
    "Arrearage": AccountBlocked,
    "InvalidParameter": InvalidRequest,
    "BadRequest": InvalidRequest,
    "BadRequest.ResourceNotExist": NotFound,
    "ModelNotFound": UnknownModel,
    "model_not_found": UnknownModel,
    "Model.NotExist": UnknownModel,
    "WorkSpaceNotFound": NotFound,
    "NotFound": NotFound,
    "ClientDisconnect": ConnectionLost,
    "Throttling": Throttled,
    "LimitRequests": Throttled,
    "CLIENT_ERROR": NoDataTimeout,
    "ResponseTimeout": SilenceTimeout,
    "RequestTimeOut": SilenceTimeout,
    "NO_VALID_AUDIO_ERROR": NoSpeech,
    "EmptyAudio": NoSpeech,
    "NO_INPUT_AUDIO_ERROR": NoSpeech,
    "UNSUPPORTED_FORMAT": UnsupportedAudio,
    "DECODE_ERROR": UnsupportedAudio,
    "InternalError": ServerFault,
    "ModelServingError": ServerFault,
    "ServiceUnavailable": ServerFault,
    "ModelUnavailable": ServerFault,
}

# Unknown codes of these families are refusals of the request, as an HTTP 4xx is: asking again would not help.
_REQUEST_AT_FAULT: Final = re.compile(r"(Invalid|BadRequest|Missing|Unsupported|NotSupported|DataInspection|Forbidden)")
_KEY: Final = re.compile(r"\bsk-[\w-]+")
_QUERY: Final = re.compile(r"(\w+://[^\s?]*)\?\S*")


def refusal(code: str, message: str) -> RecognitionError:
    """The error for a task-failed with this code and message."""
    kind = _by_text(message) or _by_code(code)
    if kind is None:
        kind = InvalidRequest if _REQUEST_AT_FAULT.match(code) else ServiceError
    return kind(": ".join(filter(None, (quoted(code, 64), quoted(message)))))


def handshake_error(status: int, retry_after: float | None = None) -> RecognitionError:
    """The error for an HTTP status other than 101 at the handshake; `retry_after` is the header's value in seconds.

    The vendor judges the key here: a bad one is a 401 or a 403 and no WebSocket.
    """
    detail = f"HTTP {status}"
    if status == 429:
        return Throttled(detail, retry_after)
    if status >= 500:
        return ServerFault(detail, retry_after)
    # No other status speaks of the job: the upgrade carries none of its parameters.
    return {401: Unauthorized, 403: AccessDenied, 404: NotFound}.get(status, ConnectFailed)(detail)


def closed(code: int | None, reason: str) -> RecognitionError:
    """The error for a close frame in the middle of a task. None: a close frame without a code (1005).

    A code says nothing about the request, unless it is the answer to one: see `not_started`.
    """
    detail = ", ".join(filter(None, (f"close code {code or 1005}", quoted(reason))))
    kind = _by_text(reason)
    return ConnectionLost(detail, code) if kind is None else kind(detail)


def not_started(error: Exception) -> Exception:
    """What an error means that comes in the place of task-started.

    1007 is "invalid payload data": the vendor closes with it on bad JSON, a run-task without input or, in one family
    of models, on an unknown model. Later it cannot be about the request, which was accepted.
    """
    if isinstance(error, ConnectionLost) and error.close_code == 1007:
        return InvalidRequest(error.detail)
    return error


def quoted(text: str, length: int = 200) -> str:
    """The service's words on one line, shortened, without keys and queries of URLs."""
    line = _QUERY.sub(r"\1", _KEY.sub("sk-***", " ".join(text.split())))
    return line if len(line) <= length else line[: length - 1] + "…"


def _by_text(message: str) -> type[RecognitionError] | None:
    folded = message.lower()
    return next((kind for text, kind in BY_TEXT.items() if text in folded), None)


def _by_code(code: str) -> type[RecognitionError] | None:
    while code not in BY_CODE:
        code, dot, _ = code.rpartition(".")
        if not dot:
            return None
    return BY_CODE[code]
