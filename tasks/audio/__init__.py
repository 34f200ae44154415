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
from worker.objects import ObjectStores

__all__ = ["AudioLimits", "AudioReference", "Recording", "open_audio", "open_recording", "open_source"]


@contextmanager
def open_audio(
    reference: AudioReference,
    *,
    rate: int,
    roots: Sequence[Path],
    http: HttpPool,
    stores: ObjectStores | None = None,
    limits: AudioLimits | None = None,
    channel: int | None = None,
) -> Iterator[Recording]:
    """Open a recording so far that its first sound is decoded; `rate` is in samples per second.

    `channel` is the one to hear, counted from 0; None mixes them all.
    `file:` references must lie inside one of `roots`. Raises `BadInput` for what trying again would not mend, else
    `Unavailable`.
    """
    limits = limits or AudioLimits()
    with (
        open_source(reference, roots=roots, http=http, stores=stores, limits=limits) as file,
        open_recording(file, rate=rate, limits=limits, channel=channel) as recording,
    ):
        yield recording
