"""A recording on a web server as a file: read as it comes, seek by byte ranges, go on after a cut."""

import io
import re
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urljoin

import urllib3
from urllib3.exceptions import HTTPError, ReadTimeoutError

from tasks.audio.limits import AudioLimits
from tasks.audio.packed import Unpacker, can_unpack
from tasks.audio.reference import AudioReference
from tasks.audio.refusals import empty, forbidden_address, refused, too_large, unreached
from tasks.errors import BadInput, JobError, Unavailable
from worker.http import ForbiddenAddress, HttpPool

__all__ = ["RemoteFile"]

_SKIP = 256 * 1024  # a gap up to this is read over: cheaper than another request
_RESUMES = 5  # cuts in a row, each with less than _PROGRESS bytes since the last one, before we give up
_PROGRESS = 16 * 1024
_PACKED = 16 * 1024  # of a packed body, taken at a time
_LENGTH = re.compile(r"[0-9]{1,18}")
_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)")
_REDIRECTS = (301, 302, 303, 307, 308)

Locate = Callable[[], AudioReference]
"""Says where a recording is to be had: an `https:` or `http:` reference."""


class RemoteFile:
    """One GET whose body is a file. Seekable only if the server gives byte ranges of an unpacked body.

    A server that stays silent ends in `read_timeout` seconds. A cut in the middle is continued by range requests, as
    often as they bring something; slow readers such as a paced job are cut now and then by many servers.
    """

    def __init__(
        self, reference: AudioReference, http: HttpPool, limits: AudioLimits, sign: Locate | None = None
    ) -> None:
        """`sign` is asked anew for each request, as what it signs runs out."""
        self.shown = reference.shown
        self.size: int | None = None
        self._http = http
        self._limits = limits
        self._is_signed = sign is not None
        self._locate: Locate = sign or (lambda: reference)
        self._redirected: AudioReference | None = None
        self._position = 0  # where the next read() starts
        self._at = 0  # where the response stands
        self._resumes = 0
        self._since_resume = 0
        self._received = 0
        self._waited, self._lately = 0.0, 0  # seconds, and the bytes that they brought
        self._unpacker: Unpacker | None = None
        self._response = self._first({"Range": "bytes=0-"})
        self._begin(self._response)

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes as soon as there are any; empty at the end. Raises `BadInput`, `Unavailable`."""
        if self.size is not None and self._position >= self.size:
            return b""
        self._align()
        data = self._some(size)
        self._position = self._at
        if not data and self._at == 0:
            raise empty(self.shown)
        if self._position > self._limits.max_bytes:
            raise too_large(self.shown, None, self._limits.max_bytes)
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
        return self._seekable

    def close(self) -> None:
        """Give the connection back; a body not read to its end costs it."""
        self._response.close()
        self._response.release_conn()

    # -- opening ---------------------------------------------------------------------------------------------------

    def _first(self, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """The first answer that is no redirect."""
        here = self._locate()
        self._redirected = None
        for _ in range(self._limits.max_redirects + 1):
            response = self._get(here, headers)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or not location:
                return response
            _drop(response)
            here = self._redirected = self._target(here, location)
        allowed = self._limits.max_redirects
        raise BadInput(
            "too_many_redirects", f"{self.shown} redirects more than {allowed} times; give its final address."
        )

    def _target(self, here: AudioReference, location: str) -> AudioReference:
        try:
            there: AudioReference | None = AudioReference.parse(urljoin(here.url, location))
        except (BadInput, ValueError):
            there = None
        # Never to a file, and never to a store: there it would be read with the worker's own rights.
        if there is None or there.scheme not in ("https", here.scheme):
            raise BadInput(
                "forbidden_redirect",
                f"{self.shown} redirects to what is not followed: https: leads only to https:; name it directly.",
            )
        if there.origin == here.origin and there.authorization is None:
            there = replace(there, authorization=here.authorization)
        return there

    def _again(self, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """An answer of where the recording was found; if that does not hold any more, of where it is now."""
        if self._redirected is None:
            return self._first(headers)
        response = self._get(self._redirected, headers)
        if response.status // 100 != 4:
            return response
        _drop(response)  # a redirect may lead to an address that is signed for a time
        return self._first(headers)

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
            raise forbidden_address(self.shown, error) from None
        except HTTPError as error:
            raise unreached(self.shown, error, limits) from None

    def _begin(self, response: urllib3.BaseHTTPResponse) -> None:
        """Take the size and the server's abilities from the first answer, or raise what it means."""
        try:
            self._judge(response)
        except JobError:
            _drop(response)
            raise

    def _judge(self, response: urllib3.BaseHTTPResponse) -> None:
        headers = response.headers
        if response.status not in (200, 206):
            raise refused(self.shown, response.status, signed=self._is_signed)
        if response.status == 206 and _start(response) != 0:
            raise BadInput(
                "bad_answer",
                f"The server of {self.shown} sends another part of it than was asked for; mend its ranges.",
            )
        encoding = headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            if not can_unpack(encoding):
                raise self._unpackable()
            self._unpacker = Unpacker()
        self._ranges = self._unpacker is None and (
            response.status == 206 or headers.get("Accept-Ranges", "").lower() == "bytes"
        )
        self._validator = _validator(headers)
        if self._unpacker is None:
            self.size = _size(response)
        # A size that is learned on the way comes too late for those who have begun to read.
        self._seekable = self._ranges and self.size is not None
        if self.size == 0:
            raise empty(self.shown)

    # -- reading ---------------------------------------------------------------------------------------------------

    def _align(self) -> None:
        """Bring the response to the place where the reader is."""
        if not 0 <= self._position - self._at <= _SKIP:
            self._reopen()
        while self._at < self._position:
            if not self._some(self._position - self._at):
                raise self._interrupted()

    def _some(self, size: int) -> bytes:
        """What the recording has next."""
        if self._unpacker is None:
            data = self._taken(size)
        else:
            data = self._unpacked(self._unpacker, size)
        self._at += len(data)
        return data

    def _unpacked(self, unpacker: Unpacker, size: int) -> bytes:
        try:
            while not (data := unpacker.take(size)):
                packed = self._taken(_PACKED)
                if not packed:
                    if self._received and not unpacker.is_whole:  # a server that says no size has hung up
                        raise self._interrupted()
                    return b""
                if self._received > self._limits.max_bytes:  # packed so that next to nothing comes out
                    raise too_large(self.shown, None, self._limits.max_bytes)
                unpacker.feed(packed)
        except zlib.error:
            raise self._unpackable() from None
        return data

    def _taken(self, size: int) -> bytes:
        """What the response has next, over as many resumed requests as that takes."""
        while self.size is None or self._at < self.size:
            began = time.monotonic()
            try:
                data: bytes = self._response.read1(size, decode_content=False)
                if not data and self.size is not None:
                    raise HTTPError  # a clean end before the promised one
            except (HTTPError, OSError) as error:
                self._resume(error)
                continue
            self._count(len(data), time.monotonic() - began)
            if data or not self._is_part():
                return data
            self._resume()
        return b""

    def _is_part(self) -> bool:
        """Whether more may come after this response, which has ended: its server names no total, so only asking tells.

        A part that brought nothing was the last.
        """
        return self._ranges and self._response.status == 206 and self._since_resume > 0

    def _count(self, count: int, seconds: float) -> None:
        self._received += count
        self._since_resume += count
        self._lately += count
        self._waited += seconds
        if self._waited > 3 * self._limits.read_timeout:
            if self._lately < self._waited * self._limits.min_bytes_per_second:
                raise self._silent()
            self._waited, self._lately = 0.0, 0  # a fast beginning buys no drips

    def _resume(self, error: Exception | None = None) -> None:
        """Ask again from where the cut or the end of a part was, or raise what the cut means."""
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
        self._response = response = self._again(headers)
        if self.size is None and _is_beyond(response):
            self.size = self._position
        else:
            self._check_part(response)
        self._at = self._position

    def _check_part(self, response: urllib3.BaseHTTPResponse) -> None:
        total = _size(response)
        known = total if self.size is None else self.size
        if response.status != 206 or _start(response) != self._position or total not in (None, known):
            raise self._interrupted()
        self.size = known

    def _silent(self) -> BadInput:
        return BadInput(
            "audio_timeout", f"The server of {self.shown} sends nothing or next to nothing; check that server."
        )

    def _interrupted(self) -> Unavailable:
        return Unavailable(
            "audio_interrupted", f"The download of {self.shown} broke off and could not go on; try again."
        )

    def _unpackable(self) -> BadInput:
        return BadInput("damaged_audio", f"{self.shown} is packed and cannot be unpacked; serve it plain.")


def _drop(response: urllib3.BaseHTTPResponse) -> None:
    response.close()
    response.release_conn()


def _validator(headers: urllib3.HTTPHeaderDict) -> str | None:
    """What tells the recording from a newer one of the same name. A weak ETag does not promise the same bytes."""
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def _start(response: urllib3.BaseHTTPResponse) -> int | None:
    """The first byte that a part holds; None if it does not say."""
    found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _is_beyond(response: urllib3.BaseHTTPResponse) -> bool:
    """Whether this answers a request for what lies beyond the last byte."""
    return response.status == 416 or (response.status == 206 and response.headers.get("Content-Length") == "0")


def _size(response: urllib3.BaseHTTPResponse) -> int | None:
    if response.status == 206:
        found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        return int(found[2]) if found and found[2] != "*" else None
    length = response.headers.get("Content-Length", "")
    return int(length) if _LENGTH.fullmatch(length) else None
