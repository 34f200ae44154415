"""The service's patience, with shortened limits."""

import time

from emulator import Limits
from tests.emulator.client import SECOND, counter


def test_a_task_without_data_fails(start, connect):
    client = connect(start(Limits(no_data_seconds=0.2)))
    client.begin()
    client.audio(counter(100))
    assert client.failure() == ("CLIENT_ERROR", "request timeout after 0.2 seconds.")
    assert client.close_code() == 1000


def test_pings_are_no_data(start, connect):
    client = connect(start(Limits(no_data_seconds=0.3)))
    client.begin()
    client.ws.settimeout(0.05)
    began = time.monotonic()
    while time.monotonic() - began < 5:
        client.ws.ping()
        try:
            assert client.receive()["header"]["error_code"] == "CLIENT_ERROR"
            break
        except TimeoutError:
            continue
        except Exception as exc:
            assert "timed out" in str(exc)
    assert time.monotonic() - began < 2


def test_an_idle_connection_is_closed_after_its_task(start, connect):
    emulator = start(Limits(idle_seconds=0.1))
    client = connect(emulator)
    client.transcribe(counter(10))
    assert client.close_code() == 1000
    assert emulator.logbook.summary()["idle_closed"] == 1


def test_a_new_task_keeps_the_connection(start, connect):
    emulator = start(Limits(idle_seconds=0.5))
    client = connect(emulator)
    for _ in range(4):
        client.transcribe(counter(10))
        assert not emulator.logbook.wait_until(lambda book: book.connections_open == 0, timeout=0.2)


def test_a_connection_without_a_first_task_is_closed_if_asked(start, connect):
    assert connect(start(Limits(first_task_seconds=0.1))).close_code() == 1000


def test_long_silence_times_out(start, connect):
    client = connect(start(Limits(silence_seconds=2)))
    client.begin()
    client.audio(counter(1600) + bytes(2 * SECOND))
    assert client.failure() == ("ResponseTimeout", "Response timeout.")


def test_sound_ends_a_silence(start, connect):
    client = connect(start(Limits(silence_seconds=2)))
    client.begin()
    quiet = bytes(SECOND + SECOND // 2)
    client.audio(quiet + counter(1600, first=1000) + quiet)
    client.finish()
    assert client.until_end()[-1]["header"]["event"] == "task-finished"


def test_with_heartbeat_silence_is_answered_by_heartbeats(start, connect):
    client = connect(start(Limits(silence_seconds=1, heartbeat_seconds=2)))
    client.begin(parameters={"format": "pcm", "sample_rate": 16000, "heartbeat": True})
    client.audio(bytes(5 * SECOND))
    client.finish()
    *beats, end = client.until_end()
    assert [beat["payload"]["output"]["sentence"]["begin_time"] for beat in beats] == [2000, 4000]
    assert all(beat["payload"]["output"]["sentence"]["heartbeat"] for beat in beats)
    assert end["header"]["event"] == "task-finished"
