"""Log format and redaction.

What must never be logged (keys, signed queries, credentials, transcripts) is best not handed to a logger at all; the
formatter here is the second line of defence, for texts of libraries that hold an address.
"""

import logging
import re

FORMAT = "%(asctime)s %(levelname)-7s %(process)d %(name)s: %(message)s"

LONGEST_SHOWN = 200
"""Characters of a reference or of an option's name that are shown."""

LONGEST_REFERENCE = 10_000
"""A longer argument is not even looked at."""

MOST_SHOWN = 30
"""Arguments and options that are shown."""

_REFERENCE = re.compile(
    r"(?P<start>file:(?://)?|[^:/?#@]*:/*|//)?(?P<host>[^/?#]*)(?P<path>[^?#]*).*", re.IGNORECASE | re.DOTALL
)
"""Any text is one. A malformed address may have more slashes or fewer; but a file's path begins with one of them."""

_HOST = re.compile(r"(?:\[[^\]]*\]|[^:]*)(?::\d*)?[.,;:)\]}!]*")
"""With its port; after an address in a text there may be the end of the sentence."""

_NESTED = re.compile(r"(?<=://)[^/]*@")
"""Credentials of an address that is part of another's path, or of the next one in a list."""

_INLINE = re.compile(r"\bdata:.*", re.IGNORECASE | re.DOTALL)

# A quote and an angle bracket end an address that stands in a text, unless it goes on at once: JavaScript's
# encodeURIComponent leaves ' as it is.
_LETTER = r"""(?:[^\s'"<>]|(?:'+|["<>])(?=[.%&=?#+~-]*\w))"""
_ADDRESS = re.compile(rf"\b[a-z][a-z0-9+.-]{{0,30}}://{_LETTER}*", re.IGNORECASE)
# Where an address holds a space, nobody can tell where it ends; but ?name= begins a query wherever it stands.
_QUERY = re.compile(rf"\?[\w.~%\[\]-]+={_LETTER}*")
_DATA = re.compile(r"\bdata:[^\s'\"]*", re.IGNORECASE)


def redacted(text: str) -> str:
    """`text` with every address in it stripped of credentials, query and fragment.

    It has to guess where an address begins and ends. Of what is one reference, `shown_reference` knows.
    """
    stripped = _ADDRESS.sub(lambda found: shown_reference(found[0]), text)
    return _DATA.sub("data:…", _QUERY.sub("", stripped))


def shown_reference(text: str) -> str:
    """What may be shown of a reference: neither credentials nor query, fragment or content. Takes any text."""
    return _INLINE.sub("data:…", _NESTED.sub("", _REFERENCE.sub(_without_secrets, text, count=1)))


def _without_secrets(found: re.Match[str]) -> str:
    start, host = found["start"] or "", found["host"].rpartition("@")[2]
    # What is no host may be a user and half a password, with a / ? or # in it that should have been encoded.
    return start + (host + found["path"] if _HOST.fullmatch(host) else "…")


def shown_arguments(args: object, options: object) -> dict[str, str]:
    """A job's arguments as events, logs and Flower may show them, under the names that Celery has for that.

    A message may hold anything, so this takes anything: what is no argument of ours is not shown at all.
    """
    listed = tuple(map(_shown, args[:MOST_SHOWN])) if isinstance(args, list | tuple) else "…"
    named = list(options.items())[:MOST_SHOWN] if isinstance(options, dict) else []
    shown = {str(name)[:LONGEST_SHOWN]: _shown(value) if name == "audio" else "…" for name, value in named}
    return {"argsrepr": repr(listed), "kwargsrepr": repr(shown)}


def hidden_arguments(args: object, options: object) -> dict[str, str]:
    """The same for a task whose arguments are all of them somebody's text: how many there are, and the names."""
    listed = ("…",) * min(len(args), MOST_SHOWN) if isinstance(args, list | tuple) else "…"
    named = list(options)[:MOST_SHOWN] if isinstance(options, dict) else []
    return {"argsrepr": repr(listed), "kwargsrepr": repr({str(name)[:LONGEST_SHOWN]: "…" for name in named})}


def _shown(argument: object) -> str:
    # Stripped before it is cut, or a cut could hide the @ that marks a password.
    readable = isinstance(argument, str) and len(argument) <= LONGEST_REFERENCE
    return shown_reference(argument)[:LONGEST_SHOWN] if isinstance(argument, str) and readable else "…"


class RedactingFormatter(logging.Formatter):
    """Formats a record on one line, a traceback on more, and strips the addresses in both."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        # What others chose, such as a task's id, must not be able to forge a line.
        return "".join(
            c if c.isprintable() else c.encode("unicode_escape").decode() for c in super().formatMessage(record)
        )

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


class NoMessageBodies(logging.Filter):
    """Celery logs messages that it cannot use, whole; they may be other people's. Only the first value stays."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple) and "body" in str(record.msg):
            record.args = (*record.args[:1], *("…" for _ in record.args[1:]))
            record.exc_info = None
        return True


class NoTraceOfGivingBack(logging.Filter):
    """Celery shows where a task gave its message back. That is no fault, and it happens to each job of a deploy."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and type(record.exc_info[1]).__name__ == "Reject":
            record.exc_info, record.levelno, record.levelname = None, logging.INFO, "INFO"
        return True


def configure(level: int | str = logging.INFO, file: str | None = None) -> None:
    """Send every log line to stderr, or to a file, redacted. Replaces the handlers that stand."""
    handler = logging.FileHandler(file, encoding="utf-8") if file else logging.StreamHandler()
    handler.setFormatter(RedactingFormatter(FORMAT))
    handler.addFilter(NoMessageBodies())
    handler.addFilter(NoTraceOfGivingBack())
    logging.basicConfig(level=level, handlers=[handler], force=True)
