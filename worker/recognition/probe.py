"""A second of a tone: the shortest recognition that is a real one.

It warms a connection up, and it is what the self-test lets the service hear. It has no words, so that it ends well is
all that it tells.
"""

import contextlib
import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from worker.recognition.conversation import Chunk
from worker.recognition.errors import ConnectionLost, DeadlinePassed, UpstreamSilent
from worker.recognition.recognizer import Recognizer


def hear_tone(
    recognizer: Recognizer,
    *,
    model: str,
    parameters: Mapping[str, Any],
    resources: Sequence[Mapping[str, Any]] = (),
    spacing: float = 0.0,
    deadline: float,
) -> None:
    """Run one task to its end: ten chunks of a tone, `spacing` seconds apart, at the `sample_rate` of the parameters.

    Raises what `Recognizer.transcribe` raises: NoSpeech, too, when the service calls the tone a failed task.
    """
    events = recognizer.transcribe(
        model=model,
        parameters=parameters,
        resources=resources,
        chunks=tone(parameters["sample_rate"], spacing=spacing),
        deadline=deadline,
    )
    with contextlib.closing(events):
        for _ in events:
            pass


def warm_up(recognizer: Recognizer, model: str, *, deadline: float) -> None:
    """Let a new recognizer do its first task, so that no job has to. Afterwards it is reusable.

    Raises what `hear_tone` raises, but never DeadlinePassed: that would speak of a job, which there is none of.
    """
    parameters = {"format": "pcm", "sample_rate": 8000 if "-8k-" in model else 16000}  # the service's model list
    try:
        hear_tone(recognizer, model=model, parameters=parameters, deadline=deadline)
    except DeadlinePassed:
        raise UpstreamSilent("the warm-up task did not end in time") from None
    if not recognizer.is_reusable():
        raise ConnectionLost("at the end of the warm-up task")


def tone(rate: int, *, spacing: float = 0.0, hertz: float = 440.0) -> Iterator[Chunk]:
    """A second of a tone as mono 16-bit PCM, in ten chunks; `rate` in samples per second."""
    step = 2 * math.pi * hertz / rate
    size = rate // 10
    for number in range(10):
        samples = (round(8000 * math.sin(step * at)) for at in range(number * size, (number + 1) * size))
        yield Chunk(due=number * spacing, data=array("h", samples).tobytes())
