"""What a job names as its audio, and the part of it that anybody may see."""

import base64
import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, quote, unquote, unquote_to_bytes, urlsplit

from tasks.errors import BadInput

__all__ = ["AudioReference", "SCHEMES"]

SCHEMES = ("https", "http", "file")
MAX_LENGTH = 8192

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,31}):")
_SUPPORTED = "https:, http: and file:"
_UNSAFE = {
    *range(0x20),
    *range(0x7F, 0xA0),
    0x2028,
    0x2029,
    *range(0xD800, 0xE000),
}  # C0, DEL, C1, line separators, surrogates


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioReference:
    """Where a recording is. Only `shown` (no query, fragment or credentials) may appear in logs, results and errors.

    `url` is for `http` and `https`, without credentials; `authorization` is the header made from them. `path` is for
    `file`.
    """

    scheme: str
    shown: str
    url: str = field(default="", repr=False)
    path: str = field(default="", repr=False)
    authorization: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: object) -> "AudioReference":
        """Read a reference. Raises `BadInput` `invalid_reference` or `unsupported_scheme`."""
        checked = _checked(text)
        found = _SCHEME.match(checked)
        if found is None:
            raise _invalid("it has no scheme; write file:///folder/name for a file, https://host/name for an address")
        scheme = found[1].lower()
        if scheme not in SCHEMES:
            raise BadInput("unsupported_scheme", f"Audio from {scheme}: is not supported; use one of {_SUPPORTED}.")
        try:
            parts = urlsplit(checked)
            return _file(parts) if scheme == "file" else _web(parts)
        except (ValueError, UnicodeError):  # a port that is no number, a half bracket, a host that IDNA cannot hold
            raise _invalid("its host or port cannot be read; check the part after the two slashes") from None

    @property
    def origin(self) -> tuple[str, str]:
        """Scheme and host with port: what credentials are good for."""
        return self.scheme, urlsplit(self.url).netloc


def _invalid(why: str) -> BadInput:
    return BadInput("invalid_reference", f"The audio reference is not valid: {why}.")


def _checked(text: object) -> str:
    if not isinstance(text, str) or not text:
        raise _invalid("it must be a text that is not empty, such as https://host/call.mp3")
    if len(text) > MAX_LENGTH:
        raise _invalid(f"it is {len(text)} characters long; at most {MAX_LENGTH} are allowed")
    if any(ord(letter) in _UNSAFE for letter in text):
        raise _invalid("it holds a control character; remove it or percent-encode it")
    return text


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
