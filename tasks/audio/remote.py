"""A recording on a web server as a file: read as it comes, seek by byte ranges, go on after a cut.

Errors never carry the text of the exception below: urllib3's hold the whole URL, and with it the signature.
"""

import io
import re
import time
from dataclasses import replace
from urllib.parse import urljoin

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    DecodeError,
    EmptyPoolError,
    HTTPError,
    ReadTimeoutError,
    SSLError,
)

from tasks.audio.limits import AudioLimits
from tasks.audio.reference import AudioReference
from tasks.errors import BadInput, JobError, Unavailable
from worker.http import ForbiddenAddress, HttpPool

__all__ = ["RemoteFile"]

_SKIP = 256 * 1024  # a gap up to this is read over: cheaper than another request
_RESUMES = 5  # cuts in a row, each with less than _PROGRESS bytes since the last one, before we give up
_PROGRESS = 16 * 1024
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_REDIRECTS = (301, 302, 303, 307, 308)


class RemoteFile:
    """One GET whose body is a file. Seekable only if the server gives byte ranges of an unpacked body.

    A server that stays silent ends in `read_timeout` seconds. A cut in the middle is continued by range requests, as
    often as they bring something; slow readers such as a paced job are cut now and then by many servers.
    """

    def __init__(self, reference: AudioReference, http: HttpPool, limits: AudioLimits) -> None:
        self.shown = reference.shown
        self.size: int | None = None
        self._http = http
        self._limits = limits
        self._position = 0  # where the next read() starts
        self._at = 0  # where the response stands
        self._resumes = 0
        self._since_resume = 0
        self._waited = 0.0
        self._received = 0
        self._reference, self._response = self._first(reference)
        self._begin(self._response)

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes as soon as there are any; empty at the end. Raises `BadInput`, `Unavailable`."""
        if self.size is not None and self._position >= self.size:
            return b""
        self._align()
        data = self._some(size)
        self._position = self._at
        if not data and self._at == 0:
            raise self._empty()
        if self._position > self._limits.max_bytes:
            raise BadInput(
                "audio_too_large", f"{self.shown} has more than {self._limits.max_bytes} bytes; split or compress it."
            )
        return data

    def ready(self, size: int, /) -> bytes:
        return b""

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Only notes the place: the request is made by the next read, if there is one."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}.get(whence)
        if base is None or base + offset < 0 or not self.seekable():
            raise io.UnsupportedOperation("cannot seek there")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def seekable(self) -> bool:
        return self._ranges and self.size is not None

    def close(self) -> None:
        """Give the connection back; a body not read to its end costs it."""
        self._response.close()
        self._response.release_conn()

    # -- opening ---------------------------------------------------------------------------------------------------

    def _first(self, reference: AudioReference) -> tuple[AudioReference, urllib3.BaseHTTPResponse]:
        """The first answer that is no redirect, and where it came from."""
        start = reference
        for _ in range(self._limits.max_redirects + 1):
            response = self._get(reference, {"Range": "bytes=0-"})
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or not location:
                return reference, response
            _drop(response)
            reference = self._target(start, reference, location)
        allowed = self._limits.max_redirects
        raise BadInput(
            "too_many_redirects", f"{self.shown} redirects more than {allowed} times; give its final address."
        )

    def _target(self, start: AudioReference, here: AudioReference, location: str) -> AudioReference:
        try:
            there: AudioReference | None = AudioReference.parse(urljoin(here.url, location))
        except (BadInput, ValueError):
            there = None
        if there is None or there.scheme == "file" or (here.scheme, there.scheme) == ("https", "http"):
            raise BadInput(
                "forbidden_redirect",
                f"{start.shown} redirects to what is not followed: https: leads only to https:; name it directly.",
            )
        if there.origin == here.origin and there.authorization is None:
            there = replace(there, authorization=here.authorization)
        return there

    def _get(self, reference: AudioReference, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        # A packed body could not be read by ranges.
        sent = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "stenopool", **headers}
        if reference.authorization:
            sent["Authorization"] = reference.authorization
        limits = self._limits
        try:
            return self._http.request(
                "GET",
                reference.url,
                headers=sent,
                connect_timeout=limits.connect_timeout,
                read_timeout=limits.read_timeout,
            )
        except ForbiddenAddress as error:
            raise _forbidden_address(self.shown, error) from None
        except HTTPError as error:
            raise _unreached(self.shown, error, limits) from None

    def _begin(self, response: urllib3.BaseHTTPResponse) -> None:
        """Take the size and the server's abilities from the first answer, or raise what its status means."""
        headers = response.headers
        if response.status not in (200, 206):
            _drop(response)
            raise _refused(self.shown, response.status)
        self._packed = headers.get("Content-Encoding", "identity").lower() not in ("", "identity")
        self._ranges = not self._packed and (
            response.status == 206 or headers.get("Accept-Ranges", "").lower() == "bytes"
        )
        self._validator = _validator(headers)
        if not self._packed:
            self.size = _size(response)
        if self.size == 0:
            _drop(response)
            raise self._empty()

    def _empty(self) -> BadInput:
        return BadInput("empty_audio", f"{self.shown} is empty; check what was uploaded.")

    # -- reading ---------------------------------------------------------------------------------------------------

    def _align(self) -> None:
        """Bring the response to the place where the reader is."""
        if not 0 <= self._position - self._at <= _SKIP:
            self._reopen()
        while self._at < self._position:
            if not self._some(self._position - self._at):
                raise self._interrupted()

    def _some(self, size: int) -> bytes:
        """What the response has next, over as many resumed requests as that takes."""
        while True:
            began = time.monotonic()
            try:
                data: bytes = self._response.read1(size, decode_content=self._packed)
                if not data and self.size is not None and self._at < self.size:
                    raise HTTPError  # a clean end before the promised one
            except DecodeError:
                raise BadInput(
                    "damaged_audio", f"{self.shown} is packed and cannot be unpacked; serve it plain."
                ) from None
            except (HTTPError, OSError) as error:
                self._resume(error)
                continue
            self._count(len(data), time.monotonic() - began)
            return data

    def _count(self, count: int, seconds: float) -> None:
        self._at += count
        self._received += count
        self._waited += seconds
        self._since_resume += count
        patience = 3 * self._limits.read_timeout
        if self._waited > patience and self._received < self._waited * self._limits.min_bytes_per_second:
            raise self._silent()

    def _resume(self, error: Exception) -> None:
        """Ask again from where the cut was, or raise what the cut means."""
        if self._received == 0 and isinstance(error, ReadTimeoutError):
            raise self._silent() from None
        self._resumes = 1 if self._since_resume >= _PROGRESS else self._resumes + 1
        self._since_resume = 0
        if not self._ranges or self._resumes > _RESUMES:
            raise self._interrupted() from None
        position, self._position = self._position, self._at
        try:
            self._reopen()
        except JobError:
            raise self._interrupted() from None
        finally:
            self._position = position

    def _reopen(self) -> None:
        """A request for the bytes from the reader's place on.

        Raises `Unavailable` if it is no longer the same recording.
        """
        self.close()
        headers = {"Range": f"bytes={self._position}-"}
        if self._validator:
            headers["If-Range"] = self._validator
        self._response = response = self._get(self._reference, headers)
        found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if response.status != 206 or found is None or int(found[1]) != self._position:
            raise self._interrupted()
        self._at = self._position

    def _silent(self) -> BadInput:
        return BadInput(
            "audio_timeout", f"The server of {self.shown} sends nothing or next to nothing; check that server."
        )

    def _interrupted(self) -> Unavailable:
        return Unavailable(
            "audio_interrupted", f"The download of {self.shown} broke off and could not go on; try again."
        )


def _drop(response: urllib3.BaseHTTPResponse) -> None:
    response.close()
    response.release_conn()


def _validator(headers: urllib3.HTTPHeaderDict) -> str | None:
    """What tells the recording from a newer one of the same name. A weak ETag does not promise the same bytes."""
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def _size(response: urllib3.BaseHTTPResponse) -> int | None:
    if response.status == 206:
        found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        return int(found[2]) if found and found[2] != "*" else None
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isascii() and length.isdigit() else None


def _refused(shown: str, status: int) -> JobError:
    if status in (404, 410):
        return BadInput(
            "audio_not_found", f"{shown} does not exist on its server (status {status}); check the address."
        )
    if status in (401, 403):
        return BadInput(
            "audio_forbidden",
            f"The server of {shown} refuses access (status {status}); sign the address anew or check its rights.",
        )
    if status == 416:  # no byte 0
        return BadInput("empty_audio", f"{shown} is empty; check what was uploaded.")
    if status == 429 or status >= 500:
        return Unavailable(
            "audio_server_error", f"The server of {shown} fails at the moment (status {status}); try again later."
        )
    return BadInput("audio_refused", f"The server of {shown} answered with status {status}; check the address.")


def _forbidden_address(shown: str, error: ForbiddenAddress) -> BadInput:
    cure = (
        "set STENOPOOL_AUDIO_ALLOW_PRIVATE=true to allow private networks"
        if error.allowable
        else "no recording can be fetched from there"
    )
    return BadInput("forbidden_address", f"{shown} leads to host {error.host}, whose address is not allowed; {cure}.")


def _unreached(shown: str, error: HTTPError, limits: AudioLimits) -> JobError:
    if isinstance(error, SSLError):
        return BadInput(
            "audio_tls",
            f"No secure connection to the server of {shown}: check its certificate, or set SSL_CERT_FILE.",
        )
    if isinstance(error, ConnectTimeoutError) and not isinstance(error, urllib3.exceptions.NewConnectionError):
        return BadInput(
            "audio_timeout",
            f"The server of {shown} took no connection in {limits.connect_timeout:g} s; check host and port.",
        )
    if isinstance(error, ReadTimeoutError):
        return BadInput(
            "audio_timeout", f"The server of {shown} sent nothing for {limits.read_timeout:g} s; check that server."
        )
    if isinstance(error, EmptyPoolError):
        return Unavailable("audio_pool_full", f"All connections to the server of {shown} are in use; try again later.")
    if isinstance(error, urllib3.exceptions.ProtocolError):
        return Unavailable("audio_interrupted", f"The server of {shown} hung up without an answer; try again.")
    return BadInput("audio_unreachable", f"The server of {shown} cannot be reached; check host and port.")
