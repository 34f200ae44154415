import json
from typing import Any

import pytest

from emulator.protocol import ContinueTask, Dialogue, Failure, FinishTask, RunTask, State, Unreadable


def frame(action: str, task_id: str = "t1", **payload: Any) -> str:
    base: dict[str, Any] = {"input": {}}
    if action == "run-task":
        base |= {"task_group": "audio", "task": "asr", "function": "recognition", "model": "m"}
        base["parameters"] = {"format": "pcm", "sample_rate": 16000}
    merged = {name: value for name, value in (base | payload).items() if value is not None}
    header = {"action": action, "task_id": task_id, "streaming": "duplex"}
    return json.dumps({"header": header, "payload": merged})


def dialogue(state: State) -> Dialogue:
    talk = Dialogue()
    if state is State.IDLE:
        return talk
    talk.command(frame("run-task"))
    if state is not State.STARTING:
        talk.started()
    if state is State.FINISHING:
        talk.command(frame("finish-task"))
    if state is State.CLOSED:
        talk.closed()
    return talk


def refusal(talk: Dialogue, text: str) -> Failure:
    with pytest.raises(Failure) as caught:
        talk.command(text)
    return caught.value


def test_a_task_goes_through_all_states_and_back():
    talk = Dialogue()
    assert isinstance(talk.command(frame("run-task")), RunTask)
    states = [talk.state]
    talk.started()
    talk.audio()
    assert talk.command(frame("continue-task")) == ContinueTask("t1")
    assert talk.command(frame("finish-task")) == FinishTask("t1")
    states.append(talk.state)
    talk.finished()
    states.append(talk.state)
    assert states == [State.STARTING, State.FINISHING, State.IDLE]
    assert repr(talk) == "<Dialogue idle, task t1, 1 so far>"


def test_run_task_is_read_with_its_parameters():
    parameters = {"format": "wav", "sample_rate": 8000, "heartbeat": True, "unknown": [1]}
    command = Dialogue().command(frame("run-task", parameters=parameters))
    assert command == RunTask("t1", "m", "wav", 8000, True, parameters)


@pytest.mark.parametrize("state", [State.STARTING, State.STREAMING, State.FINISHING, State.CLOSED])
def test_run_task_outside_idle_breaks_the_protocol(state):
    failure = refusal(dialogue(state), frame("run-task", "t2"))
    assert (failure.code, failure.task_id) == ("InvalidParameter", "t2")
    assert failure.message == "Invalid action('run-task')! Please follow the protocol!"
    assert str(failure) == f"InvalidParameter: {failure.message}"


@pytest.mark.parametrize("action", ["finish-task", "continue-task"])
@pytest.mark.parametrize("state", [State.IDLE, State.FINISHING, State.CLOSED])
def test_a_command_without_an_open_task_breaks_the_protocol(state, action):
    assert refusal(dialogue(state), frame(action)).message == f"Invalid action('{action}')! Please follow the protocol!"


@pytest.mark.parametrize("state", [State.IDLE, State.FINISHING, State.CLOSED])
def test_audio_without_an_open_task_breaks_the_protocol(state):
    with pytest.raises(Failure, match="audio"):
        dialogue(state).audio()


@pytest.mark.parametrize("state", [State.STARTING, State.STREAMING])
def test_audio_is_taken_while_a_task_is_open(state):
    open_task = dialogue(state)
    open_task.audio()
    assert open_task.state is state


def test_finishing_before_started_stays_finishing():
    talk = dialogue(State.STARTING)
    talk.command(frame("finish-task"))
    talk.started()
    assert talk.state is State.FINISHING


@pytest.mark.parametrize("name", ["action", "task_id", "streaming"])
def test_a_missing_header_field_is_named(name):
    wire = json.loads(frame("run-task"))
    del wire["header"][name]
    expected = f"Missing required parameter 'header.{name}'! Please follow the protocol!"
    assert refusal(Dialogue(), json.dumps(wire)).message == expected


@pytest.mark.parametrize("name", ["model", "task_group", "task", "function", "input"])
def test_a_missing_payload_field_is_named(name):
    changes: dict[str, Any] = {name: None}
    expected = f"Missing required parameter 'payload.{name}'! Please follow the protocol!"
    assert refusal(Dialogue(), frame("run-task", **changes)).message == expected


@pytest.mark.parametrize("parameters", [None, [], {"format": "pcm"}, {"sample_rate": 16000}])
def test_format_and_sample_rate_are_required(parameters):
    assert "payload.parameters." in refusal(Dialogue(), frame("run-task", parameters=parameters)).message


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "tts"},
        {"task_group": "x"},
        {"function": "x"},
        {"model": 1},
        {"input": []},
        {"parameters": {"format": "pcm", "sample_rate": "16000"}},
        {"parameters": {"format": "pcm", "sample_rate": 7999}},
    ],
)
def test_a_wrong_value_is_refused_and_the_id_stays_free(changes):
    talk = Dialogue()
    assert refusal(talk, frame("run-task", **changes)).message.startswith("Invalid parameter 'payload.")
    assert talk.command(frame("run-task"))


@pytest.mark.parametrize(("name", "value"), [("streaming", "out"), ("task_id", 7)])
def test_a_wrong_header_value_is_refused(name, value):
    wire = json.loads(frame("run-task"))
    wire["header"][name] = value
    assert f"header.{name}" in refusal(Dialogue(), json.dumps(wire)).message


def test_an_unknown_action_is_refused():
    assert "Invalid action('stop')" in refusal(Dialogue(), frame("stop")).message


def test_a_task_id_is_used_once_on_a_connection():
    talk = dialogue(State.STREAMING)
    talk.finished()
    assert "already used" in refusal(talk, frame("run-task")).message


def test_another_tasks_id_is_refused():
    assert "is not the task running" in refusal(dialogue(State.STREAMING), frame("finish-task", "t2")).message


def test_finish_task_needs_an_input():
    assert "payload.input" in refusal(dialogue(State.STREAMING), frame("finish-task", input=None)).message


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"run-task"'])
def test_a_frame_that_is_no_json_object_is_unreadable(text):
    with pytest.raises(Unreadable):
        Dialogue().command(text)
