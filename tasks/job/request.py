"""What travels on the queue: a job's arguments, checked."""

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.errors import BadInput

DEFAULT_MODEL = "paraformer-realtime-v2"

NOT_YET = ("start_ms", "end_ms", "formats", "callback_url", "idempotency_key")
"""Options of the interface that this version does not carry out yet; asking for one is refused, never ignored."""


MOST_BYTES = 64 * 1024
"""How large `metadata` and `parameters` may be, as JSON: they come back in the result and stay in Redis."""

LONGEST_NAME = 80
"""Characters of an option's name that a sentence repeats."""

OURS = ("format", "sample_rate")
"""Vendor parameters that follow from how we send the audio."""


class JobRequest(BaseModel):
    """One job, as a client sends it: `send_task("tasks.transcribe", args=[audio], kwargs={…})`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    audio: str
    model: str = Field(DEFAULT_MODEL, min_length=1, max_length=200)
    language_hints: list[str] | None = None
    vocabulary_id: str | None = None
    phrase_id: str | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    pace: float = Field(1.0, ge=0, le=100, allow_inf_nan=False)
    start_ms: int | None = Field(None, ge=0)
    end_ms: int | None = Field(None, ge=0)
    channels: Literal["mix", "split"] = "mix"
    formats: list[Literal["txt", "srt", "vtt", "tsv"]] = Field(default_factory=list)
    live: bool = False
    callback_url: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    account: str | None = Field(None, min_length=1, max_length=40)
    tenant: str = Field("", max_length=64)
    idempotency_key: str | None = None

    @property
    def sample_rate(self) -> int:
        """Hertz that the model hears: 8000 for the models of telephone audio, else 16000 (the service's model list)."""
        return 8000 if "-8k-" in self.model else 16000

    def wire_parameters(self) -> dict[str, Any]:
        """The vendor's `parameters` of run-task: ours, overlaid with what the job asked for."""
        own: dict[str, Any] = {"format": "pcm", "sample_rate": self.sample_rate}
        if not self.model.endswith("-v1"):
            # Without it the service gives up after 60 s of silent audio; music on hold is longer. First models lack it.
            own["heartbeat"] = True
        if self.language_hints is not None:
            own["language_hints"] = self.language_hints
        if self.vocabulary_id is not None:
            own["vocabulary_id"] = self.vocabulary_id
        return own | self.parameters

    def wire_resources(self) -> tuple[dict[str, str], ...]:
        """The vendor's `resources` of run-task: the hot words of the first Paraformer models."""
        return ({"resource_id": self.phrase_id, "resource_type": "asr_phrase"},) if self.phrase_id else ()

    @classmethod
    def parse(cls, args: tuple[Any, ...], options: dict[str, Any]) -> "JobRequest":
        """The request in a task's arguments.

        Raises:
            BadInput: an option is unknown, missing, of the wrong type, out of range or not carried out yet.
        """
        if len(args) > 1:
            raise BadInput(
                "bad_request", f"{len(args)} positional arguments were given; give one, the audio reference."
            )
        if args and "audio" in options:
            raise BadInput("bad_request", "The audio was given twice; give it once, as the first argument.")
        try:
            request = cls(**dict(zip(["audio"], args, strict=False)), **options)
        except ValidationError as error:
            raise BadInput("bad_request", _sentence(error)) from None
        return request._carried_out()

    def _carried_out(self) -> "JobRequest":
        _check_json("metadata", self.metadata)
        _check_json("parameters", self.parameters)
        for name in OURS:
            if name in self.parameters:
                raise BadInput(
                    "bad_request", f"parameters.{name} cannot be set: audio of any format is converted; leave it out."
                )
        asked = [name for name in NOT_YET if getattr(self, name) not in (None, [])]
        if self.channels != "mix":
            asked.append("channels='split'")
        if asked:
            raise BadInput("unsupported_option", f"{asked[0]} is not supported by this version; leave it out.")
        return self


def _check_json(name: str, value: dict[str, Any]) -> None:
    """Refuse now what would break the result, or the request to the service, after the audio was paid for."""
    try:
        size = len(json.dumps(value, allow_nan=False, ensure_ascii=False).encode())
    except (TypeError, ValueError, RecursionError):  # UnicodeEncodeError is a ValueError
        raise BadInput("bad_request", f"{name} is not valid: it must be plain JSON.") from None
    if size > MOST_BYTES:
        raise BadInput("bad_request", f"{name} is {size} bytes as JSON; at most {MOST_BYTES} are allowed.")


def _sentence(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
    name = ascii(".".join(str(part) for part in problem["loc"]))[1:-1][:LONGEST_NAME]
    if not name:
        return "The name of an option is not valid: it must be plain text."
    if problem["type"] == "extra_forbidden":
        known = ", ".join(option for option in JobRequest.model_fields if option not in NOT_YET)
        return f"{name} is not an option of this task; the options are {known}."
    if problem["type"] == "missing":
        return f"{name} is missing; give it as the first argument."
    return f"{name} is not valid: {problem['msg'][0].lower()}{problem['msg'][1:]}."
