import json
from typing import Any

import pytest

from worker.recognition.errors import InvalidRequest, RemoteProtocolError
from worker.recognition.messages import (
    Final,
    Finish,
    Finished,
    Heartbeat,
    Partial,
    Refused,
    Sentence,
    Start,
    Started,
    Word,
    decode,
    encode,
)

TASK = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
PCM = {"format": "pcm", "sample_rate": 16000}
HOT_WORDS = ({"resource_id": "phrase-1", "resource_type": "asr_phrase"},)

COMMANDS: list[Start | Finish] = [
    Start(TASK, "paraformer-realtime-v2", PCM),
    Start(TASK, "paraformer-realtime-v1", PCM, HOT_WORDS),
    Finish(TASK),
]
GOOD, MORNING = Word(120, 480, "Good", ""), Word(480, 1340, "morning", ".")
EVENTS = [
    Started(TASK),
    Partial(TASK, Sentence(120, 480, "good mor", (Word(120, 480, "good", ""),))),
    Final(TASK, Sentence(120, 1340, "Good morning.", (GOOD, MORNING)), billed_seconds=2),
    Heartbeat(TASK),
    Finished(TASK),
    Refused(TASK, "CLIENT_ERROR", "request timeout after 23 seconds."),
]


def result(sentence, usage=None):
    payload = {"output": {"sentence": sentence}, "usage": usage}
    return json.dumps({"header": {"task_id": TASK, "event": "result-generated"}, "payload": payload})


def test_commands_are_written_as_the_golden_frames(golden):
    assert [json.loads(encode(command)) for command in COMMANDS] == [json.loads(line) for line in golden("commands")]


def test_the_golden_frames_are_read_as_events(golden):
    assert [decode(line) for line in golden("events")] == EVENTS


def test_who_wants_no_partials_gets_heartbeats_and_all_the_rest(golden):
    wanted = [Heartbeat(TASK) if isinstance(event, Partial) else event for event in EVENTS]
    assert [decode(line, partials=False) for line in golden("events")] == wanted


def test_a_partial_that_nobody_wants_is_not_looked_into():
    assert decode(result({"text": 5, "words": "secret words"}), partials=False) == Heartbeat(TASK)


def test_commands_are_ascii_even_for_a_lone_surrogate():
    text = encode(Start(TASK, "m", {"vocabulary": "\ud800你"}))
    assert text.isascii()
    assert json.loads(text)["payload"]["parameters"]["vocabulary"] == "\ud800你"


def endless():
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    return nested


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", {1, 2}, endless()], ids=lambda v: type(v))
def test_parameters_that_are_not_json_are_an_invalid_request(value):
    with pytest.raises(InvalidRequest, match="cannot be written as JSON"):
        encode(Start(TASK, "m", {"x": value}))


ODD_SENTENCES: list[dict[str, Any]] = [
    {"text": "secret words"},
    {"begin_time": "0", "text": ""},
    {"begin_time": True, "text": ""},
    {"begin_time": 0.5, "text": ""},
    {"begin_time": 0, "end_time": "1", "text": ""},
    {"begin_time": 0, "text": 5},
    {"begin_time": 0, "text": "", "words": {}},
    {"begin_time": 0, "text": "", "words": ["secret words"]},
]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[" * 100_000,
        "[]",
        "null",
        "1",
        "{}",
        '{"header":null}',
        '{"header":[]}',
        '{"header":{"event":"task-started"}}',
        '{"header":{"task_id":"","event":"task-started"}}',
        '{"header":{"task_id":7,"event":"task-started"}}',
        '{"header":{"task_id":"t"}}',
        '{"header":{"task_id":"t","event":7}}',
        '{"header":{"task_id":"t","event":"task-exploded"}}',
        '{"header":{"task_id":"t","event":"task-failed","error_code":44}}',
        '{"header":{"event":"task-finished"}}',
        '{"header":{"task_id":"t","event":"result-generated"},"payload":[]}',
        '{"header":{"task_id":"t","event":"result-generated"},"payload":{"output":1}}',
        '{"header":{"task_id":"t","event":"result-generated"},"payload":{"output":{"sentence":"secret words"}}}',
        *(result(sentence | {"sentence_end": True}) for sentence in ODD_SENTENCES),
    ],
)
def test_junk_breaks_the_protocol_and_is_never_quoted(text):
    with pytest.raises(RemoteProtocolError) as caught:
        decode(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("sentence", [odd for odd in ODD_SENTENCES if "end_time" not in odd])
def test_an_odd_partial_costs_no_transcript(sentence):
    assert isinstance(decode(result(sentence)), Heartbeat)


def test_times_may_be_whole_floats_or_a_little_early_and_a_word_without_one_is_dropped():
    words = [{"begin_time": -1, "end_time": 5.0, "text": "a"}, {"text": "secret words"}]
    event = decode(result({"begin_time": -1, "end_time": 7.0, "sentence_end": True, "text": "a", "words": words}))
    assert isinstance(event, Final)
    assert (event.sentence.begin_time, event.sentence.end_time) == (0, 7)
    assert event.sentence.words == (Word(0, 5, "a", ""),)


@pytest.mark.parametrize("header", [{"task_id": ""}, {"task_id": None}, {}])
def test_a_refusal_needs_no_task_id(header):
    said = {"event": "task-failed", "error_code": "InvalidParameter", "error_message": "no task"}
    assert decode(json.dumps({"header": header | said})) == Refused("", "InvalidParameter", "no task")


@pytest.mark.parametrize(
    "payload",
    [
        None,
        {},
        {"output": None},
        {"output": {}},
        {"output": {}, "usage": None},
        {"output": {"sentence": None}},
        {"output": {"sentence": {}}},
    ],
)
def test_an_empty_result_is_a_sign_of_life_and_no_completion(payload):
    text = json.dumps({"header": {"task_id": TASK, "event": "result-generated"}, "payload": payload})
    assert decode(text) == Heartbeat(TASK)


@pytest.mark.parametrize("payload", [{}, {"output": {}}, {"output": None}, None])
def test_what_task_finished_carries_is_irrelevant(payload):
    text = json.dumps({"header": {"task_id": TASK, "event": "task-finished"}, "payload": payload})
    assert decode(text) == Finished(TASK)


@pytest.mark.parametrize(
    ("sentence_end", "end_time", "kind"),
    [
        (False, None, Partial),
        (None, None, Partial),
        (True, None, Final),
        (False, 10, Final),
        (True, 10, Final),
        (None, 10, Final),
        (None, 0, Final),
    ],
)
def test_a_sentence_is_final_when_either_field_says_so(sentence_end, end_time, kind):
    event = decode(result({"begin_time": 0, "end_time": end_time, "sentence_end": sentence_end, "text": "a"}))
    assert type(event) is kind


def test_a_final_without_end_time_ends_with_its_last_word_or_where_it_began():
    words = [{"begin_time": 5, "end_time": 9, "text": "a"}]
    for more, end in (({"words": words}, 9), ({}, 5)):
        event = decode(result({"begin_time": 5, "sentence_end": True, "text": "a"} | more))
        assert isinstance(event, Final) and event.sentence.end_time == end


def test_a_sentence_without_begin_time_begins_with_its_first_word():
    words = [{"begin_time": 5, "end_time": None, "text": "a", "punctuation": None}]
    assert decode(result({"text": None, "words": words})) == Partial(TASK, Sentence(5, 5, "", (Word(5, 5, "a", ""),)))


@pytest.mark.parametrize("usage", [None, {}, {"duration": None}, {"duration": "2"}, {"duration": True}, [2], 2])
def test_odd_usage_costs_no_transcript(usage):
    assert decode(result({"begin_time": 0, "end_time": 1, "text": "a"}, usage)) == Final(TASK, Sentence(0, 1, "a"))


def test_unknown_fields_are_tolerated():
    sentence = {"begin_time": 0, "end_time": 1, "text": "a", "emo_tag": "neutral", "stash": {}, "speaker_id": 1}
    assert decode(result(sentence)) == Final(TASK, Sentence(0, 1, "a"))


def test_a_failure_without_code_and_message_is_still_a_refusal():
    assert decode('{"header":{"task_id":"t","event":"task-failed"}}') == Refused("t", "", "")
