"""Any container to mono 16-bit PCM, frame by frame.

FFmpeg gets a Python file object and nothing else: formats that name other files are not on the list, and should one
of the listed ask for another file all the same, it is refused. A recording is accepted only after its first sound is
decoded.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from tasks.audio.containers import family, index_is_last, missing_bytes
from tasks.audio.gaps import TIMED, filled
from tasks.audio.limits import AudioLimits
from tasks.audio.mono import Mono
from tasks.audio.sources import AudioFile
from tasks.audio.tap import Tap
from tasks.errors import BadInput

__all__ = ["Recording", "open_recording"]

# Left out on purpose: hls, concat, dash, image2, sdp, rtsp, lavfi and the like, which open what a file's text names.
_FORMATS = (
    "wav,w64,aiff,au,caf,voc,flac,mp3,aac,ac3,eac3,amr,amrnb,amrwb,ape,wv,tta,gsm,g722,g729,ogg,matroska,webm,"
    "mov,mp4,m4a,3gp,3g2,mj2,asf,avi,flv,mpeg,mpegts,dsf,sox,opus"
)
_OPTIONS = {
    "format_whitelist": _FORMATS,
    "protocol_whitelist": "none",
    "probesize": str(4 * 1024 * 1024),  # bytes
    "formatprobesize": str(1024 * 1024),
    "analyzeduration": "5000000",  # microseconds
}
_BLOCK = 32 * 1024  # bytes; a live source can start as soon as it has given that
_EXACT = {
    "wav",
    "w64",
    "aiff",
    "caf",
    "flac",
    "matroska,webm",
    "mov,mp4,m4a,3gp,3g2,mj2",
}  # their header counts, others guess
_JUMPS = _EXACT - {"matroska,webm"}  # whose times are rounded, and after a jump Opus loses its lead-in anew
_BAD_IN_A_ROW = 25  # packets; a scratch is bridged with silence, a ruin is not
_PREROLL = 1  # seconds decoded before the wanted place: AAC and Opus need some to be in tune


@contextmanager
def open_recording(file: AudioFile, *, rate: int, limits: AudioLimits | None = None) -> Iterator["Recording"]:
    """Open a container so far that its first sound is decoded; `rate` is in samples per second.

    Raises `BadInput` `not_audio`, `no_audio_stream`, `unsupported_codec`, `damaged_audio`, `truncated_audio`,
    `not_streamable`, `empty_audio` or `audio_too_long`; what reading `file` raises comes through as it is.
    """
    tap = Tap(file)
    _check_whole(tap, file)
    container = _open(tap, file)
    try:
        yield Recording(container, tap, file, rate=rate, limits=limits or AudioLimits())
    finally:
        container.close()


class Recording:
    """The first audio stream of a container.

    Times count from the start of the recording, whichever stream begins it.
    """

    duration_ms: int | None
    """As the container declares it, None if it does not; for MP3, ADTS and the like an estimate."""

    def __init__(self, container: InputContainer, tap: Tap, file: AudioFile, *, rate: int, limits: AudioLimits) -> None:
        self._container, self._tap, self._limits = container, tap, limits
        self._shown, self._rate = file.shown, rate
        self._stream = self._choose()
        self._seconds = self._declared()
        self.duration_ms = None if self._seconds is None else round(self._seconds * 1000)
        self._check_length()
        self._check_end()
        self._sounds = self._decode()
        self._first = self._accept()

    def __repr__(self) -> str:
        return f"<Recording {self._container.format.name}, {self._stream.codec_context.name}, {self.duration_ms} ms>"

    def blocks(self, start_ms: int = 0) -> Iterator[bytes]:
        """Mono little-endian 16-bit PCM from `start_ms` on, in blocks as they are decoded. To be asked for once.

        Raises `BadInput` `damaged_audio`, `truncated_audio`, `audio_too_long`; what reading the source raises comes
        through as it is.
        """
        start = start_ms * self._rate // 1000
        sounds, position = self._from(start_ms) if start_ms else (chain(self._first, self._sounds), self._lead())
        if position > 0 and start < position:  # the stream begins later than the recording: silence up to there
            yield from _silence(position - start)
        for block in self._pcm(self._without_holes(sounds)):
            samples = len(block) // 2
            kept = block[max(0, start - position) * 2 :]
            position += samples
            self._check_position(position)
            if kept:
                yield kept
        self._check_complete(position)

    # -- opening ---------------------------------------------------------------------------------------------------

    def _choose(self) -> AudioStream:
        if not len(self._container.streams):  # an index that was cut before its first track
            raise _truncated(self._shown)
        if not self._container.streams.audio:
            raise BadInput("no_audio_stream", f"{self._shown} holds no sound track; choose a recording that has one.")
        stream = self._container.streams.audio[0]
        if stream.codec_context is None:
            raise BadInput(
                "unsupported_codec", f"No decoder for the sound in {self._shown}; convert it, for example to FLAC."
            )
        # A decoder thread per core for each of hundreds of recordings would be too many.
        stream.codec_context.thread_count = 1
        return stream

    def _declared(self) -> Fraction | None:
        """Seconds of the sound track as far as anything says them."""
        if self._stream.duration and self._stream.time_base:
            return self._stream.duration * self._stream.time_base
        return Fraction(self._container.duration, av.time_base) if self._container.duration else None

    def _is_exact(self) -> bool:
        """Whether the declared duration is a count for this very stream, so that falling short of it is a loss."""
        own = bool(self._stream.duration) or not self._container.streams.video
        return self._seconds is not None and own and self._container.format.name in _EXACT

    def _check_length(self) -> None:
        # An estimate may be half as long again as the truth; the decoder's count has the last word.
        allowed = self._limits.max_seconds * (1 if self._is_exact() else 1.5)
        if self._seconds is not None and self._seconds > allowed:
            raise self._too_long()

    def _check_end(self) -> None:
        """A FLAC's header counts samples, not bytes: only a look at its end tells that it is cut.

        It costs a few seeks.
        """
        if self._container.format.name != "flac" or not self._tap.seekable() or not self._is_exact():
            return
        assert self._seconds is not None and self._stream.time_base is not None
        before = self._seconds - _tolerance(self._seconds)
        if before <= 0:
            return
        self._seek(before)
        last = max((packet.pts for packet in self._packets() if packet.pts is not None), default=0)
        if last * self._stream.time_base < before - 1:
            raise _truncated(self._shown)
        self._seek(Fraction(0))

    def _accept(self) -> list[AudioFrame | int]:
        """All up to the first frame that can be decoded."""
        first: list[AudioFrame | int] = []
        for sound in self._sounds:
            first.append(sound)
            if isinstance(sound, AudioFrame):
                return first
        if self._seconds is not None and self._seconds > 1:
            raise self._damaged()
        raise BadInput("empty_audio", f"{self._shown} holds no sound at all; check what was recorded.")

    # -- decoding --------------------------------------------------------------------------------------------------

    def _packets(self) -> Iterator["Packet[AudioStream]"]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                self._tap.check()
                raise self._damaged() from None
            self._tap.check()  # FFmpeg takes our error for the end of the file
            if packet is None:
                return
            yield packet

    def _decode(self) -> Iterator[AudioFrame | int]:
        """Frames, and in place of what cannot be decoded a number of samples (at the output's rate) of silence."""
        bad = 0
        for packet in self._packets():
            try:
                frames = packet.decode()
            except av.FFmpegError:
                self._tap.check()
                bad += 1
                if bad > _BAD_IN_A_ROW:
                    raise self._damaged() from None
                yield self._length(packet)
                continue
            bad = 0 if frames else bad
            yield from (frame for frame in frames if frame.samples)

    def _length(self, packet: "Packet[AudioStream]") -> int:
        return int((packet.duration or 0) * (packet.time_base or 0) * self._rate)

    def _without_holes(self, sounds: Iterator[AudioFrame | int]) -> Iterator[AudioFrame | int]:
        if self._container.format.name not in TIMED:
            return sounds
        begin = float((self._stream.start_time or 0) * (self._stream.time_base or 0))
        return filled(sounds, self._rate, None if self._seconds is None else begin + float(self._seconds))

    def _pcm(self, sounds: Iterator[AudioFrame | int]) -> Iterator[bytes]:
        mono = Mono(self._rate)
        try:
            for sound in sounds:
                yield from _silence(sound) if isinstance(sound, int) else mono.convert(sound)
            yield from mono.flush()
        except av.FFmpegError:  # frames that contradict themselves, such as a rate of 0
            raise self._damaged() from None

    # -- places ----------------------------------------------------------------------------------------------------

    def _lead(self) -> int:
        """Samples by which the sound begins later than the recording (a video's first picture, say)."""
        stream, container = self._stream, self._container
        if stream.start_time is None or stream.time_base is None or container.start_time is None:
            return 0
        late = stream.start_time * stream.time_base - Fraction(container.start_time, av.time_base)
        return int(late * self._rate) if late > Fraction(1, 20) else 0

    def _from(self, start_ms: int) -> tuple[Iterator[AudioFrame | int], int]:
        """Sounds from a little before `start_ms`, and the sample at which they begin.

        Without exact times in the container a jump could land anywhere, so there all is decoded from the start and
        thrown away.
        """
        wanted = Fraction(start_ms, 1000) - _PREROLL
        if wanted > 0 and self._tap.seekable() and self._is_exact() and self._container.format.name in _JUMPS:
            self._seek(wanted)
            sounds = self._decode()
            first = next(sounds, None)
            if isinstance(first, AudioFrame) and first.pts is not None and first.time_base is not None:
                time = first.pts * first.time_base - Fraction(self._container.start_time or 0, av.time_base)
                if 0 <= time <= Fraction(start_ms, 1000):
                    return chain([first], sounds), round(time * self._rate)
            self._seek(Fraction(0))
            return self._decode(), self._lead()
        return chain(self._first, self._sounds), self._lead()

    def _seek(self, seconds: Fraction) -> None:
        assert self._stream.time_base is not None
        offset = int(seconds / self._stream.time_base) + (self._stream.start_time or 0)
        try:
            self._container.seek(offset, stream=self._stream)
        except av.FFmpegError:
            self._tap.check()
            raise self._damaged() from None
        self._tap.check()

    # -- judging ---------------------------------------------------------------------------------------------------

    def _check_position(self, position: int) -> None:
        if position > self._limits.max_seconds * self._rate:
            raise self._too_long()

    def _check_complete(self, position: int) -> None:
        if self._seconds is None or not self._is_exact():
            return
        missing = self._seconds - Fraction(position, self._rate)
        if missing > _tolerance(self._seconds):
            raise _truncated(self._shown)

    def _too_long(self) -> BadInput:
        hours = self._limits.max_seconds / 3600
        return BadInput("audio_too_long", f"{self._shown} is longer than the {hours:g} hours allowed; split it.")

    def _damaged(self) -> BadInput:
        return BadInput(
            "damaged_audio", f"The sound in {self._shown} is damaged and cannot be decoded; export it again."
        )


def _tolerance(seconds: Fraction) -> Fraction:
    return max(Fraction(1), seconds / 50)


def _silence(samples: int) -> Iterator[bytes]:
    for at in range(0, samples, _BLOCK):
        yield bytes(min(_BLOCK, samples - at) * 2)


def _check_whole(tap: Tap, file: AudioFile) -> None:
    """Compare what the container says of itself with what there is. A cut of a second or so may pass."""
    if not tap.seekable() and index_is_last(tap.at):
        raise BadInput(
            "not_streamable",
            f"{file.shown} has its index at the end and its server gives no byte ranges; convert it with +faststart.",
        )
    declared, missing = missing_bytes(tap.at, file.size) if file.size is not None else (0, 0)
    tap.check()
    # About a second: a film's or an M4A's bytes hold more of it than PCM's.
    if missing > max(declared // 50, 8 * 1024 if family(tap.head) == "mp4" else 32 * 1024):
        raise _truncated(file.shown)


def _open(tap: Tap, file: AudioFile) -> InputContainer:
    try:
        container = av.open(tap, "r", options=_OPTIONS, buffer_size=_BLOCK, io_open=_refuse, metadata_errors="replace")
    except (av.FFmpegError, ValueError):
        tap.check()
        raise _unopened(tap, file) from None
    try:
        tap.check()
    except BaseException:
        container.close()
        raise
    return container


def _refuse(url: str, flags: int, options: dict[str, str]) -> None:
    raise PermissionError("a recording may not open other files")


def _unopened(tap: Tap, file: AudioFile) -> BadInput:
    if family(tap.head) == "mp4":  # an MP4 without its index (moov), which is mostly written last
        return _truncated(file.shown)
    return BadInput(
        "not_audio", f"{file.shown} is no recording that can be read; send for example WAV, FLAC, MP3, M4A or Ogg."
    )


def _truncated(shown: str) -> BadInput:
    return BadInput(
        "truncated_audio", f"{shown} is cut off: it declares more sound than it holds; upload it again in full."
    )
