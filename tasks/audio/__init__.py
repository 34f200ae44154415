"""From a reference to mono PCM: parse, fetch, decode, pace."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tasks.audio.limits import AudioLimits
from tasks.audio.opening import open_recording
from tasks.audio.recording import Recording
from tasks.audio.reference import AudioReference
from tasks.audio.sources import open_source
from worker.http import HttpPool

__all__ = ["AudioLimits", "AudioReference", "Recording", "open_audio", "open_recording", "open_source"]


@contextmanager
def open_audio(
    reference: AudioReference, *, rate: int, roots: Sequence[Path], http: HttpPool, limits: AudioLimits | None = None
) -> Iterator[Recording]:
    """Open a recording so far that its first sound is decoded; `rate` is in samples per second.

    `file:` references must lie inside one of `roots`. Raises `BadInput` for what trying again would not mend, else
    `Unavailable`.
    """
    limits = limits or AudioLimits()
    with (
        open_source(reference, roots=roots, http=http, limits=limits) as file,
        open_recording(file, rate=rate, limits=limits) as recording,
    ):
        yield recording
