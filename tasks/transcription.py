"""The use case, top to bottom: lease -> reference -> audio -> recogniser -> sentences -> transcript -> record."""

import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

from tasks.audio import AudioReference
from tasks.errors import EndedBefore, JobError, NotBegun, NotEnded, Refused, Unavailable, UnderWay, Withdrawn
from tasks.house import House
from tasks.job.record import Claimed, Held, JobRecord, Over
from tasks.job.request import JobRequest
from tasks.meter import Meter, Meters, Stopwatch
from tasks.repeats import Repeats
from tasks.split import Split
from tasks.track import Track, Work, pause
from tasks.transcript.assemble import in_time_order, joined
from tasks.transcript.captions import render
from worker.recognition import DeadlinePassed
from worker.stops import Cancelled, LeaseLost, Stop, Stopped

LOOK_EVERY = 1.0
"""Seconds between two tries to write a job's end to a Redis that is away."""

UNTIL_QUOTA = (1.0, 3.0)
"""Seconds for which a job goes back to the queue that has waited for quota in vain."""

UNTIL_DONE = (2.0, 5.0)
"""Seconds until a job looks again whether another has done its work."""

log = logging.getLogger("worker.tasks")


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

    def run(self, parse: Callable[[], JobRequest]) -> dict[str, Any]:
        """See the function of this name."""
        claim, rules = self._claim, self._house.rules
        with self._leaving():
            self._check_claim()
            request = parse()
            reference = AudioReference.parse(request.audio)
        first = Meter(request.sample_rate, sent_ms=claim.sent_ms, streams=claim.streams, resumes=claim.resumes)
        meters = Meters(first)
        pulse = self._record.following(meters, self._stop, stall=rules.stall, deadline=self._deadline)
        with self._house.watch(self._record.keys.cancel, self._stop, pulse), self._leaving():
            work = self._work(request, reference)
            repeats, noted = Repeats(work, self._check, claim.content), {}
            result = repeats.result()
            if result is None:
                result = self._result(work, meters, self._heard(work, first, meters))
                noted = repeats.confirmed()
            self._patiently(partial(self._record.succeeded, result, **noted))
            repeats.keep()
            return result

    # -- from the request to the result --------------------------------------------------------------------------------

    def _check_claim(self) -> None:
        if self._claim.cancelled:
            raise Cancelled
        self._check()
        tries = self._claim.fruitless - 1
        if tries > self._house.rules.retries:
            raise JobError(
                "worker_lost",
                f"The worker was lost each time that it had begun this job, {tries} times without a new sentence; "
                "check the recording, and the worker's memory.",
            )

    def _check(self) -> None:
        self._stop.check()
        if time.monotonic() > self._deadline:
            raise Refused(DeadlinePassed.code, str(DeadlinePassed()))

    def _work(self, request: JobRequest, reference: AudioReference) -> Work:
        return Work(
            record=self._record,
            house=self._house,
            request=request,
            reference=reference,
            watch=self._watch,
            deadline=self._deadline,
            attempt=self._claim.attempt,
        )

    def _heard(self, work: Work, first: Meter, meters: Meters) -> Sequence[Track]:
        """Stream the recording to its end. The tracks on which that was done."""
        claim = self._claim
        if work.request.channels == "split":
            split = Split(work, claim, self._stop, first, meters)
            split.run()
            return split.tracks
        track = Track(
            work,
            first,
            self._stop,
            place=claim.place,
            cuts=claim.cuts,
            duration_ms=claim.duration_ms,
            was_read=claim.kept > 0 or claim.duration_ms is not None,
        )
        track.run()
        return [track]

    def _result(self, work: Work, meters: Meters, tracks: Sequence[Track]) -> dict[str, Any]:
        request, sentences = work.request, in_time_order(self._record.checkpoint.sentences)
        return {
            "job_id": self._record.job_id,
            "audio": work.reference.shown,
            "model": request.model,
            "duration_ms": _duration_ms(request, meters, tracks),
            "text": joined(sentences),
            "sentences": sentences,
            "captions": {form: render(form, sentences) for form in request.formats},
            "usage": {
                "audio_ms": meters.audio_ms(request.start_ms or 0),
                "sent_ms": meters.sent_ms,
                "streams": meters.streams,
            },
            "timing": self._watch.timing() | {"reused_connection": any(track.reused for track in tracks)},
            "attempts": work.attempt,
            "resumes": meters.resumes,
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
            except UnderWay:
                self._left(self._record.postponed)
                raise NotEnded(random.uniform(*UNTIL_DONE)) from None
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
            raise NotEnded(pause(max(0, vain - 1), error, rules), error) from None
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


def _duration_ms(request: JobRequest, meters: Meters, tracks: Sequence[Track]) -> int:
    """Of the recording: what was heard of it says it best, unless that was to be only a part."""
    known = 0 if request.end_ms is None else max(track.duration_ms or 0 for track in tracks)
    return max(meters.furthest_ms, known)


def _soon() -> float:
    """Seconds until another attempt at what Redis did not take."""
    return random.uniform(1, 5)
