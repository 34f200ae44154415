"""What is asked of a text model, and what it answers. Pure: knows no socket and no clock."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from worker.generation.errors import Garbled, refusal
from worker.recognition import MissingApiKey

PATH: Final = "/services/aigc/text-generation/generation"
"""Where, below the service's base address."""

CUT: Final = "length"
"""Why an answer ended that had more to say."""

LONGEST_WAIT: Final = 3600.0
"""Seconds. A service that asks for more is not taken at its word."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """In whose name a model is asked."""

    api_key: str = field(repr=False)
    workspace_id: str | None = None

    def headers(self) -> dict[str, str]:
        """Raises MissingApiKey."""
        if not self.api_key:
            raise MissingApiKey
        headers = {
            "Authorization": f"Bearer {self.api_key}",
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "stenopool",
        }
        return headers | ({"X-DashScope-WorkSpace": self.workspace_id} if self.workspace_id else {})


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """One request. `parameters` are the vendor's."""

    model: str
    text: str = field(repr=False)
    system: str = field(default="", repr=False)
    parameters: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def encode(self) -> bytes:
        """The request's body; the same prompt gives the same bytes."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        messages.append({"role": "user", "content": self.text})
        parameters = {**self.parameters, "result_format": "message"}
        body = {"model": self.model, "input": {"messages": messages}, "parameters": parameters}
        return json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What came back over HTTP. `retry_after` is that header's value in seconds."""

    status: int
    body: bytes = field(repr=False)
    retry_after: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a model said. `is_cut`: it had more to say than it is allowed in one answer."""

    text: str = field(repr=False)
    input_tokens: int = 0
    output_tokens: int = 0
    is_cut: bool = False


def decode(reply: Reply, prompt: Prompt) -> Answer:
    """The answer in a reply.

    Raises:
        RecognitionError: the service refused, or what it sent is no answer.
    """
    try:
        body = json.loads(reply.body)
    except (ValueError, RecursionError):
        body = None
    fields: dict[str, Any] = body if isinstance(body, dict) else {}
    if reply.status != 200 or fields.get("code"):
        code, message = (str(fields.get(name) or "") for name in ("code", "message"))
        raise refusal(
            reply.status, code, message, retry_after=reply.retry_after, asked=f"{prompt.system}\n{prompt.text}"
        )
    try:
        choice = fields["output"]["choices"][0]
        text = choice["message"]["content"]
        if not isinstance(text, str):
            raise TypeError
    except (KeyError, IndexError, TypeError):
        raise Garbled("it has no text" if fields else "it is not JSON") from None
    tokens = _tokens(fields.get("usage"))
    return Answer(text=text, is_cut=choice.get("finish_reason") == CUT, **tokens)


def _tokens(usage: Any) -> dict[str, int]:
    counts = usage if isinstance(usage, dict) else {}
    found = {name: counts.get(name) for name in ("input_tokens", "output_tokens")}
    return {name: count if isinstance(count, int) else 0 for name, count in found.items()}


def seconds(header: str | None) -> float | None:
    """The value of a Retry-After header; None without one, or for a date, which depends on whose clock is right."""
    try:
        asked = float(header or "")
    except ValueError:
        return None
    return min(asked, LONGEST_WAIT) if asked >= 0 else None
