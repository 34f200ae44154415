"""What a job names as its audio, and the part of it that anybody may see."""

import base64
import binascii
import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, quote, unquote, unquote_to_bytes, urlsplit

from tasks.errors import BadInput

__all__ = ["AudioReference", "SCHEMES"]

SCHEMES = ("https", "http", "s3", "oss", "file", "data")
MAX_LENGTH = 8192
MAX_DATA_LENGTH = 4 * 1024 * 1024
"""Characters of a `data:` reference. It travels through Redis, and stays there until its job has ended."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,31}):")
_SUPPORTED = "https:, http:, s3:, oss:, file: and data:"
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # C0, DEL, C1, line separators, surrogates
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}")
_MEDIA_TYPE = re.compile(r"(?:audio|video|application)/[A-Za-z0-9.+-]{1,40}")
_SPACES = b" \t\r\n\f"


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioReference:
    """Where a recording is. Only `shown` (no query, fragment, credentials or content) may appear in logs, results and
    errors.

    `url` is for `http` and `https`, without credentials; `authorization` is the header made from them. `bucket` and
    `key` are for `s3` and `oss`, `path` is for `file`, `data` is what a `data` reference holds.
    """

    scheme: str
    shown: str
    url: str = field(default="", repr=False)
    bucket: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    path: str = field(default="", repr=False)
    data: bytes = field(default=b"", repr=False)
    authorization: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: object) -> "AudioReference":
        """Read a reference. Raises `BadInput` `invalid_reference` or `unsupported_scheme`."""
        if not isinstance(text, str) or not text:
            raise _invalid("it must be a text that is not empty, such as https://host/call.mp3")
        found = _SCHEME.match(text)
        scheme = found[1].lower() if found else ""
        _check(text, MAX_DATA_LENGTH if scheme == "data" else MAX_LENGTH)
        if not found:
            raise _invalid("it has no scheme; write file:///folder/name for a file, https://host/name for an address")
        if scheme not in SCHEMES:
            raise BadInput("unsupported_scheme", f"Audio from {scheme}: is not supported; use one of {_SUPPORTED}.")
        if scheme == "data":
            return _data(text[found.end() :])
        if scheme in ("s3", "oss"):
            return _object(scheme, text[found.end() :])
        try:
            parts = urlsplit(text)
            return _file(parts) if scheme == "file" else _web(parts)
        except (ValueError, UnicodeError):  # a port that is no number, a half bracket, a host that IDNA cannot hold
            raise _invalid("its host or port cannot be read; check the part after the two slashes") from None

    @property
    def origin(self) -> tuple[str, str]:
        """Scheme and host with port: what credentials are good for."""
        return self.scheme, urlsplit(self.url).netloc


def _invalid(why: str) -> BadInput:
    return BadInput("invalid_reference", f"The audio reference is not valid: {why}.")


def _check(text: str, longest: int) -> None:
    if len(text) > longest:
        raise _invalid(f"it is {len(text)} characters long; at most {longest} are allowed")
    if _UNSAFE.search(text):
        raise _invalid("it holds a control character; remove it or percent-encode it")


def _data(rest: str) -> AudioReference:
    """RFC 2397. What the recording really is, its bytes tell better than the media type."""
    head, comma, body = rest.partition("#")[0].partition(",")
    if not comma:
        raise _invalid("a data: reference has a comma before its data; write data:audio/wav;base64,…")
    media_type, *options = (part.strip() for part in head.split(";"))
    shown = f"data:{media_type},…" if _MEDIA_TYPE.fullmatch(media_type) else "data:…"
    data = unquote_to_bytes(body)
    if options and options[-1].lower() == "base64":
        data = data.translate(None, _SPACES).rstrip(b"=")
        try:
            data = base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
        except binascii.Error:
            raise _invalid(f"the base64 of {shown} is broken or cut off; encode the recording again") from None
    return AudioReference(scheme="data", shown=shown, data=data)


def _object(scheme: str, rest: str) -> AudioReference:
    """A key is taken as it stands, as the stores' own tools do: no %-encoding, and ? and # are letters like others."""
    bucket, _, key = rest.removeprefix("//").partition("/")
    if not rest.startswith("//") or not _BUCKET.fullmatch(bucket):
        raise _invalid(f"the {scheme}: reference names no bucket; write {scheme}://bucket/key")
    if not key or key.endswith("/") or len(key.encode()) > 1024:
        raise _invalid(f"the key in {scheme}://{bucket}/ must be a name of 1 to 1024 bytes that does not end in /")
    if {".", ".."} & set(key.split("/")):
        raise _invalid(f"the key in {scheme}://{bucket}/ has . or .. between its slashes, which no address can carry")
    # What comes after ? was perhaps meant as a query, with a signature.
    name = re.split(r"[?#]", key, maxsplit=1)
    return AudioReference(
        scheme=scheme,
        shown=f"{scheme}://{bucket}/{name[0]}" + ("…" if len(name) > 1 else ""),
        bucket=bucket,
        key=key,
    )


def _file(parts: SplitResult) -> AudioReference:
    shown = f"file://{parts.path}"
    if parts.netloc.lower() not in ("", "localhost"):
        raise _invalid("a file: reference names no host; write file:///folder/name")
    if parts.query or parts.fragment:
        raise _invalid(f"{shown} goes on after ? or #; in a file's name write %3F for ? and %23 for #")
    if not parts.path.startswith("/"):
        raise _invalid(f"the path in {shown} must be absolute; write file:///folder/name")
    path = unquote_to_bytes(parts.path)
    if b"\0" in path:
        raise _invalid(f"{shown} holds a zero byte; remove %00")
    return AudioReference(scheme="file", shown=shown, path=path.decode("utf-8", "surrogateescape"))


def _web(parts: SplitResult) -> AudioReference:
    if not parts.hostname:
        raise _invalid(f"the {parts.scheme}: reference names no host; write {parts.scheme}://host/name")
    host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode("ascii")
    netloc = f"[{host}]" if ":" in host else quote(host, safe="-._~")
    if parts.port is not None:
        netloc += f":{parts.port}"
    address = f"{parts.scheme}://{netloc}{parts.path}"
    return AudioReference(
        scheme=parts.scheme,
        shown=address,
        url=address + (f"?{parts.query}" if parts.query else ""),
        authorization=_basic(parts),
    )


def _basic(parts: SplitResult) -> str | None:
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode("ascii")
