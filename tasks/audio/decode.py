"""Any container to mono 16-bit PCM, through FFmpeg and step by step.

FFmpeg gets a Python file object and nothing else: formats that name other files are not on the list, and should one
of the listed ask for another file all the same, it is refused. A recording is accepted only after its first sound is
decoded.
"""

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from tasks.audio.containers import family
from tasks.audio.gaps import TIMED, Gaps
from tasks.audio.limits import AudioLimits
from tasks.audio.mono import STEP, Mono
from tasks.audio.recording import Bounds, silence, truncated
from tasks.audio.riff import bytes_per_second
from tasks.audio.tap import Tap
from tasks.errors import BadInput

__all__ = ["DecodedRecording", "open_container"]

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
_PROBED = 64 * 1024  # bytes of a WAV's PCM that are searched for sound in disguise (DTS and the like)
_SMALL, _LARGE = 2048, 16_384  # bytes of a WAV's packet: few steps, yet the resampler needs 50 bytes for each sample
# Their header counts, others guess.
_EXACT = {"wav", "w64", "aiff", "caf", "flac", "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2"}
_JUMPS = _EXACT - {"matroska,webm"}  # whose times are rounded, and after a jump Opus loses its lead-in anew
_BAD_IN_A_ROW = 25  # packets; a scratch is bridged with silence, a ruin is not
_PREROLL = 1  # seconds decoded before the wanted place: AAC and Opus need some to be in tune


Sound = AudioFrame | int
"""A frame, or in place of what cannot be decoded a number of samples (at the output's rate) of silence."""


class DecodedRecording:
    """A `Recording` that is the first audio stream of a container."""

    def __init__(self, container: InputContainer, tap: Tap, *, shown: str, rate: int, limits: AudioLimits) -> None:
        self._container, self._tap = container, tap
        self._shown, self._rate = shown, rate
        self._stream = self._choose()
        seconds = self._declared()
        self.duration_ms = None if seconds is None else round(seconds * 1000)
        self._bounds = Bounds(shown, rate, seconds, limits, exact=self._is_exact())
        self._bounds.check_declared()
        self._check_end()
        self._batches = self._decode()
        self._first = self._accept()

    def __repr__(self) -> str:
        return f"<Recording {self._container.format.name}, {self._stream.codec_context.name}, {self.duration_ms} ms>"

    def blocks(self, start_ms: int = 0) -> Iterator[bytes]:
        """See `Recording.blocks`."""
        start = start_ms * self._rate // 1000
        batches, position = self._from(start_ms) if start_ms else self._from_the_start()
        if position > 0 and start < position:  # the stream begins later than the recording: silence up to there
            yield from silence(position - start)
        for block in self._pcm(batches):
            kept = block[max(0, start - position) * 2 :]
            position += len(block) // 2
            self._bounds.check_position(position)
            yield kept  # empty up to there, so that whoever waits can look up
        self._bounds.check_complete(position)

    def ready(self) -> bytes:
        """None: to decode takes time."""
        return b""

    # -- opening ---------------------------------------------------------------------------------------------------

    def _choose(self) -> AudioStream:
        if not len(self._container.streams):  # an index that was cut before its first track
            raise truncated(self._shown)
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
        """Whether the declared duration is a count for this very stream."""
        own = bool(self._stream.duration) or not self._container.streams.video
        return own and self._container.format.name in _EXACT

    def _check_end(self) -> None:
        """A FLAC's header counts samples, not bytes: only a look at its end tells that it is cut.

        It costs a few seeks.
        """
        seconds = self._bounds.seconds
        if self._container.format.name != "flac" or not self._tap.seekable() or seconds is None:
            return
        assert self._stream.time_base is not None
        before = seconds - self._bounds.tolerance
        if before <= 0:
            return
        self._seek(before)
        last = max((packet.pts for packet in self._packets() if packet.pts is not None), default=0)
        if last * self._stream.time_base < before - 1:
            raise truncated(self._shown)
        self._seek(Fraction(0))

    def _accept(self) -> list[list[Sound]]:
        """All up to the first frame that can be decoded."""
        first: list[list[Sound]] = []
        for batch in self._batches:
            first.append(batch)
            if isinstance(batch[-1], AudioFrame):
                return first
        if self._bounds.seconds is not None and self._bounds.seconds > 1:
            raise self._damaged()
        raise BadInput("empty_audio", f"{self._shown} holds no sound at all; check what was recorded.")

    # -- decoding --------------------------------------------------------------------------------------------------

    def _packets(self) -> Iterator["Packet[AudioStream]"]:
        packets = self._container.demux(self._stream)
        try:
            yield from packets
        except av.FFmpegError:
            self._tap.check()
            raise self._damaged() from None
        self._tap.check()  # FFmpeg takes our error for the end of the file

    def _decode(self) -> Iterator[list[Sound]]:
        """Sounds in batches of about STEP, none of them empty; the first ends with the first frame."""
        batch: list[Sound] = []
        bad, samples, enough = 0, 0, 0
        for packet in self._packets():
            try:
                frames = packet.decode()
            except av.FFmpegError:
                self._tap.check()
                bad += 1
                if bad > _BAD_IN_A_ROW:
                    raise self._damaged() from None
                batch.append(self._length(packet))
                continue
            for frame in frames:
                bad = 0
                if count := frame.samples:
                    batch.append(frame)
                    samples += count
            if samples > enough:
                self._tap.check()
                yield batch
                batch, samples, enough = [], 0, int(self._stream.sample_rate * STEP)
        if batch:
            yield batch

    def _length(self, packet: "Packet[AudioStream]") -> int:
        return int((packet.duration or 0) * (packet.time_base or 0) * self._rate)

    def _pcm(self, batches: Iterator[list[Sound]]) -> Iterator[bytes]:
        mono, gaps = Mono(self._rate), self._gaps()
        try:
            for batch in batches:
                yield from mono.convert(batch if gaps is None else gaps.filled(batch))
            yield from mono.flush()
        except av.FFmpegError:  # frames that contradict themselves, such as a rate of 0
            raise self._damaged() from None

    def _gaps(self) -> Gaps | None:
        if self._container.format.name not in TIMED:
            return None
        begin = float((self._stream.start_time or 0) * (self._stream.time_base or 0))
        seconds = self._bounds.seconds
        return Gaps(self._rate, None if seconds is None else begin + float(seconds))

    # -- places ----------------------------------------------------------------------------------------------------

    def _lead(self) -> int:
        """Samples by which the sound begins later than the recording (a video's first picture, say)."""
        stream, container = self._stream, self._container
        if stream.start_time is None or stream.time_base is None or container.start_time is None:
            return 0
        late = stream.start_time * stream.time_base - Fraction(container.start_time, av.time_base)
        return int(late * self._rate) if late > Fraction(1, 20) else 0

    def _from_the_start(self) -> tuple[Iterator[list[Sound]], int]:
        first, self._first = self._first, []  # decoded frames are large, and this object lives as long as the job
        return chain(first, self._batches), self._lead()

    def _from(self, start_ms: int) -> tuple[Iterator[list[Sound]], int]:
        """Sounds from a little before `start_ms`, and the sample at which they begin.

        Without exact times in the container a jump could land anywhere, so there all is decoded from the start and
        thrown away.
        """
        wanted = Fraction(start_ms, 1000) - _PREROLL
        if wanted <= 0 or not (self._tap.seekable() and self._bounds.exact and self._container.format.name in _JUMPS):
            return self._from_the_start()
        self._first = []
        self._seek(wanted)
        batches = self._decode()
        batch = next(batches, [])
        first = batch[0] if batch else None
        if isinstance(first, AudioFrame) and first.pts is not None and first.time_base is not None:
            time = first.pts * first.time_base - Fraction(self._container.start_time or 0, av.time_base)
            if 0 <= time <= Fraction(start_ms, 1000):
                return chain([batch], batches), round(time * self._rate)
        self._seek(Fraction(0))
        return self._decode(), self._lead()

    def _seek(self, seconds: Fraction) -> None:
        assert self._stream.time_base is not None
        offset = int(seconds / self._stream.time_base) + (self._stream.start_time or 0)
        try:
            self._container.seek(offset, stream=self._stream)
        except av.FFmpegError:
            self._tap.check()
            raise self._damaged() from None
        self._tap.check()

    def _damaged(self) -> BadInput:
        return BadInput(
            "damaged_audio", f"The sound in {self._shown} is damaged and cannot be decoded; export it again."
        )


def open_container(tap: Tap, shown: str) -> InputContainer:
    """FFmpeg's view of the source. Raises `BadInput` `not_audio` or `truncated_audio`, and what reading raises."""
    options = _OPTIONS | _wave_options(tap)
    try:
        container = av.open(tap, "r", options=options, buffer_size=_BLOCK, io_open=_refuse, metadata_errors="replace")
    except (av.FFmpegError, ValueError):
        tap.check()
        raise _unopened(tap, shown) from None
    try:
        tap.check()
    except BaseException:
        container.close()
        raise
    return container


def _wave_options(tap: Tap) -> dict[str, str]:
    """A WAV in packets of about 100 ms: by itself FFmpeg makes small ones, and searches 32 of them."""
    speed = bytes_per_second(tap.at)
    if speed is None:
        return {}
    return {"max_size": str(min(max(_SMALL, speed // 10), _LARGE)), "probesize": str(_PROBED)}


def _refuse(url: str, flags: int, options: dict[str, str]) -> None:
    raise PermissionError("a recording may not open other files")


def _unopened(tap: Tap, shown: str) -> BadInput:
    if family(tap.head) == "mp4":  # an MP4 without its index (moov), which is mostly written last
        return truncated(shown)
    return BadInput(
        "not_audio", f"{shown} is no recording that can be read; send for example WAV, FLAC, MP3, M4A or Ogg."
    )
