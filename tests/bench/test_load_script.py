"""What the load server says must be what the service says."""

import json

import pytest

from bench.load.script import STEP_BYTES, WORDS, Script
from worker.recognition import Event, Final, Finished, Partial, Refused, Started
from worker.recognition.messages import decode

ID = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"


def event(frame: bytes) -> Event:
    assert frame[0] == 0x81
    begin, size = (4, frame[2] << 8 | frame[3]) if frame[1] == 126 else (2, frame[1])
    assert len(frame) == begin + size
    return decode(frame[begin:].decode())


def test_its_events_are_those_of_the_protocol() -> None:
    script = Script()
    assert event(script.started(ID.encode())) == Started(ID)
    assert event(script.finished(ID.encode())) == Finished(ID)
    assert event(script.failed(ID.encode(), "no")) == Refused(ID, "InvalidParameter", "no")


@pytest.mark.parametrize("task_id", [ID, "a", 'quote"d \u00e9 \0'])
def test_every_event_bears_the_tasks_id(task_id: str) -> None:
    written = json.dumps(task_id)[1:-1].encode()
    script = Script()
    for frame in (script.started(written), script.result(1, written), script.rest(100, written)):
        assert event(frame).task_id == task_id


def test_a_final_ends_each_sentence_and_the_next_begins_there() -> None:
    said = [event(Script(final_every=1.0).result(step, ID.encode())) for step in range(1, 13)]
    finals = [found for found in said if isinstance(found, Final)]
    assert [isinstance(found, Final) for found in said] == [False, False, False, True] * 3
    times = [(final.sentence.begin_time, final.sentence.end_time) for final in finals]
    assert times == [(0, 1000), (1000, 2000), (2000, 3000)]
    assert [final.billed_seconds for final in finals] == [1, 2, 3]


def test_a_partial_is_of_ten_words_and_tells_how_far_it_has_heard() -> None:
    frame = Script().result(14, ID.encode())
    found = event(frame)
    assert isinstance(found, Partial)
    assert len(found.sentence.words) == len(WORDS) == 10
    assert (found.sentence.begin_time, found.sentence.end_time) == (3000, 3500)
    assert 900 < len(frame) < 1400


@pytest.mark.parametrize(
    ("size", "times"), [(2, (0, 1)), (STEP_BYTES, (0, 250)), (32_000 + 6400, (1000, 1200)), (32_000, None), (0, None)]
)
def test_what_is_left_after_the_last_final_gets_one(size: int, times: tuple[int, int] | None) -> None:
    frame = Script(final_every=1.0).rest(size, ID.encode())
    if times is None:
        assert frame == b""
    else:
        found = event(frame)
        assert isinstance(found, Final)
        assert (found.sentence.begin_time, found.sentence.end_time) == times
