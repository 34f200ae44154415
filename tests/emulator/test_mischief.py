"""Every fault, as the client sees it."""

import time

import pytest
import websocket

from emulator import Fault, Limits
from tests.emulator.client import SECOND, Client, counter


def names(client: Client, count: int) -> list[str]:
    return [client.event() for _ in range(count)]


@pytest.mark.parametrize("status", [401, 429, 503])
def test_http_status(emulator, connect, status):
    emulator.faults.add(Fault(kind="http_status", value=status, retry_after=7))
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        connect(emulator)
    assert caught.value.status_code == status
    assert caught.value.resp_headers is not None
    assert caught.value.resp_headers["retry-after"] == "7"
    assert emulator.logbook.rejected == {status: 1}
    connect(emulator).begin()


def test_accept_never(emulator, connect):
    emulator.faults.add(Fault(kind="accept_never"))
    with pytest.raises((TimeoutError, websocket.WebSocketTimeoutException)):
        websocket.create_connection(emulator.url, timeout=0.2, header=["Authorization: Bearer k"])
    connect(emulator).begin()


def test_a_fault_with_a_marker_passes_other_tasks_by(emulator, connect):
    emulator.faults.add(Fault(kind="task_failed", marker="mine"))
    audio = {"format": "pcm", "sample_rate": 16000}
    connect(emulator).begin(parameters={**audio, "marker": "yours"})
    client = connect(emulator)
    client.start(parameters={**audio, "marker": "mine"})
    assert client.failure()[0] == "InternalError"
    assert [task.fault for task in emulator.logbook.tasks] == [None, "task_failed"]


def test_no_pong(emulator, connect):
    emulator.faults.add(Fault(kind="no_pong"))
    client = connect(emulator)
    client.ws.ping(b"anyone?")
    client.start()
    opcode, data = client.ws.recv_data(control_frame=True)
    assert (opcode, b"task-started" in data) == (websocket.ABNF.OPCODE_TEXT, True)


@pytest.mark.parametrize("code", [1007, 1011, 4321])
def test_close_after_audio(emulator, client, code):
    emulator.faults.add(Fault(kind="close", value=code, after_ms=500))
    client.begin()
    client.audio(counter(16000))
    assert client.event() == "result-generated"
    assert client.close_code() == code
    assert emulator.logbook.wait_until(lambda book: book.tasks[0].outcome == "lost")
    assert emulator.logbook.tasks[0].fault == "close"


@pytest.mark.parametrize("after_ms", [0, 100])
def test_abort(emulator, client, after_ms):
    emulator.faults.add(Fault(kind="abort", after_ms=after_ms))
    client.start()
    with pytest.raises(OSError):
        for _ in range(1000):
            client.audio(counter(16000))
            client.ws.settimeout(0.01)
            try:
                client.ws.recv()
            except websocket.WebSocketTimeoutException:
                continue


def test_truncated_frame(emulator, client):
    emulator.faults.add(Fault(kind="truncated_frame", at="finish"))
    client.begin()
    client.audio(counter(100))
    client.finish()
    with pytest.raises((websocket.WebSocketConnectionClosedException, ConnectionError)):
        client.receive()


def test_no_task_started(emulator, client):
    emulator.faults.add(Fault(kind="no_task_started"))
    client.start()
    client.audio(counter(16000 * 20))
    client.ws.settimeout(0.1)
    with pytest.raises(websocket.WebSocketTimeoutException):
        client.receive()
    client.ws.shutdown()
    assert emulator.logbook.wait_until(lambda book: book.connections_open == 0)


def test_delay_task_started(emulator, client):
    emulator.faults.add(Fault(kind="delay_task_started", value=200))
    began = time.monotonic()
    client.begin()
    assert time.monotonic() - began >= 0.2


def test_no_task_finished(emulator, client):
    emulator.faults.add(Fault(kind="no_task_finished"))
    client.begin()
    client.audio(counter(100))
    client.finish()
    assert client.event() == "result-generated"
    client.ws.settimeout(0.1)
    with pytest.raises(websocket.WebSocketTimeoutException):
        client.receive()


def test_late_events_come_after_the_end(emulator, client):
    emulator.faults.add(Fault(kind="late_events"))
    client.begin()
    client.audio(counter(100))
    client.finish()
    first = client.task_id
    client.until_end()
    late = client.receive()
    assert (late["header"]["event"], late["header"]["task_id"]) == ("result-generated", first)
    assert client.transcribe(counter(10)) == ["1-10"]


@pytest.mark.parametrize("after_ms", [0, 1000])
def test_task_failed(emulator, client, after_ms):
    fault = Fault(kind="task_failed", value="Throttling", message="Slow down.", after_ms=after_ms)
    emulator.faults.add(fault)
    client.start()
    client.audio(counter(16000))
    assert client.failure() == ("Throttling", "Slow down.")
    assert client.close_code() == 1000


def test_task_failed_with_the_connection_left_open(emulator, client):
    emulator.faults.add(Fault(kind="task_failed", keep_open=True))
    client.start()
    assert client.failure()[0] == "InternalError"
    assert client.transcribe(counter(10)) == ["1-10"]


@pytest.mark.parametrize("at", ["start", "finish"])
def test_garbage(emulator, client, at):
    emulator.faults.add(Fault(kind="garbage", at=at, value="<html>"))
    client.start()
    client.audio(counter(100))
    client.finish()
    frames = [client.ws.recv() for _ in range(4)]
    assert "<html>" in frames


def test_binary(emulator, client):
    emulator.faults.add(Fault(kind="binary"))
    client.start()
    assert client.ws.recv_data()[0] == websocket.ABNF.OPCODE_BINARY
    assert client.event() == "task-started"


def test_foreign_task_id(emulator, client):
    emulator.faults.add(Fault(kind="foreign_task_id", after_ms=10))
    client.begin()
    client.audio(counter(160))
    assert client.receive()["header"]["task_id"] == "0" * 32


def test_silent_neither_reads_nor_writes(start, connect):
    emulator = start(Limits(no_data_seconds=0.5))
    client = connect(emulator)
    emulator.faults.add(Fault(kind="silent", after_ms=100))
    client.begin()
    client.audio(counter(3200))
    client.ws.settimeout(0.7)
    with pytest.raises(websocket.WebSocketTimeoutException):
        for _ in range(1000):  # the first pings may be answered: the audio is still on its way through the engine
            client.ws.ping()
            assert client.ws.recv_data(control_frame=True)[0] == websocket.ABNF.OPCODE_PONG
    client.audio(counter(8 * SECOND))
    client.ws.shutdown()
    assert emulator.logbook.wait_until(lambda book: book.connections_open == 0)
    assert emulator.logbook.tasks[0].audio_bytes <= 3 * 3200


def test_a_slow_reader_does_not_blame_the_client(start, connect):
    emulator = start(Limits(no_data_seconds=0.2))
    emulator.faults.add(Fault(kind="slow_reader", value=60))
    client = connect(emulator)
    began = time.monotonic()
    client.begin()
    client.audio(counter(8000))
    client.finish()
    assert client.finals() == ["1-8000"]
    assert time.monotonic() - began > 0.3


def test_close_idle_spares_who_is_busy(emulator, connect):
    idle, busy = connect(emulator), connect(emulator)
    busy.begin()
    emulator.faults.add(Fault(kind="close_idle", value=1001))
    assert idle.close_code() == 1001
    busy.audio(counter(SECOND))
    busy.finish()
    assert len(busy.finals()) == 2


def test_abort_all_cuts_who_is_busy_too(emulator, connect):
    idle, busy = connect(emulator), connect(emulator)
    busy.begin()
    emulator.faults.add(Fault(kind="abort_all"))
    assert emulator.logbook.wait_until(lambda book: book.connections_open == 0)
    for client in (idle, busy):
        with pytest.raises((ConnectionError, websocket.WebSocketConnectionClosedException)):
            client.close_code()
    (task,) = emulator.logbook.tasks
    assert task.outcome == "lost"


def test_a_fault_strikes_one_task_only(emulator, client):
    emulator.faults.add(Fault(kind="foreign_task_id"))
    client.start()
    assert names(client, 2) == ["result-generated", "task-started"]
    client.audio(counter(10))
    client.finish()
    client.until_end()
    client.begin()
