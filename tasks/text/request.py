"""What travels on the queue to `tasks.generate`, checked."""

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.checks import check_json, sentence
from tasks.errors import BadInput
from tasks.text.source import text_of
from worker.generation import Prompt

DEFAULT_MODEL = "qwen-plus"

LONGEST_TEXT = 4_000_000
"""Characters. Twelve hours of quick speech have under a million."""

PART_CHARS = 6000
"""About eight minutes of speech, or 4,000 tokens of Chinese: an answer as long as the part fits into any model's."""

MOST_PARTS = 1000
"""Each is a request that is paid for."""

OURS = ("result_format", "incremental_output", "stream", "n")
"""Vendor parameters that follow from how we read the answer."""


class GenerateRequest(BaseModel):
    """One job, as a client sends it: `send_task("tasks.generate", args=[text], kwargs={…})`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    text: str = Field(repr=False, max_length=LONGEST_TEXT)
    instruction: str = Field("", repr=False, max_length=20_000)
    system: str = Field("", repr=False, max_length=20_000)
    model: str = Field(DEFAULT_MODEL, min_length=1, max_length=200)
    parameters: dict[str, Any] = Field(default_factory=dict)
    part_chars: int = Field(PART_CHARS, ge=100, le=1_000_000)
    merge: Literal["join", "reduce"] = "join"
    metadata: dict[str, Any] = Field(default_factory=dict)
    account: str | None = Field(None, min_length=1, max_length=40)

    def prompt(self, part: str) -> Prompt:
        """The request for one part."""
        text = f"{self.instruction}\n\n{part}" if self.instruction else part
        return Prompt(model=self.model, text=text, system=self.system, parameters=self.parameters)

    @classmethod
    def parse(cls, args: tuple[Any, ...], options: dict[str, Any]) -> "GenerateRequest":
        """The request in a task's arguments.

        Raises:
            BadInput: an option is unknown, missing, of the wrong type or out of range, or there is no text.
        """
        if len(args) > 1 or (args and "text" in options):
            raise BadInput("bad_request", "More than one text was given; give one, as the first argument.")
        given = dict(zip(["text"], args, strict=False)) | options
        if "text" in given:
            given["text"] = text_of(given["text"])
        try:
            request = cls(**given)
        except ValidationError as error:
            raise BadInput("bad_request", sentence(error, cls)) from None
        request._check()
        return request

    def _check(self) -> None:
        check_json("metadata", self.metadata)
        check_json("parameters", self.parameters)
        for name in OURS:
            if name in self.parameters:
                raise BadInput(
                    "bad_request", f"parameters.{name} cannot be set: the answer is read as one whole; leave it out."
                )
        least = math.ceil(len(self.text) / MOST_PARTS)
        if self.part_chars < least:
            raise BadInput(
                "bad_request",
                f"part_chars={self.part_chars} would cut the text into more than {MOST_PARTS} parts; give at least "
                f"{least}.",
            )
