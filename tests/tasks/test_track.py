"""A part of a recording, and what is told of it while it is spoken."""

import logging
from typing import Any

import pytest

from tasks.errors import BadInput
from tasks.job.view import JobView
from tests.fakes import FakeRecognizer
from tests.tasks.scene import Scene
from tests.tasks.spoken import PCM, PCM_MS, FakeRecording, final, partial
from worker.recognition import ConnectionLost


def test_a_part_is_heard_and_its_times_are_the_recording_s(scene: Scene, view: JobView) -> None:
    recognizer = FakeRecognizer(partial(10, "on"), final(20, 80, "One."))
    result = scene.run(recognizer, start_ms=100, end_ms=200, live=True)
    assert recognizer.heard == PCM[3200:6400]
    assert [(one["begin_time"], one["end_time"]) for one in result["sentences"]] == [(120, 180)]
    assert (result["duration_ms"], result["usage"]["audio_ms"], result["usage"]["sent_ms"]) == (PCM_MS, 100, 100)
    assert [data["begin_time"] for kind, data in view.events() if kind == "partial"] == [110]


def test_a_part_that_ends_beyond_the_recording_ends_with_it(scene: Scene) -> None:
    result = scene.run(FakeRecognizer(final(0, 80, "One.")), start_ms=100, end_ms=9000)
    assert (result["duration_ms"], result["usage"]["audio_ms"]) == (PCM_MS, 200)


def test_a_part_of_a_recording_of_unknown_length_is_as_long_as_what_was_heard(scene: Scene) -> None:
    result = scene.run(FakeRecognizer(final(0, 80, "One.")), audio=[FakeRecording(duration_ms=None)], end_ms=200)
    assert (result["duration_ms"], result["usage"]["audio_ms"]) == (200, 200)


@pytest.mark.parametrize("known", [True, False])
def test_a_part_that_begins_beyond_the_end_is_refused_before_anything_is_borrowed(scene: Scene, known: bool) -> None:
    recording = FakeRecording(duration_ms=PCM_MS if known else None)
    error = scene.failed(FakeRecognizer(), audio=[recording], start_ms=PCM_MS)
    assert isinstance(error, BadInput) and error.code == "bad_request"
    assert f"start_ms={PCM_MS} lies beyond the end of https://h/a.mp3" in error.sentence
    assert ("which has 300 ms" in error.sentence) == known
    assert scene.places.wishes == [] and scene.recognizers.borrowers == []


def test_a_part_that_breaks_goes_on_within_it(scene: Scene) -> None:
    again = FakeRecognizer(final(0, 40, "Two."))
    result = scene.run(FakeRecognizer(final(0, 50, "One."), ConnectionLost("x")), again, start_ms=100, end_ms=200)
    assert again.heard == PCM[4800:6400]
    assert [(one["begin_time"], one["end_time"]) for one in result["sentences"]] == [(100, 150), (150, 190)]
    assert result["resumes"] == 1


def test_where_no_sound_is_left_behind_the_last_sentence_no_other_stream_begins(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    result = scene.run(FakeRecognizer(final(0, 200, "One."), ConnectionLost("x")), end_ms=200)
    assert (result["text"], result["usage"]["streams"], result["resumes"]) == ("One.", 1, 0)
    assert "goes on from 200 ms" in caplog.text


def told(view: JobView) -> list[Any]:
    return [data["text"] for kind, data in view.events() if kind != "state"]


def test_partials_come_as_often_as_is_allowed_and_the_first_of_a_sentence_at_once(scene: Scene, view: JobView) -> None:
    assert scene.rules.live == 0.25
    scene.run(FakeRecognizer(partial(0, "o"), partial(0, "on"), final(0, 90, "One."), partial(90, "t")), live=True)
    assert told(view) == ["o", "One.", "t"]


def test_without_a_limit_every_partial_is_told(scene: Scene, view: JobView, rules: Any) -> None:
    scene.rules = rules(STENOPOOL_LIVE_SECONDS="0")
    scene.run(FakeRecognizer(*(partial(0, text) for text in ("o", "on", "one")), final(0, 90, "One.")), live=True)
    assert told(view) == ["o", "on", "one", "One."]


def test_captions_come_with_the_result_as_they_were_asked_for(scene: Scene) -> None:
    result = scene.run(FakeRecognizer(final(0, 100, "One.")), formats=["vtt", "txt"])
    assert set(result["captions"]) == {"vtt", "txt"}
    assert result["captions"]["vtt"].startswith("WEBVTT") and "One." in result["captions"]["txt"]
