"""Each channel of a recording as a track of its own, all at the same time."""

import queue
import threading
from collections.abc import Sequence
from contextlib import suppress

from tasks.errors import BadInput, Unavailable
from tasks.job.record import Claimed
from tasks.meter import Meter, Meters
from tasks.track import Track, Work
from worker.stops import Abandoned, Stop, Stopped

MOST_CHANNELS = 8
"""More would be no telephone call, and each takes a stream of the account's."""

ASK_EVERY = 1.0
"""Seconds after which a track is asked again to end: a wait that was about to begin did not hear it."""

ENDING = 30.0
"""Seconds for which the end of tracks is waited for that were asked to."""


class Split:
    """The tracks of one attempt. Channels that an earlier one has heard out are left out."""

    def __init__(self, work: Work, claim: Claimed, stop: Stop, first: Meter, meters: Meters) -> None:
        self._work = work
        self._claim = claim
        self._stop = stop
        self._first = first
        self._meters = meters
        self._lock = threading.Lock()
        self._heard_out = set(claim.heard_out)
        self.tracks: list[Track] = []

    def __repr__(self) -> str:
        return f"<Split {self._work.record.job_id}, {len(self.tracks)} tracks, heard out {sorted(self._heard_out)}>"

    def run(self) -> None:
        """Raises what the first track raises that fails; and then has ended the others."""
        count, duration_ms = self._look()
        left = [channel for channel in range(count) if channel not in self._heard_out]
        meters = [self._first, *(Meter(self._work.request.sample_rate) for _ in range(1, count))]
        for meter in meters[1:]:
            self._meters.add(meter)
        for meter in meters[len(left) :]:
            meter.seek(duration_ms or 0)
        self.tracks = [self._track(*pair, duration_ms) for pair in zip(left, meters, strict=False)]
        for track in self.tracks:
            track.others = [other for other in self.tracks if other is not track]
        with self._stop.heard_by([track.stop for track in self.tracks]):
            side_by_side(self.tracks)

    def _look(self) -> tuple[int, int | None]:
        """How many channels there are, and how long the recording is, if that is known."""
        work = self._work
        self._stop.check()
        with work.house.open_audio(work.reference, work.request.sample_rate, 0) as recording:
            count, duration_ms = recording.channels, recording.duration_ms
        if count > MOST_CHANNELS:
            raise BadInput(
                "too_many_channels",
                f"{work.reference.shown} has {count} channels; at most {MOST_CHANNELS} are split: leave out channels.",
            )
        if duration_ms is not None:
            work.record.note(duration_ms=duration_ms)
        return count, duration_ms or self._claim.duration_ms

    def _track(self, channel: int, meter: Meter, duration_ms: int | None) -> Track:
        claim = self._claim
        return Track(
            self._work,
            meter,
            Stop(),
            channel=channel,
            place=claim.place if meter is self._first else "",
            cuts=claim.cuts,
            duration_ms=duration_ms,
            was_read=True,
            ended=lambda: self._note(channel),
        )

    def _note(self, channel: int) -> None:
        """This channel needs no other attempt. If Redis is away, its last silence is heard again at worst."""
        with self._lock, suppress(Unavailable):
            self._heard_out.add(channel)
            self._work.record.heard_out(self._heard_out)


def side_by_side(tracks: Sequence[Track]) -> None:
    """Run them at the same time, to their ends. The first that fails ends the others, and what it raised is raised."""
    ends: queue.Queue[BaseException | None] = queue.Queue()
    threads = [threading.Thread(target=_run, args=(track, ends), name=repr(track), daemon=True) for track in tracks]
    for thread in threads:
        thread.start()
    first: BaseException | None = None
    try:
        for _ in tracks:
            error = ends.get()
            first = first or error
            # If they were stopped, each has heard it, and comes to its end in its own time.
            if first is not None and not isinstance(first, Stopped):
                break
    except BaseException as late:  # the time of this thread is up
        first = late
    if first is not None:
        _abandon(tracks, threads)
        raise first


def _run(track: Track, ends: "queue.Queue[BaseException | None]") -> None:
    try:
        track.run()
    except BaseException as error:
        ends.put(error)
    else:
        ends.put(None)


def _abandon(tracks: Sequence[Track], threads: Sequence[threading.Thread]) -> None:
    for _ in range(round(ENDING / ASK_EVERY)):
        for track in tracks:
            track.stop.ask(Abandoned())
        for thread in threads:
            thread.join(ASK_EVERY / len(threads))
        if not any(thread.is_alive() for thread in threads):
            return
