"""The use case, top to bottom: lease -> reference -> audio -> recogniser -> sentences -> transcript -> record."""

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

from config.settings import JobSettings
from tasks.audio import AudioReference, Recording
from tasks.audio.pacing import Paced
from tasks.errors import BadInput, EndedBefore, JobError, NotBegun, NotEnded, Refused, Unavailable, Withdrawn
from tasks.job.record import Claimed, Held, JobRecord, Over
from tasks.job.request import JobRequest
from tasks.meter import Meter, Stopwatch
from tasks.stream import Places, Stream, translated
from tasks.transcript.assemble import Timeline, joined
from worker.beat import Pulse
from worker.quota import Wish
from worker.recognition import DeadlinePassed, Final, Partial
from worker.stops import Cancelled, LeaseLost, Stop, Stopped

OpenAudio = Callable[[AudioReference, int], AbstractContextManager[Recording]]
"""Opens a reference at a sample rate in hertz."""

Watch = Callable[[str, Stop, Pulse], AbstractContextManager[None]]
"""Lets the process's heartbeat speak for a running job, and ask it to stop: if this key appears, or the worker ends."""

AWAY = frozenset({"audio_unreachable", "audio_timeout"})
"""How a server fails that is not there. To a job that has read from it before, this is a fault that passes."""

LOOK_EVERY = 1.0
"""Seconds between two tries to write a job's end to a Redis that is away."""

MOST_CUTS = 3
"""Streams of a job that may be cut without a new sentence before it costs a try."""

UNTIL_QUOTA = (1.0, 3.0)
"""Seconds for which a job goes back to the queue that has waited for quota in vain."""

log = logging.getLogger("worker.tasks")


@dataclass(frozen=True, kw_only=True, slots=True)
class House:
    """What a job uses of the process that it runs in, and by which rules. `queue` is the one that it came by.

    `explain` says what an exception means that nobody foresaw. `redis_patience` is in seconds.
    """

    worker: str
    queue: str
    rules: JobSettings
    redis_patience: float
    places: Places
    open_audio: OpenAudio
    watch: Watch
    explain: Callable[[Exception], JobError]


def run(parse: Callable[[], JobRequest], shown: str, record: JobRecord, house: House) -> dict[str, Any]:
    """Transcribe one recording and return the result as the interface describes it.

    `parse` gives the request; `shown` is its reference as anybody may see it, empty if it cannot be read.

    Raises:
        JobError: why there is no transcript, and will be none.
        NotEnded: another attempt goes on.
        EndedBefore: it has been done.
        Withdrawn: it was cancelled.
    """
    try:
        claim = record.claim(shown, house.worker, house.rules.retries + 1)
    except Unavailable as error:
        raise NotEnded(_soon(), error) from None
    match claim:
        case Held():  # a second delivery of the message: it stays, in case the holder dies
            raise NotEnded(claim.seconds + random.uniform(0.1, 1.0))
        case Over(state="cancelled"):
            raise Withdrawn
        case Over():
            raise EndedBefore(claim.result, JobError(claim.error_code, claim.error))
    return Attempt(record, house, claim).run(parse)


class Attempt:
    """One worker's work on a job that it has claimed: one stream after the other, as long as each brings a sentence."""

    def __init__(self, record: JobRecord, house: House, claim: Claimed) -> None:
        self._record = record
        self._house = house
        self._claim = claim
        self._stop = Stop()
        self._watch = Stopwatch(claim.queued_at)
        self._deadline = time.monotonic() + house.rules.deadline - claim.elapsed
        self._was_read = claim.kept > 0 or claim.duration_ms is not None
        self._duration_ms = claim.duration_ms
        self._reused: bool | None = None
        self._place = claim.place
        self._was_cut = False
        self._cuts = claim.cuts

    def run(self, parse: Callable[[], JobRequest]) -> dict[str, Any]:
        """See the function of this name."""
        claim, rules = self._claim, self._house.rules
        with self._leaving():
            self._check_claim()
            request = parse()
            reference = AudioReference.parse(request.audio)
        meter = Meter(request.sample_rate, sent_ms=claim.sent_ms, streams=claim.streams, resumes=claim.resumes)
        pulse = self._record.following(meter, self._stop, stall=rules.stall, deadline=self._deadline)
        with self._house.watch(self._record.keys.cancel, self._stop, pulse), self._leaving():
            self._to_the_end(request, reference, meter)
            result = self._result(request, reference, meter)
            self._patiently(lambda: self._record.succeeded(result))
            return result

    # -- from the request to the result --------------------------------------------------------------------------------

    def _check_claim(self) -> None:
        if self._claim.cancelled:
            raise Cancelled
        if self._claim.elapsed > self._house.rules.deadline:
            raise Refused(DeadlinePassed.code, str(DeadlinePassed()))
        tries = self._claim.fruitless - 1
        if tries > self._house.rules.retries:
            raise JobError(
                "worker_lost",
                f"The worker was lost each time that it had begun this job, {tries} times without a new sentence; "
                "check the recording, and the worker's memory.",
            )

    def _to_the_end(self, request: JobRequest, reference: AudioReference, meter: Meter) -> None:
        """Stream after stream. One that fails after a new sentence is followed by another, from that sentence's end."""
        checkpoint = self._record.checkpoint
        while True:
            meter.resumes += checkpoint.count > 0
            before = checkpoint.count
            try:
                return self._stream(request, reference, meter)
            except Unavailable as error:
                if checkpoint.count > before:
                    self._cuts = 0
                elif not self._is_forgiven(error):
                    raise
                log.info("job %s goes on from %d ms: %s", self._record.job_id, checkpoint.end_ms, error.code)
                pause = _pause(0, error, self._house.rules)
            self._stop.wait(pause)

    def _is_forgiven(self, error: Unavailable) -> bool:
        """One cut in an attempt: when the service goes away all its streams are cut, and no job can help it. Not for
        ever, if it is this job's streams that are cut.
        """
        is_first, self._was_cut = not self._was_cut, True
        if not (error.is_cut and is_first and self._cuts < MOST_CUTS):
            return False
        self._cuts += 1
        self._record.cut(self._cuts)
        return True

    def _stream(self, request: JobRequest, reference: AudioReference, meter: Meter) -> None:
        begin_ms, rate = self._record.checkpoint.end_ms, request.sample_rate
        meter.seek(begin_ms)
        self._stop.check()
        with self._opened(reference, rate) as recording:
            timeline = Timeline(begin_ms)
            chunks = Paced(recording.blocks(begin_ms), recording.ready, rate=rate, pace=request.pace)
            if begin_ms:
                chunks.begin(self._stop.check)
            stream = Stream(
                wish=self._wish(request),
                waits=self._record.waits,
                goes=self._goes,
                # One process may have two attempts of a job, the earlier of which is about to learn that it is over.
                borrower=f"{self._record.job_id} {self._record.lease.token[:8]}",
                request=request,
                chunks=chunks,
                deadline=self._deadline,
                meter=meter,
                watch=self._watch,
                stop=self._stop,
                take=lambda heard: self._take(heard, timeline, meter, live=request.live),
            )
            with translated():
                reused = stream.run(self._house.places)
        self._reused = reused if self._reused is None else self._reused

    def _wish(self, request: JobRequest) -> Wish:
        return Wish(
            model=request.model,
            queue=self._house.queue,
            tenant=request.tenant,
            account=request.account,
            place=self._place,
        )

    def _goes(self) -> None:
        self._place = ""
        self._record.goes()

    @contextmanager
    def _opened(self, reference: AudioReference, rate: int) -> Iterator[Recording]:
        try:
            with self._house.open_audio(reference, rate) as recording:
                self._watch.reach("opened")
                self._was_read = True
                if recording.duration_ms not in (None, self._duration_ms):
                    self._duration_ms = recording.duration_ms
                    self._record.note(duration_ms=recording.duration_ms)
                yield recording
        except BadInput as error:
            if self._was_read and error.code in AWAY:
                raise Unavailable(error.code, error.sentence) from None
            raise

    def _take(self, heard: Partial | Final, timeline: Timeline, meter: Meter, *, live: bool) -> None:
        if isinstance(heard, Partial):
            if live:
                self._record.partial(timeline.shown(heard.sentence, meter.ms))
        elif sentence := timeline.add(heard.sentence, meter.ms):
            self._record.final(sentence)
            self._stop.check()

    def _result(self, request: JobRequest, reference: AudioReference, meter: Meter) -> dict[str, Any]:
        sentences = self._record.checkpoint.sentences
        return {
            "job_id": self._record.job_id,
            "audio": reference.shown,
            "model": request.model,
            "duration_ms": meter.ms,
            "text": joined(sentences),
            "sentences": sentences,
            "captions": {},
            "usage": {"audio_ms": meter.ms, "sent_ms": meter.sent_ms, "streams": meter.streams},
            "timing": self._watch.timing() | {"reused_connection": bool(self._reused)},
            "attempts": self._claim.attempt,
            "resumes": meter.resumes,
            "metadata": request.metadata,
        }

    # -- how it is left ------------------------------------------------------------------------------------------------

    @contextmanager
    def _leaving(self) -> Iterator[None]:
        """What ends the block also ends the attempt: its record says how, and the caller learns it."""
        try:
            try:
                yield
            except LeaseLost:
                raise
            except Cancelled:
                if not self._left(self._record.cancelled):
                    raise NotEnded(_soon()) from None
                raise Withdrawn from None
            except Stopped:
                self._left(self._record.handed_back)
                raise NotEnded(0) from None
            except NotBegun as error:
                place = error.place
                self._left(lambda: self._record.not_begun(place))
                raise NotEnded(random.uniform(*UNTIL_QUOTA)) from None
            except JobError as error:
                self._fail(error)
            except Exception as error:
                self._fail(self._house.explain(error))
        except LeaseLost:
            # Whoever has the job now may hold the very message that we are about to acknowledge: one has to stay.
            raise NotEnded(self._record.lease.seconds) from None

    def _fail(self, error: JobError) -> NoReturn:
        """Leave it to another attempt, if one may help and there has not been too much of that in vain; else end it."""
        rules = self._house.rules
        vain = self._claim.fruitless if self._record.checkpoint.count == self._claim.kept else 0
        is_general = isinstance(error, Unavailable) and error.is_general
        if error.retryable and (is_general or vain <= rules.retries):
            self._left(lambda: self._record.waiting(error.code, error.sentence, counted=not is_general))
            raise NotEnded(_pause(max(0, vain - 1), error, rules), error) from None
        if not self._left(lambda: self._patiently(lambda: self._record.failed(error.code, error.sentence))):
            raise NotEnded(_soon(), error) from None
        raise error from None

    def _patiently(self, write: Callable[[], None]) -> None:
        """Write, and wait for a Redis that is away: what has come so far was paid for. Raises as `Stop.linger`, too."""
        until = time.monotonic() + self._house.redis_patience
        while True:
            try:
                return write()
            except Unavailable:
                if time.monotonic() > until:
                    raise
            self._stop.linger(LOOK_EVERY * random.uniform(0.5, 1.5))

    def _left(self, write: Callable[[], None]) -> bool:
        """Write how the job is left. If Redis does not take that, the job has not ended: its message must stay."""
        try:
            write()
        except LeaseLost:
            raise
        except (Unavailable, Stopped):
            log.warning("job %s: how it is left could not be recorded, Redis does not answer", self._record.job_id)
            return False
        return True


def _soon() -> float:
    """Seconds until another attempt at what Redis did not take."""
    return random.uniform(1, 5)


def _pause(times: int, error: JobError, rules: JobSettings) -> float:
    """Seconds until the next attempt: full jitter, so that the jobs of one outage do not come back together; and not
    before the service said.
    """
    asked = error.retry_after or 0.0 if isinstance(error, Unavailable) else 0.0
    return asked + random.uniform(0, min(rules.backoff_max, rules.backoff * 2.0**times))
