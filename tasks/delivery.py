"""One try to deliver a job's callback: what is due is signed, posted, and how that went is noted.

Errors never carry the text of the exception below: urllib3's hold the whole address, and with it perhaps a token.
"""

import hashlib
import hmac
import logging
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime

import urllib3
from urllib3.exceptions import (
    HTTPError,
    LocationValueError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.exceptions import TimeoutError as TookTooLong

from config.callback import CallbackSettings
from tasks.job.outbox import SLOWEST, Due, Later, Outbox
from worker.http import ForbiddenAddress, HttpPool
from worker.patience import alarm

MOST_READ = 4096
"""Bytes of an answer that are read, so that its connection can be used again. A longer one costs the connection."""

PASSING = frozenset({408, 429})
"""Refusals that pass, beside all faults of a server."""

FAULTS: tuple[tuple[type[Exception], str], ...] = (
    (SSLError, "No secure connection to its receiver: check the certificate."),
    (NameResolutionError, "Its host is not known."),
    (NewConnectionError, "Its receiver takes no connection."),
    (ReadTimeoutError, "Its receiver did not answer in time."),
    (TookTooLong, "Its receiver took no connection in time."),
    (TimeoutError, "Its receiver did not take the whole body in time."),
    (Exception, "Its receiver hung up without an answer."),
)
"""What is said of a fault. A certificate may be renewed, a name be known again: all of them pass."""

log = logging.getLogger("worker.tasks")


class NotTaken(Exception):
    """Raised when the receiver did not take a callback. `why` does not name it; `passes`: a later try may do better,
    `retry_after` seconds from now, if it said so.
    """

    def __init__(self, why: str, *, passes: bool, retry_after: float = 0.0) -> None:
        super().__init__(why)
        self.why = why
        self.passes = passes
        self.retry_after = retry_after


def run(outbox: Outbox, http: HttpPool, rules: CallbackSettings) -> float | None:
    """Try once, if there is anything to be delivered. Seconds until there should be another try; None: no more.

    Raises:
        JobError: Redis does not answer, or refuses.
    """
    found = outbox.take(rules.timeout)
    if found is None:
        return None
    if isinstance(found, Later):
        return found.seconds + random.uniform(0.1, 0.5)
    try:
        _check(found, rules)
        post(http, found, rules)
    except NotTaken as error:
        return _failed(outbox, found, error, rules)
    outbox.delivered()
    log.info("job %s: its callback was delivered, try %d", outbox.job_id, found.tries)
    return None


def post(http: HttpPool, due: Due, rules: CallbackSettings) -> None:
    """Send it. Raises NotTaken, unless the receiver says that it has it."""
    seconds = rules.timeout + len(due.body) / SLOWEST
    secret = rules.secret.get_secret_value() if rules.secret else ""
    try:
        with alarm(seconds + rules.timeout):
            response = http.request(
                "POST",
                due.url,
                headers=_headers(due, secret),
                body=due.body,
                connect_timeout=seconds,
                read_timeout=rules.timeout,
            )
    except ForbiddenAddress as error:
        cure = "; STENOPOOL_AUDIO_ALLOW_PRIVATE=true allows private networks" if error.allowable else ""
        raise NotTaken(f"Its host is at an address that is not allowed{cure}.", passes=False) from None
    except (HTTPError, OSError) as error:  # OSError: the alarm's
        raise _unreached(error) from None
    _read(response, rules.timeout)
    _judge(response.status, response.headers)


def signature(body: bytes, secret: str) -> str:
    """What proves to the receiver that exactly this body is ours."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def retry_after(value: str | None) -> float:
    """The seconds, or the moment, of a header `Retry-After`; 0 if it says nothing of use."""
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    with suppress(ValueError, TypeError, OverflowError):
        moment: datetime = parsedate_to_datetime(text)
        return max(0.0, moment.timestamp() - time.time())
    return 0.0


def _check(due: Due, rules: CallbackSettings) -> None:
    if rules.secret is None:
        raise NotTaken("This worker cannot sign it: set STENOPOOL_CALLBACK_SECRET for all workers.", passes=True)
    if due.tries > rules.retries + 1:
        raise NotTaken("The worker was lost in each try.", passes=False)


def _failed(outbox: Outbox, due: Due, error: NotTaken, rules: CallbackSettings) -> float | None:
    """Leave it to another try, if one may help and there has not been enough of that; else give it up."""
    if not error.passes or due.tries > rules.retries:
        tries = f" (tries: {due.tries})" if error.passes else ""
        outbox.given_up(error.why + tries)
        log.warning("job %s: its callback is given up, try %d: %s", outbox.job_id, due.tries, error.why)
        return None
    seconds = pause(due.tries, error.retry_after, rules)
    outbox.postponed(seconds, error.why)
    log.info("job %s: its callback is tried again in %.1f s: %s", outbox.job_id, seconds, error.why)
    return seconds


def pause(tries: int, asked: float, rules: CallbackSettings) -> float:
    """Seconds until the next try after so many: full jitter, so that what failed together does not come back together;
    and not before the receiver said, unless that is too late.
    """
    most = min(rules.backoff_max, rules.backoff * 2.0 ** (tries - 1))
    return min(rules.backoff_max, asked) + random.uniform(0, most)


def _headers(due: Due, secret: str) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "User-Agent": "stenopool",
        "Accept-Encoding": "identity",
        "X-Stenopool-Delivery": due.delivery,
        "X-Stenopool-Signature": signature(due.body, secret),
    }


def _read(response: urllib3.BaseHTTPResponse, seconds: float) -> None:
    """A little of the answer's body, for which nobody cares: with its end the connection comes free."""
    left, until = MOST_READ, time.monotonic() + seconds
    try:
        while left > 0 and time.monotonic() < until and (data := response.read1(left)):
            left -= len(data)
    except (HTTPError, OSError):
        pass  # what the receiver says, it has said by its status
    finally:
        response.close()
        response.release_conn()


def _judge(status: int, headers: Mapping[str, str]) -> None:
    if 200 <= status < 300:
        return
    if 300 <= status < 400:
        raise NotTaken(f"Its receiver redirects (status {status}), which is not followed; name the end.", passes=False)
    passes = status in PASSING or status >= 500
    raise NotTaken(
        f"Its receiver answered with status {status}.",
        passes=passes,
        retry_after=retry_after(headers.get("Retry-After")),
    )


def _unreached(error: HTTPError | OSError) -> NotTaken:
    if isinstance(error, LocationValueError):
        return NotTaken("Its address cannot be called.", passes=False)
    cause = next((one for one in error.args if isinstance(one, TimeoutError)), error)  # of what urllib3 calls aborted
    return NotTaken(next(why for kind, why in FAULTS if isinstance(cause, kind)), passes=True)
