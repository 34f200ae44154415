"""A recording whose channels are streamed side by side."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from tasks.errors import BadInput, Withdrawn
from tasks.job.view import JobView
from tests.fakes import FakePlaces, FakeRecognizer, FakeRecognizers
from tests.tasks.scene import KEYS, Scene, states
from tests.tasks.spoken import PCM_MS, RATE, ActingRecognizer, FakeRecording, final, partial
from worker.pool import PoolTimeout
from worker.quota import NoQuota
from worker.recognition import ConnectionLost, Event, ServerFault, Unauthorized
from worker.stops import Abandoned, Cancelled, Drained

LOST = ConnectionLost("x")
PATIENCE = 10.0
"""Seconds for what another track does; never reached unless something is broken."""


class ByChannel(FakeRecognizers):
    """Lends each channel's track its own recognisers, one after the other and the last for ever."""

    def __init__(self, *lent: list[Any]) -> None:
        super().__init__()
        self._each = [FakeRecognizers(*some) for some in lent]

    def lease(self, timeout: float | None = None, *, borrower: str = "", fresh: bool = False) -> Any:
        self.borrowers.append(borrower)
        return self._each[int(borrower.rsplit(" ", 1)[1])].lease(timeout, borrower=borrower, fresh=fresh)


class Gate:
    """Something that one track waits for and another does."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def open(self) -> None:
        self._event.set()

    def wait(self) -> None:
        assert self._event.wait(PATIENCE)


def split(scene: Scene, *lent: list[Any], channels: int = 2, **options: Any) -> dict[str, Any]:
    """One attempt; `lent` are the recognisers of each channel."""
    scene.recognizers = ByChannel(*lent)
    result: dict[str, Any] = scene.run(audio=[FakeRecording(channels=channels)], channels="split", **options)
    return result


def told(*events: Event | Exception | Callable[[], Any]) -> list[Any]:
    """One recogniser, which says this."""
    return [ActingRecognizer(*events)]


def spoken(result: dict[str, Any]) -> list[tuple[int, int, str]]:
    return [(one["begin_time"], one["channel"], one["text"]) for one in result["sentences"]]


# -- a job that goes well ----------------------------------------------------------------------------------------------


def test_each_channel_is_a_stream_and_the_sentences_are_in_the_order_they_were_spoken(
    scene: Scene, view: JobView
) -> None:
    second = Gate()
    result = split(
        scene,
        told(second.wait, final(0, 90, "How are you?"), final(200, 300, "Good.")),
        told(final(100, 190, "Fine."), second.open),
    )
    assert spoken(result) == [(0, 0, "How are you?"), (100, 1, "Fine."), (200, 0, "Good.")]
    assert result["text"] == "How are you? Fine. Good." and result["duration_ms"] == PCM_MS
    assert result["usage"] == {"audio_ms": 2 * PCM_MS, "sent_ms": 2 * PCM_MS, "streams": 2}
    assert scene.opened[0] == ("https://h/a.mp3", RATE, 0)
    assert sorted(scene.opened[1:]) == [("https://h/a.mp3", RATE, 0), ("https://h/a.mp3", RATE, 1)]
    # To who follows they came as they were finished.
    assert [data["channel"] for kind, data in view.events() if kind == "final"] == [1, 0, 0]
    assert view.fields()["progress_ms"] == str(PCM_MS)


@pytest.mark.parametrize("channels", [1, 8])
def test_any_number_of_channels_up_to_eight_is_split(scene: Scene, channels: int) -> None:
    result = split(scene, *(told(final(0, 90, f"I am {n}.")) for n in range(channels)), channels=channels)
    assert spoken(result) == [(0, n, f"I am {n}.") for n in range(channels)]


def test_more_channels_are_refused_before_anything_is_borrowed(scene: Scene) -> None:
    scene.recognizers = ByChannel()
    error = scene.failed(audio=[FakeRecording(channels=9)], channels="split")
    assert isinstance(error, BadInput) and error.code == "too_many_channels" and "has 9 channels" in error.sentence
    assert scene.places.wishes == []


def test_what_a_job_may_tell_of_partials_is_shared_by_its_tracks(scene: Scene, view: JobView) -> None:
    assert scene.rules.live == 0.25
    split(scene, *(told(*(partial(0, "so") for _ in range(50))) for _ in range(2)), live=True)
    assert sorted(data["channel"] for kind, data in view.events() if kind == "partial") == [0, 1]


# -- a part of it fails ------------------------------------------------------------------------------------------------


def test_a_channel_that_breaks_goes_on_alone_and_the_other_is_not_disturbed(scene: Scene) -> None:
    again = Gate()
    result = split(
        scene,
        told(final(0, 90, "One."), again.wait, final(100, 190, "Two.")),
        [*told(final(0, 100, "Un."), LOST), *told(final(50, 60, "Deux."), again.open)],
    )
    assert spoken(result) == [(0, 0, "One."), (0, 1, "Un."), (100, 0, "Two."), (150, 1, "Deux.")]
    assert (result["usage"]["streams"], result["resumes"]) == (3, 1)


def test_a_channel_that_fails_for_good_ends_the_job(scene: Scene) -> None:
    begun = Gate()
    other = ActingRecognizer(begun.open, lambda: until(lambda: other.interruptions), final(0, 90, "One."))
    error = failed(scene, [other], told(begun.wait, Unauthorized("x")))
    assert error.code == "unauthorized" and [type(why) for why in other.interruptions] == [Abandoned]


def failed(scene: Scene, *lent: list[Any], **options: Any) -> Any:
    scene.recognizers = ByChannel(*lent)
    return scene.failed(audio=[FakeRecording(channels=2)], channels="split", **options)


def test_a_channel_that_was_heard_out_is_not_heard_again_by_the_next_attempt(scene: Scene, view: JobView) -> None:
    def noted() -> bool:
        return view.fields().get("heard_out") == "1"

    scene.recognizers = ByChannel(
        told(final(0, 100, "One."), lambda: until(noted), Drained()), told(final(0, 100, "Un."))
    )
    scene.left(audio=[FakeRecording(channels=2)], channels="split")
    assert view.fields()["heard_out"] == "1"

    result = split(scene, told(final(10, 50, "Two.")), [])
    assert spoken(result) == [(0, 0, "One."), (0, 1, "Un."), (110, 0, "Two.")]
    assert result["duration_ms"] == PCM_MS and result["usage"]["audio_ms"] == 2 * PCM_MS
    assert result["usage"]["streams"] == 3


def test_whoever_cancels_ends_all_channels(scene: Scene, client: redis.Redis) -> None:
    other = ActingRecognizer(*(final(n, n + 1, "so") for n in range(300)))
    scene.recognizers = ByChannel([other], told(lambda: scene.stop.ask(Cancelled()), final(0, 90, "Un.")))
    with pytest.raises(Withdrawn):
        scene.run(audio=[FakeRecording(channels=2)], channels="split")
    assert not client.exists(KEYS.lease)
    assert [thread for thread in threading.enumerate() if "Track" in thread.name] == []


def test_a_worker_that_ends_lets_each_channel_come_to_the_end_of_its_sentence(scene: Scene, view: JobView) -> None:
    begun, drained = Gate(), Gate()

    def drain() -> None:
        scene.ask_softly()
        drained.open()

    scene.recognizers = ByChannel(
        told(begun.wait, drain, final(0, 90, "One."), final(100, 190, "Two.")),
        told(
            begun.open,
            drained.wait,
            lambda: until(view.sentences),
            final(0, 90, "Un."),
            final(100, 190, "Deux."),
        ),
    )
    left = scene.left(audio=[FakeRecording(channels=2)], channels="split")
    assert (left.seconds, sorted(one["text"] for one in view.sentences())) == (0, ["One.", "Un."])


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


# -- quota -------------------------------------------------------------------------------------------------------------


class OneByOne(FakePlaces):
    """Has room for one stream."""

    def __init__(self, recognizers: Callable[[], Any]) -> None:
        super().__init__(recognizers)
        self._room = threading.Semaphore(1)
        self.refused: list[Any] = []

    @contextmanager
    def __call__(self, wish: Any, stop: Any, told: Callable[[], None]) -> Iterator[Any]:
        if not self._room.acquire(timeout=0.01):
            told()
            self.refused.append(wish)
            raise NoQuota("default 7")
        try:
            with super().__call__(wish, stop, told) as place:
                yield place
        finally:
            self._room.release()


def test_with_room_for_one_stream_the_channels_follow_each_other(scene: Scene, view: JobView) -> None:
    scene.places = places = OneByOne(lambda: scene.recognizers)

    def wait_for_others() -> None:
        until(lambda: len(places.refused) >= 2)

    result = split(scene, *(told(wait_for_others, final(0, 90, f"{n}.")) for n in range(3)), channels=3)
    assert spoken(result) == [(0, 0, "0."), (0, 1, "1."), (0, 2, "2.")]
    assert result["attempts"] == 1 and states(view) == ["running", "succeeded"]
    assert {wish.place for wish in scene.places.wishes} == {"", "default 7"}


def test_without_room_for_any_the_job_goes_back_to_the_queue(scene: Scene, view: JobView) -> None:
    scene.places.errors = [NoQuota("default 7"), NoQuota("default 8")]
    scene.places.is_slow = True
    scene.left(audio=[FakeRecording(channels=2)], channels="split")
    assert states(view) == ["running", "waiting for quota"] and view.fields()["attempts"] == "0"


def test_a_channel_waits_for_a_recogniser_as_long_as_the_other_streams(scene: Scene) -> None:
    busy = PoolTimeout("recognizer", 1.0, "leased 1", "", 0)
    free = Gate()
    result = split(
        scene,
        told(final(0, 90, "One."), free.wait),
        [busy, *told(final(0, 90, "Un."), free.open)],
    )
    assert spoken(result) == [(0, 0, "One."), (0, 1, "Un.")] and result["attempts"] == 1


def test_what_nobody_foresaw_in_a_track_is_explained_as_the_job_s(scene: Scene) -> None:
    error = failed(scene, told(final(0, 90, "One.")), told(ZeroDivisionError()))
    assert error.code == "internal_error"


def test_a_fault_that_passes_leaves_the_job_to_another_attempt_when_no_channel_streams(scene: Scene) -> None:
    fault = ServerFault("x")
    scene.recognizers = ByChannel(told(fault), told(fault))
    left = scene.left(audio=[FakeRecording(channels=2)], channels="split")
    assert left.error is not None and left.error.code == "server_fault"


def test_a_part_of_each_channel_is_heard(scene: Scene) -> None:
    recognizers = [FakeRecognizer(final(0, 10, "So.")), FakeRecognizer(final(0, 10, "Ja."))]
    result = split(scene, *([one] for one in recognizers), start_ms=100, end_ms=200)
    assert spoken(result) == [(100, 0, "So."), (100, 1, "Ja.")]
    assert [len(one.heard) for one in recognizers] == [RATE // 5, RATE // 5]
    assert result["usage"]["audio_ms"] == 200 and result["duration_ms"] == PCM_MS
