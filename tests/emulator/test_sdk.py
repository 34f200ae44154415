"""The official SDK, unchanged, against the emulator."""

import threading
from pathlib import Path
from typing import Any

import dashscope
import pytest
import websocket
from dashscope.audio.asr import Recognition, RecognitionCallback, RecognitionResult

from tests.emulator.client import counter

MODEL = "paraformer-realtime-v2"
PREVIEW = "ignore::FutureWarning"
# The SDK leaves its event loop and session to the garbage collector.
UNCLOSED = "ignore::ResourceWarning"

pytestmark = [pytest.mark.filterwarnings(UNCLOSED), pytest.mark.filterwarnings("ignore::DeprecationWarning")]


class Listener(RecognitionCallback):
    def __init__(self) -> None:
        self.finals: list[str] = []
        self.partials = 0
        self.usages: list[Any] = []
        self.errors: list[Any] = []
        self.done = threading.Event()

    def on_complete(self) -> None:
        self.done.set()

    def on_error(self, result: RecognitionResult) -> None:
        self.errors.append(result)
        self.done.set()

    def on_event(self, result: RecognitionResult) -> None:
        sentence = result.get_sentence()
        assert isinstance(sentence, dict)
        if RecognitionResult.is_sentence_end(sentence):
            self.finals.append(sentence["text"])
            self.usages.append(result.get_usage(sentence))
        else:
            self.partials += 1


@pytest.fixture
def sdk(emulator):
    """The SDK's module settings, pointed at the emulator."""
    before = dashscope.api_key, dashscope.base_websocket_api_url, dashscope.base_http_api_url
    dashscope.api_key, dashscope.base_websocket_api_url = "k", emulator.url
    dashscope.base_http_api_url = emulator.api_url
    yield dashscope
    dashscope.api_key, dashscope.base_websocket_api_url, dashscope.base_http_api_url = before


def stream(data: bytes) -> Listener:
    listener = Listener()
    recognition = Recognition(model=MODEL, callback=listener, format="pcm", sample_rate=16000)
    recognition.start()
    for at in range(0, len(data), 3200):
        recognition.send_audio_frame(data[at : at + 3200])
    recognition.stop()
    return listener


def test_classic_streaming_uses_a_connection_for_each_task(emulator, sdk):
    for _ in range(2):
        listener = stream(counter(2 * 16000))
        assert listener.done.wait(5)
        assert listener.finals == ["1-16000", "16001-32000"]
        assert listener.partials == 2
        assert listener.usages[-1] == {"duration": 2}
    assert (emulator.logbook.connections, emulator.logbook.streams) == (2, 2)
    assert all(task.counter_ok and task.outcome == "finished" for task in emulator.logbook.tasks)


def test_classic_call_sends_a_file_without_pacing(emulator, sdk, tmp_path: Path):
    path = tmp_path / "counter.pcm"
    path.write_bytes(counter(20 * 16000))
    recognition = Recognition(model=MODEL, callback=Listener(), format="pcm", sample_rate=16000)
    result = recognition.call(str(path))
    assert result.status_code == 200
    sentences = result.get_sentence()
    assert isinstance(sentences, list)
    assert [sentence["text"] for sentence in sentences][:2] == ["1-16000", "16001-32000"]
    assert len(sentences) == 20
    assert emulator.logbook.tasks[0].chunks[0][1] == 12800


def test_an_object_started_again_repeats_its_task_id(emulator, sdk):
    recognition = Recognition(model=MODEL, callback=Listener(), format="pcm", sample_rate=16000)
    for _ in range(2):
        recognition.start()
        recognition.send_audio_frame(counter(1600))
        recognition.stop()
    first, second = emulator.logbook.tasks
    assert first.task_id == second.task_id
    assert (first.outcome, second.outcome) == ("finished", "finished")


def test_classic_reports_a_failed_task(emulator, sdk, tmp_path: Path):
    path = tmp_path / "empty.pcm"
    path.write_bytes(counter(10))
    result = Recognition(model="whisper", callback=Listener(), format="pcm", sample_rate=16000).call(str(path))
    assert (result.status_code, result.code) == (44, "ModelNotFound")


def test_classic_reports_a_wrong_key(start, sdk, tmp_path: Path):
    emulator = start(api_key="right")
    sdk.base_websocket_api_url = emulator.url
    path = tmp_path / "some.pcm"
    path.write_bytes(counter(10))
    result = Recognition(model=MODEL, callback=Listener(), format="pcm", sample_rate=16000).call(str(path))
    assert result.status_code == 401
    assert emulator.logbook.rejected == {401: 1}


@pytest.mark.filterwarnings(PREVIEW)
def test_the_new_surface_shares_a_connection(emulator):
    client = dashscope.Client(api_key="k", workspace="local")
    connection = client.ws_connection(url=emulator.url)
    for number in range(3):
        with client.audio.asr.recognize(model=MODEL, sample_rate=16000, connection=connection) as recognition:
            recognition.send_audio_frame(counter(16000, first=number))
            recognition.stop()
            sentences = [event["payload"]["output"].get("sentence", {}) for event in recognition.events()]
        assert [it["text"] for it in sentences if it.get("end_time")] == [f"{number}-{number + 15999}"]
    connection.close()
    client.close()
    assert (emulator.logbook.connections, emulator.logbook.streams) == (1, 3)
    assert emulator.logbook.summary()["tasks_per_connection"] == {"1": 3}


@pytest.mark.filterwarnings(PREVIEW)
def test_the_new_surface_reports_a_wrong_key(start):
    client = dashscope.Client(api_key="wrong", workspace="local")
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        client.ws_connection(url=start(api_key="right").url)
    assert caught.value.status_code == 401
    client.close()


def test_generation_answers_whole_and_in_pieces(sdk):
    messages = [{"role": "user", "content": "one two"}]
    whole = sdk.Generation.call(model="qwen-plus", messages=messages, result_format="message")
    assert whole.status_code == 200
    assert whole.output.choices[0].message.content == "You said 2 words: one two"
    pieces = list(sdk.Generation.call(model="qwen-plus", prompt="one two", stream=True, incremental_output=True))
    assert "".join(piece.output.text for piece in pieces) == "You said 2 words: one two"
