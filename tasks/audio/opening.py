"""From a source's bytes to a recording: read plainly where that is all it takes, else decoded."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from tasks.audio.containers import index_is_last, is_cut
from tasks.audio.decode import DecodedRecording
from tasks.audio.effort import Effort
from tasks.audio.ffmpeg import open_container
from tasks.audio.limits import AudioLimits
from tasks.audio.plain import PlainRecording
from tasks.audio.recording import Recording, no_such_channel, not_streamable, truncated
from tasks.audio.riff import plain_samples
from tasks.audio.sources import AudioFile
from tasks.audio.tap import Tap

__all__ = ["open_decoded", "open_recording"]


@contextmanager
def open_recording(
    file: AudioFile, *, rate: int, limits: AudioLimits | None = None, channel: int | None = None
) -> Iterator[Recording]:
    """Open a recording so far that its first sound can be had at once; `rate` is in samples per second.

    `channel` is the one to hear, counted from 0; None mixes them all. Raises `BadInput` `not_audio`, `no_audio_stream`,
    `unsupported_codec`, `damaged_audio`, `truncated_audio`, `not_streamable`, `empty_audio`, `no_such_channel`,
    `audio_too_long` or `audio_too_slow`; what reading `file` raises comes through as it is.
    """
    tap = Tap(file)
    samples = plain_samples(tap.at, file.size, rate, seekable=tap.seekable())
    tap.check()
    if samples is not None:
        if channel:
            raise no_such_channel(file.shown, 1, channel)
        yield PlainRecording(tap, samples, shown=file.shown, rate=rate, limits=limits or AudioLimits())
        return
    with open_decoded(tap, file, rate=rate, limits=limits, channel=channel) as recording:
        yield recording


@contextmanager
def open_decoded(
    tap: Tap, file: AudioFile, *, rate: int, limits: AudioLimits | None = None, channel: int | None = None
) -> Iterator[DecodedRecording]:
    """The same through FFmpeg, whatever the container holds."""
    limits = limits or AudioLimits()
    _check_whole(tap, file)
    tap.effort = effort = Effort(file.shown, limits.decode_seconds)
    with effort:
        container = open_container(tap, file.shown)
    with closing(container):
        with effort:
            recording = DecodedRecording(
                container, tap, shown=file.shown, rate=rate, limits=limits, effort=effort, channel=channel
            )
        yield recording


def _check_whole(tap: Tap, file: AudioFile) -> None:
    """Compare what the container says of itself with what there is. A cut of a second or so may pass."""
    if not tap.seekable() and index_is_last(tap.at):
        raise not_streamable(file.shown)
    cut = file.size is not None and is_cut(tap.at, file.size)
    tap.check()
    if cut:
        raise truncated(file.shown)
