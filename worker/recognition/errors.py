"""What can go wrong in one upstream conversation.

    RecognitionError
    ├── MissingApiKey           no key is set
    ├── DeadlinePassed          the job's own time is up
    ├── LocalProtocolError      we asked for something out of order: our bug
    ├── RemoteProtocolError     the service sent what the protocol does not allow
    ├── TransportError
    │   ├── ConnectFailed       no connection: name, route, TLS or handshake
    │   ├── ConnectionLost      the connection ended in the middle of a task
    │   └── UpstreamSilent      the connection stands, the expected answer does not come
    └── ServiceError            the service said no; this class itself: with a code we do not know
        ├── Unauthorized  AccessDenied  AccountBlocked
        ├── InvalidRequest  OutOfStep
        ├── NotFound
        │   └── UnknownModel
        ├── Throttled  ServerFault                  both know `retry_after`
        ├── NoDataTimeout  SilenceTimeout
        └── NoSpeech  UnsupportedAudio

Each class says by `code` what a user reads as `error_code`, and by `retryable` whether the same job may succeed on
another connection. The text is one sentence that says what to do; in brackets it may quote the service, shortened. No
text ever holds a key, the query of a URL or a transcript. Which code of the service is which class: `refusals.py`.
"""

from typing import ClassVar


class RecognitionError(Exception):
    """Base of all. `detail` is the part in brackets: our own words or a quotation of the service."""

    code: ClassVar[str] = "recognition_failed"
    retryable: ClassVar[bool] = False
    advice: ClassVar[str] = "The recognition failed"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail)
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.advice} ({self.detail})." if self.detail else f"{self.advice}."


class MissingApiKey(RecognitionError):
    """Raised before anything is sent, when the endpoint has no key."""

    code = "missing_api_key"
    advice = "There is no API key: set DASHSCOPE_API_KEY or DASHSCOPE_API_KEY_FILE_PATH"


class DeadlinePassed(RecognitionError):
    """Raised when the job's deadline passed during the conversation. Trying again would only begin later."""

    code = "deadline_passed"
    advice = "The job ran out of time: allow it more, or send a shorter recording"


class LocalProtocolError(RecognitionError):
    """Raised when a command does not fit the state of the session, before anything is sent."""

    code = "local_protocol_error"
    advice = "This is a mistake in Stenopool: please report it"


class RemoteProtocolError(RecognitionError):
    """Raised for a message that is no event, or an event that cannot come in this state."""

    code = "remote_protocol_error"
    retryable = True
    advice = "The service broke its protocol: try again, and check the endpoint's URL when it stays so"


class TransportError(RecognitionError):
    """Base of what happens below the protocol. Another connection may fare better."""

    code = "transport_failed"
    retryable = True
    advice = "The connection to the service failed: try again"


class ConnectFailed(TransportError):
    """Raised when no connection came about: unknown name, refused, TLS, handshake not done in time."""

    code = "connect_failed"
    advice = "The service cannot be reached: check the network and DASHSCOPE_WEBSOCKET_BASE_URL"


class ConnectionLost(TransportError):
    """Raised when the connection ends before the task does. `close_code`: the service's, None without one."""

    code = "connection_lost"
    advice = "The connection to the service was lost: try again, the audio must be sent anew"

    def __init__(self, detail: str = "", close_code: int | None = None) -> None:
        super().__init__(detail)
        self.args = (detail, close_code)
        self.close_code = close_code


class UpstreamSilent(TransportError):
    """Raised when task-started, the answer to a ping, or anything after finish-task did not come within our limit."""

    code = "upstream_silent"
    advice = "The service does not answer: try again"


class ServiceError(RecognitionError):
    """Raised for a refusal whose code we do not know.

    Retryable: codes that speak of the request or the account are recognised by their first words (`refusals.py`),
    so what remains is most likely a fault on the service's side, and attempts are counted by the caller.
    """

    code = "service_error"
    retryable = True
    advice = "The service refused with an error that Stenopool does not know: try again, or look the code up"


class Unauthorized(ServiceError):
    """Raised when the key is not accepted: HTTP 401 at the handshake, or InvalidApiKey."""

    code = "unauthorized"
    retryable = False
    advice = "The service does not accept the API key: use a valid key of the endpoint's own region"


class AccessDenied(ServiceError):
    """Raised when the key is good and the model, the workspace or the product is not open to it."""

    code = "access_denied"
    retryable = False
    advice = "The account may not use this model or workspace: activate it in the console or use another key"


class AccountBlocked(ServiceError):
    """Raised for overdue bills and for a used-up free quota."""

    code = "account_blocked"
    retryable = False
    advice = "The account is blocked: pay what is due or lift the free-quota limit in the console"


class InvalidRequest(ServiceError):
    """Raised when the service or our encoder cannot accept the request's parameters."""

    code = "invalid_request"
    retryable = False
    advice = "The service does not accept the request: correct the job's parameters"


class OutOfStep(ServiceError):
    """Raised when the service believes that another task is still running on this connection.

    The vendor's cure is to close the WebSocket. Third parties met it on warm connections that waited too long for
    their first task, so it is cured by a new connection.
    """

    code = "out_of_step"
    retryable = True
    advice = "The service was out of step with this connection: try again on a new one"


class NotFound(ServiceError):
    """Raised when the workspace, the hot-word list or the endpoint's path is unknown."""

    code = "not_found"
    retryable = False
    advice = "The service does not know what the request names: check workspace, vocabulary and URL"


class UnknownModel(NotFound):
    """Raised when no such model exists at this endpoint."""

    code = "unknown_model"
    advice = "The service does not know the model: check its name, and that the region offers it"


class _Patience(ServiceError):
    """A refusal that may say when to come back: `retry_after` in seconds, or None."""

    def __init__(self, detail: str = "", retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.args = (detail, retry_after)
        self.retry_after = retry_after


class Throttled(_Patience):
    """Raised when the account starts too many tasks (20 a second for most models), or has too many at once."""

    code = "throttled"
    retryable = True
    advice = "The account's rate limit is reached: try again later, run fewer jobs at once, or have the limit raised"


class ServerFault(_Patience):
    """Raised for faults that the service itself calls its own: HTTP 5xx, InternalError, ServiceUnavailable."""

    code = "server_fault"
    retryable = True
    advice = "The service has a fault of its own: try again later"


class NoDataTimeout(ServiceError):
    """Raised when the service got nothing for 23 s in a task (not configurable, per the vendor)."""

    code = "no_data_timeout"
    retryable = True
    advice = "The audio came too slowly and the service gave up: try again, and check where the audio comes from"


class SilenceTimeout(ServiceError):
    """Raised when the service got about 60 s of silent audio without the parameter `heartbeat`."""

    code = "silence_timeout"
    retryable = True
    advice = "The service gave up in a long silence: try again with the parameter heartbeat set to true"


class NoSpeech(ServiceError):
    """Raised when the service heard no speech at all. A caller may take it for an empty result."""

    code = "no_speech"
    retryable = False
    advice = "The service heard no speech: check that the recording is not silent"


class UnsupportedAudio(ServiceError):
    """Raised when the audio is not what the parameters declare."""

    code = "unsupported_audio"
    retryable = False
    advice = "The service cannot decode the audio: check that format and sample_rate are those of the recording"
