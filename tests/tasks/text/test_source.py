from typing import Any

import pytest

from tasks.errors import BadInput
from tasks.text.source import text_of


def transcript(*sentences: tuple[int, str]) -> dict[str, Any]:
    said = [{"channel": channel, "text": text, "words": []} for channel, text in sentences]
    return {"job_id": "j", "text": " ".join(text for _, text in sentences), "sentences": said}


def test_a_text_is_taken_as_it_is() -> None:
    assert text_of(" One.\n") == " One.\n"


def test_a_transcript_is_a_line_for_each_sentence() -> None:
    assert text_of(transcript((0, "Good morning."), (0, "Hello."))) == "Good morning.\nHello."


def test_of_several_channels_each_line_says_who_speaks() -> None:
    assert text_of(transcript((0, "Good morning."), (1, "Hello."))) == "Speaker 1: Good morning.\nSpeaker 2: Hello."


def test_a_silent_recording_has_an_empty_text() -> None:
    assert text_of(transcript()) == ""


@pytest.mark.parametrize("sentences", [None, 5, ["x"], [{"text": 5}], [{}]])
def test_without_sentences_that_can_be_read_there_is_still_the_text(sentences: Any) -> None:
    assert text_of({"text": "One.", "sentences": sentences}) == "One."


@pytest.mark.parametrize("given", [None, 5, ["One."], {}, {"text": 5}, {"sentences": []}])
def test_anything_else_is_refused(given: Any) -> None:
    with pytest.raises(BadInput) as caught:
        text_of(given)
    assert caught.value.code == "bad_request" and "tasks.transcribe" in caught.value.sentence
