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

_ADDRESS = re.compile(
    r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?:[^\s/@'\"]*@)?(?P<place>[^\s?#'\"<>]*)(?:[?#][^\s'\"<>]*)?", re.IGNORECASE
)
_DATA = re.compile(r"\bdata:[^\s'\"]*", re.IGNORECASE)


def redacted(text: str) -> str:
    """`text` with every address in it stripped of credentials, query and fragment."""
    return _DATA.sub("data:…", _ADDRESS.sub(lambda found: found["scheme"] + found["place"], text))


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
    # Redacted before it is cut, or a cut could hide the @ that marks a password.
    readable = isinstance(argument, str) and len(argument) <= LONGEST_REFERENCE
    return redacted(argument)[:LONGEST_SHOWN] if isinstance(argument, str) and readable else "…"


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
