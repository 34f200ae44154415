"""The way through a recording, of one of its channels or of all of them mixed: one stream after the other, as long as
each brings a sentence.
"""

import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from config.settings import JobSettings
from tasks.audio import AudioReference, Recording
from tasks.audio.pacing import Paced
from tasks.errors import BadInput, JobError, NotBegun, Unavailable
from tasks.house import House
from tasks.job.record import JobRecord
from tasks.job.request import JobRequest
from tasks.meter import Meter, Stopwatch
from tasks.stream import Stream, translated
from tasks.transcript.assemble import Timeline
from worker.quota import Wish
from worker.recognition import Final, Partial
from worker.stops import Stop

AWAY = frozenset({"audio_unreachable", "audio_timeout"})
"""How a server fails that is not there. To a job that has read from it before, this is a fault that passes."""

MOST_CUTS = 3
"""Streams of a job that may be cut without a new sentence before it costs a try."""

log = logging.getLogger("worker.tasks")


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """One attempt at a job, as all parts of it see it. `deadline`: monotonic seconds; `attempt`: the try's number."""

    record: JobRecord
    house: House
    request: JobRequest
    reference: AudioReference
    watch: Stopwatch
    deadline: float
    attempt: int


class Track:
    """`channel` None: all channels mixed. `place` is where the job stood in the line for quota, `cuts` how many of its
    streams were cut since the last new sentence, `duration_ms` what is known of the recording's length. Whether its
    audio `was_read` by an earlier attempt decides what a server that is away means. `ended` is called at its end.
    """

    def __init__(
        self,
        work: Work,
        meter: Meter,
        stop: Stop,
        *,
        channel: int | None = None,
        place: str = "",
        cuts: int = 0,
        duration_ms: int | None = None,
        was_read: bool = False,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        self.stop = stop
        self.others: Sequence[Track] = ()
        """The job's other tracks, which run at the same time."""
        self.reused: bool | None = None
        """Whether the first stream's connection was there before the job needed it."""
        self.has_place = False
        """The account has given it leave to stream."""
        self._work = work
        self._meter = meter
        self._channel = channel
        self._place = place
        self._cuts = cuts
        self.duration_ms = duration_ms
        self._was_read = was_read
        self._ended = ended
        self._was_cut = False
        self._sentences = self._vain = 0
        self._next_partial = 0.0

    def __repr__(self) -> str:
        return f"<Track of {'all channels' if self._channel is None else f'channel {self._channel}'}>"

    def run(self) -> None:
        """Stream after stream. One that fails after a new sentence is followed by another, from that sentence's end."""
        while True:
            before = self._sentences
            try:
                self._stream()
                return self._ended()
            except Unavailable as error:
                if self._sentences > before:
                    self._cuts = self._vain = 0
                elif self._has_company() and self._vain < self._work.house.rules.retries:
                    self._vain += 1  # the whole job need not come back for this one
                elif not self._is_forgiven(error):
                    raise
                log.info("job %s goes on from %d ms: %s", self._work.record.job_id, self._begin_ms(), error.code)
                seconds = pause(self._vain, error, self._work.house.rules)
            self.stop.wait(seconds)

    def _is_forgiven(self, error: Unavailable) -> bool:
        """One cut in an attempt: when the service goes away all its streams are cut, and no job can help it. Not for
        ever, if it is this job's streams that are cut.
        """
        is_first, self._was_cut = not self._was_cut, True
        if not (error.is_cut and is_first and self._cuts < MOST_CUTS):
            return False
        self._cuts += 1
        self._work.record.cut(self._cuts)
        return True

    # -- one stream ----------------------------------------------------------------------------------------------------

    def _stream(self) -> None:
        begin_ms, request = self._begin_ms(), self._work.request
        self._meter.seek(begin_ms)
        self.stop.check()
        with self._opened() as recording:
            blocks = recording.blocks(begin_ms, request.end_ms)
            chunks = Paced(blocks, recording.ready, rate=request.sample_rate, pace=request.pace)
            if begin_ms and not chunks.begin(self.stop.check):
                return self._check_begin(recording)
            self._meter.resumes += self._kept_ms() is not None
            reused = self._run(self._made(chunks, Timeline(begin_ms, self._channel or 0)))
        self.reused = reused if self.reused is None else self.reused

    def _made(self, chunks: Paced, timeline: Timeline) -> Stream:
        record, request = self._work.record, self._work.request
        name = "" if self._channel is None else f" {self._channel}"
        return Stream(
            wish=self._wish(),
            waits=self._waits,
            goes=self._goes,
            # One process may have two attempts of a job, the earlier of which is about to learn that it is over.
            borrower=f"{record.job_id} {record.lease.token[:8]}{name}",
            request=request,
            chunks=chunks,
            deadline=self._work.deadline,
            meter=self._meter,
            watch=self._work.watch,
            stop=self.stop,
            take=lambda heard: self._take(heard, timeline),
        )

    def _run(self, stream: Stream) -> bool:
        """Run it. While others of the job's tracks stream it goes on waiting: they may have what it waits for."""
        while True:
            try:
                with translated():
                    return stream.run(self._work.house.places)
            except NotBegun as error:
                if not self._has_company():
                    raise
                self._place = error.place
            finally:
                self.has_place = False
            self.stop.check()
            stream = replace(stream, wish=self._wish())

    def _has_company(self) -> bool:
        return any(other.has_place for other in self.others)

    def _kept_ms(self) -> int | None:
        return self._work.record.checkpoint.end_ms(self._channel or 0)

    def _begin_ms(self) -> int:
        """Where the next stream begins: at the last sentence's end; before the first, where the job says."""
        kept = self._kept_ms()
        return (self._work.request.start_ms or 0) if kept is None else kept

    def _check_begin(self, recording: Recording) -> None:
        """From here on there is no sound. That is so at the end of a recording; and if the job begins beyond it."""
        if self._kept_ms() is None:
            length = "" if recording.duration_ms is None else f", which has {recording.duration_ms} ms"
            raise BadInput(
                "bad_request",
                f"start_ms={self._begin_ms()} lies beyond the end of {self._work.reference.shown}{length}; "
                "give an earlier one.",
            )

    @contextmanager
    def _opened(self) -> Iterator[Recording]:
        work = self._work
        try:
            with work.house.open_audio(work.reference, work.request.sample_rate, self._channel) as recording:
                work.watch.reach("opened")
                self._was_read = True
                if recording.duration_ms not in (None, self.duration_ms):
                    self.duration_ms = recording.duration_ms
                    work.record.note(duration_ms=recording.duration_ms)
                yield recording
        except BadInput as error:
            if self._was_read and error.code in AWAY:
                raise Unavailable(error.code, error.sentence) from None
            raise

    # -- what it is told -----------------------------------------------------------------------------------------------

    def _wish(self) -> Wish:
        request = self._work.request
        return Wish(
            model=request.model,
            queue=self._work.house.queue,
            tenant=request.tenant,
            account=request.account,
            place=self._place,
        )

    def _waits(self) -> None:
        if not self._has_company():
            self._work.record.waits()

    def _goes(self) -> None:
        self._place, self.has_place = "", True
        self._work.record.goes()

    def _take(self, heard: Partial | Final, timeline: Timeline) -> None:
        if isinstance(heard, Partial):
            if self._work.request.live and self._is_time():
                self._work.record.partial(timeline.shown(heard.sentence, self._meter.ms))
        elif sentence := timeline.add(heard.sentence, self._meter.ms):
            self._sentences += 1
            self._next_partial = 0.0
            self._work.record.final(sentence)
            self.stop.check()

    def _is_time(self) -> bool:
        """Whether to tell of a partial: tracks that stream at the same time share what the job may tell."""
        now = time.monotonic()
        if now < self._next_partial:
            return False
        self._next_partial = now + self._work.house.rules.live * (1 + len(self.others))
        return True


def pause(times: int, error: JobError, rules: JobSettings) -> float:
    """Seconds until the next attempt: full jitter, so that the jobs of one outage do not come back together; and not
    before the service said.
    """
    asked = error.retry_after or 0.0 if isinstance(error, Unavailable) else 0.0
    return asked + random.uniform(0, min(rules.backoff_max, rules.backoff * 2.0**times))
