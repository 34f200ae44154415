"""Any container to mono 16-bit PCM, step by step. A recording is accepted only after its first sound is decoded."""

import re
import sys
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from tasks.audio.containers import is_cut
from tasks.audio.effort import Effort
from tasks.audio.gaps import LONGEST, TIMED, Gaps
from tasks.audio.limits import AudioLimits
from tasks.audio.mono import RATES, STEP, Mono
from tasks.audio.packets import MOST_SAMPLES, is_crammed
from tasks.audio.recording import Bounds, no_such_channel, silence, truncated
from tasks.audio.tap import Tap
from tasks.errors import BadInput

__all__ = ["DecodedRecording"]

# Where there are exact times to jump by. Matroska's are rounded, and after a jump Opus loses its lead-in anew.
_JUMPS = {"wav", "w64", "aiff", "caf", "flac", "mov,mp4,m4a,3gp,3g2,mj2"}
_EXACT = _JUMPS | {"matroska,webm", "au", "tta"}  # their header counts, others guess
_EXACT_ALONE = {"asf", "flv"}  # theirs counts for the whole, and the pictures may go on after the sound
_READ_OUT = {"wav", "w64", "aiff", "caf", "asf", "mp3"}  # FFmpeg reads these to the end of what they say to hold
_BY_SPEED = {"wav", "w64"}  # where FFmpeg jumps, and says where it is, by the header's bytes per second
_PCM = re.compile(r"pcm_(?:[suf]([0-9]+)[a-z]*|mulaw|alaw)")  # and the bits of a sample, 8 where it does not say
_BAD_IN_A_ROW = 25  # packets; a scratch is bridged with silence, a ruin is not
_DAY = 86_400  # seconds
_PREROLL = 1  # seconds decoded before the wanted place: AAC and Opus need some to be in tune


Sound = AudioFrame | int
"""A frame, or in place of what cannot be decoded a number of samples (at the output's rate) of silence."""


class DecodedRecording:
    """A `Recording` that is the first audio stream of a container: all of its channels mixed, or one of them."""

    def __init__(
        self,
        container: InputContainer,
        tap: Tap,
        *,
        shown: str,
        rate: int,
        limits: AudioLimits,
        effort: Effort,
        channel: int | None = None,
    ) -> None:
        self._container, self._tap, self._effort = container, tap, effort
        self._shown, self._rate, self._channel = shown, rate, channel
        self._stream = self._choose()
        seconds = self._declared()
        self.duration_ms = None if seconds is None else round(seconds * 1000)
        self._bounds = Bounds(shown, rate, seconds, limits, exact=self._is_exact())
        self._bounds.check_declared()
        self._check_end()
        self._batches = self._decode()
        self._first, self.channels = self._accept()
        if channel is not None and channel >= self.channels:
            raise no_such_channel(shown, self.channels, channel)

    def __repr__(self) -> str:
        return f"<Recording {self._container.format.name}, {self._stream.codec_context.name}, {self.duration_ms} ms>"

    def blocks(self, start_ms: int = 0, end_ms: int | None = None) -> Iterator[bytes]:
        """See `Recording.blocks`."""
        start = start_ms * self._rate // 1000
        end = sys.maxsize if end_ms is None else end_ms * self._rate // 1000
        position = 0
        if end <= start:
            return
        for position, block in self._effort.of(self._placed(start_ms, start)):
            first = position - len(block) // 2
            # Empty up to the start, so that whoever waits can look up.
            yield block[max(0, start - first) * 2 : max(0, end - first) * 2]
            if position >= end:
                return
        self._bounds.check_complete(position)
        self._check_read()

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
        if stream.codec_context.name != "ape":  # which means something else by it, and is looked at packet by packet
            stream.codec_context.options = {"max_samples": str(MOST_SAMPLES)}  # of one frame
        return stream

    def _declared(self) -> Fraction | None:
        """Seconds of the sound track as far as anything says them."""
        if self._container.format.name == "avi" and self._stream.codec_context.name.startswith("adpcm_"):
            return None  # FFmpeg takes its blocks for samples, and a minute for half a day
        if self._stream.duration and self._stream.time_base:
            return self._stream.duration * self._stream.time_base
        return Fraction(self._container.duration, av.time_base) if self._container.duration else None

    def _is_exact(self) -> bool:
        """Whether the declared duration is a count for this very stream."""
        name = self._container.format.name
        if self._container.streams.video:
            return name in _EXACT and bool(self._stream.duration)
        return name in _EXACT or (name in _EXACT_ALONE and self._begins_at_zero())

    def _begins_at_zero(self) -> bool:
        """Whether a count from zero is one from the first sound: a stream may have run before it was recorded."""
        return (self._stream.start_time or 0) * (self._stream.time_base or 0) < 1

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

    def _check_read(self) -> None:
        """Of a source that cannot seek, and may have said no size, only its end shows whether all of it came."""
        tap = self._tap
        if not tap.seekable() and self._container.format.name in _READ_OUT and is_cut(tap.at, tap.tell()):
            raise truncated(self._shown)

    def _accept(self) -> tuple[list[list[Sound]], int]:
        """All up to the first frame that can be decoded, and how many channels that has."""
        first: list[list[Sound]] = []
        for batch in self._batches:
            first.append(batch)
            if isinstance(batch[-1], AudioFrame):
                return first, batch[-1].layout.nb_channels
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
        except IndexError:  # PyAV's, at the end: it cannot flush a stream that first appeared midway
            pass
        self._tap.check()  # FFmpeg takes our error for the end of the file

    def _decode(self) -> Iterator[list[Sound]]:
        """Sounds in batches of about STEP, none of them empty; the first ends with the first frame."""
        batch: list[Sound] = []
        bad, samples, enough = 0, 0, 0
        codec = self._stream.codec_context.name
        for packet in self._packets():
            if packet.size and is_crammed(codec, memoryview(packet)):
                raise self._damaged()
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
                if frame.sample_rate not in RATES:
                    raise self._damaged()
                bad = 0
                if count := frame.samples:
                    batch.append(frame)
                    samples += count
            if not frames:  # nothing comes of it, and perhaps never will
                self._effort.check()
            if samples > enough:
                self._tap.check()
                self._effort.heard(samples / frame.sample_rate)
                yield batch
                batch, samples, enough = [], 0, int(self._stream.sample_rate * STEP)
        if batch:
            yield batch

    def _length(self, packet: "Packet[AudioStream]") -> int:
        return int((packet.duration or 0) * (packet.time_base or 0) * self._rate)

    def _pcm(self, batches: Iterator[list[Sound]]) -> Iterator[bytes]:
        mono, gaps = Mono(self._rate, self._channel), self._gaps()
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
        declared = (container.duration or 0) / av.time_base
        # An MPEG-TS that begins just before zero of its clock, which starts anew after a day, says a day for either.
        longest = declared if 0 < declared < _DAY else LONGEST
        return int(late * self._rate) if Fraction(1, 20) < late <= longest else 0

    def _placed(self, start_ms: int, start: int) -> Iterator[tuple[int, bytes]]:
        """Blocks from the sample `start` or from before it, each with the sample at which it ends."""
        batches, begin = self._from(start_ms) if start_ms else self._from_the_start()
        position = min(start, begin)
        # Where the stream begins later than the recording there is silence first.
        for block in chain(silence(begin - position), self._pcm(batches)):
            position += len(block) // 2
            self._bounds.check_position(position)
            yield position, block

    def _from_the_start(self) -> tuple[Iterator[list[Sound]], int]:
        first, self._first = self._first, []  # decoded frames are large, and this object lives as long as the job
        return chain(first, self._batches), self._lead()

    def _from(self, start_ms: int) -> tuple[Iterator[list[Sound]], int]:
        """Sounds from a little before `start_ms`, and the sample at which they begin.

        Without exact times in the container a jump could land anywhere, so there all is decoded from the start and
        thrown away.
        """
        wanted = Fraction(start_ms, 1000) - _PREROLL
        if wanted <= 0 or not self._can_jump():
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

    def _can_jump(self) -> bool:
        name = self._container.format.name
        if name in _BY_SPEED and not self._has_even_speed():
            return False
        return self._tap.seekable() and self._bounds.exact and name in _JUMPS

    def _has_even_speed(self) -> bool:
        """Whether every sample takes as many bytes as the header's bytes per second say."""
        context = self._stream.codec_context
        bits = _PCM.fullmatch(context.name)
        return bits is not None and context.bit_rate == context.sample_rate * context.channels * int(bits[1] or 8)

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
