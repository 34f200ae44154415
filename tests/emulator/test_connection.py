"""The rules of a conversation, seen from the client's end of the wire."""

import asyncio
import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
import websocket
from aiohttp import WSMessage, WSMsgType

from emulator import Faults, Limits, Logbook
from emulator.connection import Connection
from emulator.engines import EngineStream, Result
from emulator.engines.script import ScriptEngine
from emulator.limits import Admission
from emulator.link import Link
from emulator.task import Service
from tests.emulator.client import SECOND, Client, command, counter, run_task


def test_events_have_every_field_that_clients_read(client):
    client.begin()
    client.audio(counter(16000 + 8000))
    client.finish()
    partial, final, second_partial, rest, end = client.until_end()
    assert partial["header"] == {"task_id": client.task_id, "event": "result-generated", "attributes": {}}
    assert partial["payload"]["usage"] is None
    assert partial["payload"]["output"]["sentence"] == {
        "begin_time": 0,
        "end_time": None,
        "text": "1-8000",
        "heartbeat": False,
        "sentence_end": False,
        "sentence_id": 1,
        "words": [
            {"begin_time": 0, "end_time": 250, "text": "1", "punctuation": ""},
            {"begin_time": 250, "end_time": 500, "text": "8000", "punctuation": ""},
        ],
    }
    assert final["payload"]["usage"] == {"duration": 1}
    assert final["payload"]["output"]["sentence"]["end_time"] == 1000
    assert second_partial["payload"]["output"]["sentence"]["sentence_id"] == 2
    assert rest["payload"]["usage"] == {"duration": 2}
    assert rest["payload"]["output"]["sentence"]["end_time"] == 1500
    assert end["payload"] == {"output": {}, "usage": None}


def test_tasks_follow_each_other_on_a_connection(emulator, client):
    assert [client.transcribe(counter(100, first=number)) for number in (1, 2)] == [["1-100"], ["2-101"]]
    assert (emulator.logbook.connections, emulator.logbook.streams) == (1, 2)
    assert [task.outcome for task in emulator.logbook.tasks] == ["finished", "finished"]


def test_the_logbook_knows_what_was_sent(emulator, client):
    data = counter(5000, first=65000)
    client.transcribe(data)
    (task,) = emulator.logbook.tasks
    assert (task.audio_bytes, task.sha256) == (10000, hashlib.sha256(data).hexdigest())
    assert (task.counter_ok, task.first_sample, task.last_sample) == (True, 65000, (65000 + 4999) % 65536)
    assert [size for _, size in task.chunks] == [3200, 3200, 3200, 400]
    assert (task.model, task.parameters["sample_rate"]) == ("paraformer-realtime-v2", 16000)


def test_early_audio_and_an_early_finish_are_kept(client):
    client.start()
    client.audio(counter(16000))
    client.finish()
    assert client.event() == "task-started"
    assert client.finals() == ["1-16000"]


def test_unpaced_bursts_of_a_file_are_taken_in_order(emulator, client):
    data = counter(60 * 16000)
    client.begin()
    client.audio(data, size=12800)
    client.finish()
    assert len(client.finals()) == 60
    assert emulator.logbook.tasks[0].counter_ok


def test_the_same_task_id_is_fine_on_another_connection(emulator, connect):
    for client in (connect(emulator), connect(emulator)):
        client.begin(task_id="same")
        client.audio(counter(10))
        client.finish()
        assert client.finals() == ["1-10"]


def test_the_same_task_id_fails_on_one_connection(client):
    client.transcribe(counter(10))
    client.send(run_task(client.task_id))
    assert client.failure()[0] == "InvalidParameter"
    assert client.close_code() == 1000


def test_a_second_run_task_ends_the_task_and_the_connection(emulator, client):
    client.begin()
    client.send(run_task("other"))
    assert client.failure() == ("InvalidParameter", "Invalid action('run-task')! Please follow the protocol!")
    assert client.close_code() == 1000
    assert emulator.logbook.tasks[0].outcome == "failed"
    assert len(emulator.logbook.errors) == 1


@pytest.mark.parametrize("message", [command("finish-task", "t"), command("stop", "t"), {"header": {}}])
def test_a_command_out_of_place_fails(client, message):
    client.send(message)
    assert client.failure()[0] == "InvalidParameter"
    assert client.close_code() == 1000


def test_audio_without_a_task_fails(client):
    client.audio(counter(10))
    assert client.failure() == ("InvalidParameter", "Invalid action('audio')! Please follow the protocol!")


def test_audio_after_finish_task_fails(emulator, connect):
    client = connect(emulator)
    client.begin()
    client.ws.send_binary(counter(100))
    client.finish()
    client.ws.send_binary(counter(100))
    events = [client.receive()["header"]["event"]]
    while events[-1] != "task-failed":
        events.append(client.receive()["header"]["event"])
    assert client.close_code() == 1000


def test_a_frame_that_is_not_json_closes_with_1007(emulator, client):
    client.begin()
    client.ws.send("{")
    assert client.close_code() == 1007
    assert emulator.logbook.tasks[0].code == "1007"


def test_what_follows_a_failure_is_ignored(client):
    client.ws.send(json.dumps({"header": {}}))
    client.audio(counter(1000), size=10)
    assert client.failure()[0] == "InvalidParameter"


def test_an_unknown_model_is_not_found(emulator, client):
    client.start(model="whisper")
    assert client.failure()[0] == "ModelNotFound"
    assert (emulator.logbook.tasks[0].outcome, emulator.logbook.streams) == ("failed", 0)


def test_an_unknown_format_is_unsupported_and_leaves_no_stream_open(start, connect):
    emulator = start(Limits(max_streams=1, close_code=4000))
    client = connect(emulator)
    client.start(parameters={"format": "mp3", "sample_rate": 16000})
    assert client.failure()[0] == "UNSUPPORTED_FORMAT"
    assert client.close_code() == 4000
    assert connect(emulator).transcribe(counter(5)) == ["1-5"]


def test_no_audio_at_all_is_no_valid_audio(client):
    client.begin()
    client.finish()
    assert client.failure()[0] == "NO_VALID_AUDIO_ERROR"


def test_silence_finishes_without_a_sentence(client):
    assert client.transcribe(bytes(SECOND)) == []


def test_continue_task_is_taken_silently(emulator, client):
    client.begin()
    client.send(command("continue-task", client.task_id))
    client.audio(counter(10))
    client.finish()
    assert client.finals() == ["1-10"]
    assert emulator.logbook.tasks[0].continues == 1


def test_a_client_that_leaves_loses_its_task(emulator, client):
    client.begin()
    client.ws.shutdown()
    assert emulator.logbook.wait_until(lambda book: book.connections_open == 0)
    assert emulator.logbook.tasks[0].outcome == "lost"
    assert emulator.logbook.streams_open == 0


def test_starts_over_the_rate_are_throttled(start, connect):
    emulator = start(Limits(starts_per_second=1))
    connect(emulator).begin()
    client = connect(emulator)
    client.start()
    assert client.failure() == ("Throttling.RateQuota", "Requests rate limit exceeded, please try again later.")
    assert client.close_code() == 1000
    other = connect(emulator, key="another-account")
    other.begin()


def test_streams_over_the_cap_are_throttled(start, connect):
    emulator = start(Limits(max_streams=1))
    first = connect(emulator)
    first.begin()
    second = connect(emulator)
    second.start()
    assert second.failure()[0] == "Throttling.Concurrency"
    first.ws.shutdown()
    assert emulator.logbook.wait_until(lambda book: book.streams_open == 0)
    assert connect(emulator).transcribe(counter(5)) == ["1-5"]


def test_a_client_may_start_as_soon_as_its_task_is_over(start, connect):
    emulator = start(Limits(max_streams=1, starts_per_second=None))
    clients = [connect(emulator), connect(emulator)]
    assert [client.transcribe(counter(5)) for client in clients * 5] == [["1-5"]] * 10
    assert emulator.logbook.summary()["refused"] == 0


def test_refused_starts_are_counted(start, connect):
    emulator = start(Limits(max_streams=1))
    first = connect(emulator)
    first.begin()
    for _ in range(2):
        second = connect(emulator)
        second.start()
        assert second.failure()[0] == "Throttling.Concurrency"
    summary = emulator.logbook.summary()
    assert (summary["refused"], summary["streams"]) == (2, 1)
    assert (sum(summary["per_second"]["refused"]), sum(summary["per_second"]["starts"])) == (2, 1)


class CuriousLink:
    """Plays one connection; whenever the client hears something, it asks whether one more stream would be let in."""

    stalled = False
    read_pause = 0.0

    def __init__(self, admission: Admission, frames: list[WSMessage], last: str) -> None:
        self.answers: dict[str, str | None] = {}
        self._admission = admission
        self._frames = frames
        self._last = last
        self._over = asyncio.Event()

    async def receive(self) -> WSMessage:
        if self._frames:
            return self._frames.pop(0)
        await self._over.wait()
        return WSMessage(WSMsgType.CLOSED, None, None)

    async def send(self, text: str) -> None:
        event = json.loads(text)["header"]["event"]
        self._ask(event)
        if event == self._last:
            self._over.set()

    def close(self, code: int, reason: str = "") -> None:
        self._ask("close")

    async def end(self) -> None:
        self._ask("end")

    def _ask(self, moment: str) -> None:
        self.answers[moment] = self._admission.enter("account", "any", 0.0)
        if self.answers[moment] is None:
            self._admission.leave("account")


async def played(frames: list[WSMessage], last: str) -> dict[str, str | None]:
    limits = Limits(max_streams=1, starts_per_second=None)
    admission = Admission(limits)
    link = CuriousLink(admission, frames, last)
    with ThreadPoolExecutor(1) as executor:
        service = Service(
            engine=ScriptEngine(),
            executor=executor,
            limits=limits,
            admission=admission,
            faults=Faults(),
            logbook=Logbook(),
        )
        await Connection(cast(Link, link), 1, "account", service).serve()
    return link.answers


def text(message: dict[str, Any]) -> WSMessage:
    return WSMessage(WSMsgType.TEXT, json.dumps(message), None)


RUN = text(run_task("t"))
AUDIO = WSMessage(WSMsgType.BINARY, counter(5), None)
FINISH = text(command("finish-task", "t"))
FULL = "Throttling.Concurrency"


@pytest.mark.parametrize(
    ("frames", "last", "answers"),
    [
        (
            [RUN, AUDIO, FINISH],
            "task-finished",
            {"task-started": FULL, "result-generated": FULL, "task-finished": None, "end": None},
        ),
        ([RUN, FINISH], "task-failed", {"task-started": FULL, "task-failed": None, "close": None, "end": None}),
        ([RUN], "task-started", {"task-started": FULL, "end": None}),
    ],
    ids=["finished", "failed", "lost"],
)
def test_a_stream_is_out_of_the_count_before_the_client_hears_of_its_end(frames, last, answers):
    assert asyncio.run(played(list(frames), last)) == answers


def test_pings_are_answered(client):
    client.ws.pong(b"unasked")
    client.ws.ping(b"hello")
    opcode, data = client.ws.recv_data(control_frame=True)
    assert (opcode, data) == (websocket.ABNF.OPCODE_PONG, b"hello")


def test_the_key_is_recorded_nowhere(emulator, connect):
    client: Client = connect(emulator, key="sk-very-secret")
    client.transcribe(counter(10))
    book = emulator.logbook
    assert "sk-very-secret" not in f"{book.summary()} {book!r} {[task.to_wire() for task in book.tasks]}"


def test_a_sender_at_full_speed_still_reads_why_it_was_closed(start, connect):
    client = connect(start(Limits(max_streams=1, models=("none",))))
    client.start()
    client.audio(counter(30 * 16000))
    assert client.failure()[0] == "ModelNotFound"
    assert client.close_code() == 1000


def test_a_client_that_never_says_goodbye_is_dropped(emulator, client):
    client.audio(counter(10))
    assert emulator.logbook.wait_until(lambda book: len(book.errors) == 1)
    assert emulator.logbook.wait_until(lambda book: book.connections_open == 0)


class SlowEngine:
    """Takes its time over each chunk, in a thread."""

    name = "slow"
    blocking = True

    def open(self, sample_rate: int) -> EngineStream:
        return self

    def feed(self, pcm: bytes) -> list[Result]:
        time.sleep(0.03)
        return []

    def finish(self) -> list[Result]:
        return [Result(0, 1, "done")]


def test_a_slow_engine_holds_the_client_back_and_does_not_blame_it(start, connect):
    emulator = start(Limits(no_data_seconds=0.1, queue_chunks=4), engine=SlowEngine())
    client = connect(emulator)
    client.begin()
    client.audio(counter(16000))
    client.finish()
    assert client.finals() == ["done"]
    first, *_, last = [at for at, _ in emulator.logbook.tasks[0].chunks]
    assert last - first > 0.1


def test_a_client_that_leaves_a_busy_engine_is_noticed(start, connect):
    emulator = start(Limits(queue_chunks=1), engine=SlowEngine())
    client = connect(emulator)
    client.begin()
    client.audio(counter(16000))
    client.ws.shutdown()
    assert emulator.logbook.wait_until(lambda book: book.connections_open == 0)
    assert emulator.logbook.tasks[0].outcome == "lost"
