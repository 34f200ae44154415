"""A job's callback: who is told of its end, what he is told, and how far that has come in Redis.

    the job is taken          it ends           the receiver has it, or never will
    ────────────────▶ wished ─────────▶ due ───────────────────────────────────────▶ gone
                                        │ ▲
                                        └─┘ a try that failed

It has a key of its own, which lives no longer than it is needed: the address is nobody else's business. What has
become of it stands in the job's hash.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tasks.checks import check_json
from tasks.compact import compact
from tasks.errors import BadInput
from worker.script import Value

LONGEST_ADDRESS = 2048


def kept(at: int) -> str:
    """The lines of a script that keep what it is given of a callback: ARGV[at] words, which follow there. Afterwards
    `rest` is the number of the argument behind them.
    """
    return f"""
local rest = {at + 1} + ARGV[{at}]
if rest > {at + 1} then redis.call('HSET', KEYS[6], unpack(ARGV, {at + 1}, rest - 1)) end
"""


def falls_due(head: str, delivery: str) -> str:
    """The lines of a script that make the callback due, once the job's hash tells of its end. `head` and `delivery` are
    its own expressions in Lua. The result, which may be large, is in Redis already.
    """
    return f"""
local metadata = redis.call('HGET', KEYS[6], 'metadata')
if metadata and {head} ~= '' then
    local result = redis.call('HGET', KEYS[1], 'result') or 'null'
    redis.call('HSET', KEYS[6], 'delivery_id', {delivery}, 'next_at', redis.call('TIME')[1],
        'body', {head} .. '"result":' .. result .. ',"metadata":' .. metadata .. '}}')
    redis.call('HSET', KEYS[1], 'callback', 'due')
end
"""


def check_address(url: object) -> None:
    """Whether it can be called. Raises BadInput, whose text never quotes it: it may hold a token."""
    if not isinstance(url, str):
        raise _invalid("it must be a text")
    if len(url) > LONGEST_ADDRESS:
        raise _invalid(f"it is {len(url)} characters long; at most {LONGEST_ADDRESS} are allowed")
    if not (url.isascii() and url.isprintable()) or " " in url:
        raise _invalid("it holds a character that no address can have; percent-encode it")
    try:
        parts = urlsplit(url)
        is_whole = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a half bracket
        raise _invalid("its host or port cannot be read") from None
    if not is_whole or parts.scheme not in ("https", "http"):
        raise _invalid("it must be an address such as https://host/path")
    if "@" in parts.netloc:
        raise _invalid("it holds a name or a password; let its receiver check the signature instead")


def _invalid(why: str) -> BadInput:
    return BadInput("invalid_callback", f"callback_url is not valid: {why}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Callback:
    """Whom to tell of a job's end. `metadata` is JSON, and echoed; `queue` is the one that the job came by."""

    url: str = field(repr=False)
    metadata: bytes = field(default=b"{}", repr=False)
    queue: str = ""

    @classmethod
    def of(cls, options: Mapping[str, Any], queue: str) -> "Callback | None":
        """What a job asks for by its options, whatever is wrong with the others; its metadata, if it can be echoed.
        None: it asks for no callback, or for one that cannot be.
        """
        url, metadata = options.get("callback_url"), options.get("metadata")
        try:
            check_address(url)
        except BadInput:
            return None
        return cls(url=str(url), metadata=_echoed(metadata), queue=queue)

    def wish(self) -> tuple[Value, ...]:
        """What Redis keeps of it while the job lives, so that whoever ends the job can make it due."""
        return ("url", self.url, "metadata", self.metadata, "queue", self.queue)


def _echoed(metadata: object) -> bytes:
    if not isinstance(metadata, dict):
        return b"{}"
    try:
        check_json("metadata", metadata)
    except BadInput:
        return b"{}"
    return compact(metadata, "replace")


def ending(job_id: str, told: Mapping[str, Value], ended_at: float) -> tuple[bytes, str]:
    """What `falls_due` needs of one end of a job: the body up to the result, and the id of its delivery, new."""
    delivery = uuid.uuid4().hex
    fields: dict[str, Any] = {
        "delivery_id": delivery,
        "job_id": job_id,
        "state": told["state"],
        "error_code": told.get("error_code"),
        "error": told.get("error"),
        "ended_at": ended_at,
    }
    return compact(fields, "replace")[:-1] + b",", delivery
