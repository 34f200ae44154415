"""A process that does a job, in these tests: what it uses, and how an attempt ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from config.settings import JobSettings
from tasks import transcription
from tasks.audio import AudioReference
from tasks.errors import JobError, NotEnded
from tasks.house import House
from tasks.job.keys import JobKeys
from tasks.job.record import Claimed, JobRecord
from tasks.job.request import JobRequest
from tasks.job.twins import Twins
from tasks.job.view import JobView
from tests.fakes import FakePlaces, FakeRecognizer, FakeRecognizers
from tests.tasks.spoken import Act, FakeRecording
from worker.beat import Pulse
from worker.stops import Drained, Stop

LEASE = 10.0
KEYS = JobKeys("j")
SHOWN = "https://h/a.mp3"


class Scene:
    """A process that does the job `j`. It can do it again and again, as several workers would."""

    def __init__(self, client: redis.Redis, rules: JobSettings) -> None:
        self.client = client
        self.rules = rules
        self.recognizers = FakeRecognizers(FakeRecognizer())
        self.places = FakePlaces(lambda: self.recognizers)
        self.recordings: list[FakeRecording] = []
        self.opened: list[tuple[Any, ...]] = []
        self.content: str | Exception = "abc"
        self.was_digested = 0
        self.stop = Stop()
        self.watched: list[str] = []
        self.pulse: Pulse | None = None
        self.at_start: Act = lambda: None
        self.patience = 0.05

    def record(self) -> JobRecord:
        return JobRecord(self.client, "j", ttl=100, lease=LEASE)

    def run(self, *lent: Any, audio: Any = None, ref: Any = "https://u:p@h/a.mp3?sig=secret", **options: Any) -> Any:
        """One attempt, over these recognisers; `audio` are the recordings that are opened, the last for ever."""
        if lent:
            self.recognizers = FakeRecognizers(*lent)
        self.recordings = list(audio or [FakeRecording()])
        return transcription.run(
            lambda: JobRequest.parse((ref,), {"pace": 0} | options), SHOWN, self.record(), self.house()
        )

    def left(self, *lent: Any, **options: Any) -> NotEnded:
        """One attempt that leaves the job to another."""
        with pytest.raises(NotEnded) as left:
            self.run(*lent, **options)
        assert tells_of_no_other(left.value)
        return left.value

    def failed(self, *lent: Any, **options: Any) -> JobError:
        """One attempt that fails for good."""
        with pytest.raises(JobError) as error:
            self.run(*lent, **options)
        assert tells_of_no_other(error.value)
        return error.value

    def ask_softly(self) -> None:
        """The worker is about to end."""
        self.stop.ask(Drained(), at_once=False)

    def house(self) -> House:
        return House(
            worker="w@h",
            rules=self.rules,
            redis_patience=self.patience,
            queue="transcribe",
            places=self.places,
            open_audio=self._open,
            digest=self._digest,
            twins=Twins(self.client, ttl=100),
            watch=self._watch,
            explain=lambda error: JobError("internal_error", f"{type(error).__name__}."),
        )

    @contextmanager
    def _open(self, reference: AudioReference, rate: int, channel: int | None) -> Iterator[Any]:
        recording = self.recordings.pop(0) if len(self.recordings) > 1 else self.recordings[0]
        self.opened.append((reference.shown, rate) if channel is None else (reference.shown, rate, channel))
        if isinstance(recording, Exception):
            raise recording
        yield recording

    def _digest(self, reference: AudioReference, check: Act) -> str:
        check()
        self.was_digested += 1
        if isinstance(self.content, Exception):
            raise self.content
        return self.content

    @contextmanager
    def _watch(self, cancel_key: str, stop: Stop, pulse: Pulse) -> Iterator[None]:
        self.watched.append(cancel_key)
        self.stop, self.pulse = stop, pulse
        self.at_start()
        yield


def tells_of_no_other(error: BaseException) -> bool:
    """Whether no other error is shown with this one: its text may hold a signed address."""
    return error.__cause__ is None and (error.__suppress_context__ or error.__context__ is None)


def states(view: JobView) -> list[str]:
    """The states that those who followed the job were told of, in order."""
    return [data["state"] for kind, data in view.events() if kind == "state"]


def texts(view: JobView) -> list[str]:
    return [one["text"] for one in view.sentences()]


def taken_over(client: redis.Redis) -> JobRecord:
    """Another worker takes the job, whose lease has run out."""
    client.delete(KEYS.lease)
    other = JobRecord(client, "j", ttl=100, lease=LEASE)
    assert isinstance(other.claim("https://h/a.mp3", "other@h"), Claimed)
    return other
