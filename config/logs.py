"""Log format and redaction.

What must never be logged (keys, signed queries, credentials, transcripts) is best not handed to a logger at all; the
formatter here is the second line of defence, for texts of libraries that hold an address.
"""

import logging
import re

FORMAT = "%(asctime)s %(levelname)-7s %(process)d %(name)s: %(message)s"

_ADDRESS = re.compile(
    r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?:[^\s/@'\"]*@)?(?P<place>[^\s?#'\"<>]*)(?:[?#][^\s'\"<>]*)?", re.IGNORECASE
)
_DATA = re.compile(r"\bdata:[^\s'\"]*", re.IGNORECASE)


def redacted(text: str) -> str:
    """`text` with every address in it stripped of credentials, query and fragment."""
    return _DATA.sub("data:…", _ADDRESS.sub(lambda found: found["scheme"] + found["place"], text))


class RedactingFormatter(logging.Formatter):
    """Formats a record, tracebacks included, and strips its addresses."""

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


def configure(level: int | str = logging.INFO) -> None:
    """Send every log line to stderr, redacted. Replaces the handlers that stand."""
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter(FORMAT))
    logging.basicConfig(level=level, handlers=[handler], force=True)
