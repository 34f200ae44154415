"""What travels on the queue: a job's arguments, checked."""

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.checks import check_json, sentence
from tasks.errors import BadInput
from tasks.job.callback import check_address

DEFAULT_MODEL = "paraformer-realtime-v2"

LONGEST_KEY = 255
"""Characters of an `idempotency_key`."""

WORK = {
    "model",
    "language_hints",
    "vocabulary_id",
    "phrase_id",
    "parameters",
    "start_ms",
    "end_ms",
    "channels",
    "formats",
}
"""Options that decide on the transcript."""

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
    end_ms: int | None = Field(None, gt=0)
    channels: Literal["mix", "split"] = "mix"
    formats: list[Literal["txt", "srt", "vtt", "tsv"]] = Field(default_factory=list)
    live: bool = False
    callback_url: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    account: str | None = Field(None, min_length=1, max_length=40)
    tenant: str = Field("", max_length=64)
    idempotency_key: str | None = Field(None, min_length=1, max_length=LONGEST_KEY)
    deduplicate: bool = False

    @property
    def sample_rate(self) -> int:
        """Hertz that the model hears: 8000 for the models of telephone audio, else 16000 (the service's model list)."""
        return 8000 if "-8k-" in self.model else 16000

    def work(self) -> str:
        """What decides on the transcript, apart from the audio: requests that are alike in this do the same work."""
        return json.dumps(self.model_dump(include=WORK), sort_keys=True)

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
            BadInput: an option is unknown, missing, of the wrong type or out of range.
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
            raise BadInput("bad_request", sentence(error, cls)) from None
        request._check()
        return request

    def _check(self) -> None:
        if self.callback_url is not None:
            check_address(self.callback_url)
        check_json("metadata", self.metadata)
        check_json("parameters", self.parameters)
        for name in OURS:
            if name in self.parameters:
                raise BadInput(
                    "bad_request", f"parameters.{name} cannot be set: audio of any format is converted; leave it out."
                )
        if self.start_ms is not None and self.end_ms is not None and self.end_ms <= self.start_ms:
            raise BadInput("bad_request", f"end_ms={self.end_ms} must be more than start_ms={self.start_ms}.")
