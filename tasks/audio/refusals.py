"""What it means for a job how its audio's server answers, or does not.

Never with the text of the exception below: urllib3's hold the whole URL, and with it the signature.
"""

import http.client

from urllib3.exceptions import (
    ConnectTimeoutError,
    EmptyPoolError,
    HTTPError,
    InvalidHeader,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from tasks.audio.limits import AudioLimits
from tasks.errors import BadInput, JobError, Unavailable
from worker.http import ForbiddenAddress

__all__ = ["empty", "forbidden_address", "refused", "too_large", "unreached"]


def empty(shown: str) -> BadInput:
    return BadInput("empty_audio", f"{shown} is empty; check what was uploaded.")


def too_large(shown: str, size: int | None, allowed: int) -> BadInput:
    """`size` is in bytes, None when all that is known is that it is too large."""
    has = f"more than {allowed}" if size is None else f"{size}"
    return BadInput("audio_too_large", f"{shown} has {has} bytes; at most {allowed} are allowed: split or compress it.")


def refused(shown: str, status: int, *, signed: bool) -> JobError:
    """What an answer's status means. `signed`: the address was signed by the worker."""
    if status in (404, 410):
        return BadInput(
            "audio_not_found", f"{shown} does not exist on its server (status {status}); check the address."
        )
    if status in (401, 403):
        cure = (
            "check rights, region and endpoint of the worker's credentials, and its clock"
            if signed
            else "sign the address anew or check its rights"
        )
        return BadInput("audio_forbidden", f"The server of {shown} refuses access (status {status}); {cure}.")
    if status == 416:  # no byte 0
        return empty(shown)
    if status == 429 or status >= 500:
        return Unavailable(
            "audio_server_error", f"The server of {shown} fails at the moment (status {status}); try again later."
        )
    cure = "check the region and the endpoint in the worker's environment" if signed else "check the address"
    return BadInput("audio_refused", f"The server of {shown} answered with status {status}; {cure}.")


def forbidden_address(shown: str, error: ForbiddenAddress) -> BadInput:
    cure = (
        "set STENOPOOL_AUDIO_ALLOW_PRIVATE=true to allow private networks"
        if error.allowable
        else "no recording can be fetched from there"
    )
    return BadInput("forbidden_address", f"{shown} leads to host {error.host}, whose address is not allowed; {cure}.")


def unreached(shown: str, error: HTTPError, limits: AudioLimits) -> JobError:
    """Why there was no answer."""
    if isinstance(error, SSLError):
        return BadInput(
            "audio_tls",
            f"No secure connection to the server of {shown}: check its certificate, or set SSL_CERT_FILE.",
        )
    if isinstance(error, ConnectTimeoutError) and not isinstance(error, NewConnectionError):
        return BadInput(
            "audio_timeout",
            f"The server of {shown} took no connection in {limits.connect_timeout:g} s; check host and port.",
        )
    if isinstance(error, ReadTimeoutError):
        return BadInput(
            "audio_timeout", f"The server of {shown} gave no answer in {limits.read_timeout:g} s; check that server."
        )
    if isinstance(error, EmptyPoolError):
        return Unavailable("audio_pool_full", f"All connections to the server of {shown} are in use; try again later.")
    if _is_no_http(error):
        return BadInput(
            "bad_answer",
            f"What the server of {shown} answers is no HTTP, or a head without end; check scheme, host and port.",
        )
    if isinstance(error, ProtocolError):
        return Unavailable("audio_interrupted", f"The server of {shown} hung up without an answer; try again.")
    return BadInput("audio_unreachable", f"The server of {shown} cannot be reached; check host and port.")


def _is_no_http(error: HTTPError) -> bool:
    cause = error.args[1] if isinstance(error, ProtocolError) and len(error.args) > 1 else error
    hung_up = isinstance(cause, ConnectionError | http.client.IncompleteRead)
    return isinstance(cause, http.client.HTTPException | InvalidHeader) and not hung_up
