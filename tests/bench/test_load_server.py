"""The load server over real sockets, plain and TLS, and with clients of bad manners."""

import json
import os
import random
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import websocket

from bench.load import Server
from bench.load.script import Script
from worker.recognition import Event, Final, Finished, Partial, Started
from worker.recognition.messages import decode

PATIENCE = 20.0
CHUNK = bytes(3200)


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)


@contextmanager
def serving(certificate: Path | None = None) -> Iterator[Server]:
    server = Server(certificate=certificate, script=Script(final_every=1.0))
    thread = threading.Thread(target=server.serve, name="load")
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()
        server.close()


@pytest.fixture(params=["ws", "wss"])
def server(request: pytest.FixtureRequest, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(certificate if request.param == "wss" else None) as running:
        yield running


@pytest.fixture
def plain() -> Iterator[Server]:
    with serving() as running:
        yield running


class Client:
    """One connection of websocket-client."""

    def __init__(self, url: str) -> None:
        self._tasks = 0
        trusted = {"ca_certs": os.environ["SSL_CERT_FILE"]} if url.startswith("wss") else {}
        self.socket = websocket.create_connection(url, PATIENCE, sslopt=trusted)

    def start(self) -> None:
        self._tasks += 1
        self._command("run-task")
        assert isinstance(self.event(), Started)

    def send(self, count: int) -> None:
        for _ in range(count):
            self.socket.send_binary(CHUNK)

    def finish(self) -> list[Event]:
        """What was not yet heard of the task."""
        self._command("finish-task")
        heard = [self.event()]
        while not isinstance(heard[-1], Finished):
            heard.append(self.event())
        return heard

    def event(self) -> Event:
        return decode(str(self.socket.recv()))

    def close(self) -> None:
        self.socket.close()

    def _command(self, action: str) -> None:
        header = {"action": action, "task_id": f"task {self._tasks}", "streaming": "duplex"}
        self.socket.send(json.dumps({"header": header, "payload": {"input": {}}}))


@contextmanager
def connected(server: Server) -> Iterator[Client]:
    with closing(Client(server.url)) as client:
        yield client


def transcribed(client: Client, count: int) -> list[Event]:
    client.start()
    client.send(count)
    return client.finish()


def report(server: Server, method: str = "GET") -> dict[str, Any]:
    asked = urllib.request.Request(server.figures_url, method=method)
    with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:
        return dict(json.loads(answer.read() or b"{}"))


def dial(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0), PATIENCE)


def test_a_client_is_served_task_after_task_on_one_connection(server: Server) -> None:
    with connected(server) as client:
        for _ in range(3):
            said = transcribed(client, 27)
            finals = [event.sentence for event in said if isinstance(event, Final)]
            assert [(final.begin_time, final.end_time) for final in finals] == [(0, 1000), (1000, 2000), (2000, 2700)]
            assert sum(isinstance(event, Partial) for event in said) == 8
    until(lambda: report(server)["connections"] == 0)
    found = report(server)
    assert (found["accepted"], found["tasks_started"], found["tasks_finished"], found["errors"]) == (1, 3, 3, 0)
    assert (found["frames"], found["events"], found["first_events"], found["streams_max"]) == (81, 33, 3, 1)


def test_minutes_of_audio_at_once_are_not_lost_on_the_way(server: Server) -> None:
    with connected(server) as client:
        said = transcribed(client, 3000)
    assert sum(isinstance(event, Final) for event in said) == 300
    assert report(server)["audio_seconds"] == 300


def test_streams_beside_each_other_do_not_mix(server: Server) -> None:
    with connected(server) as one, connected(server) as other:
        one.start()
        other.start()
        one.send(10)
        other.send(20)
        assert (report(server)["streams"], report(server)["connections"]) == (2, 2)
        assert [len(client.finish()) for client in (one, other)] == [5, 9]
    assert report(server)["streams_max"] == 2


def test_a_client_that_comes_late_is_found_late(plain: Server) -> None:
    with connected(plain) as client:
        client.start()
        began = time.monotonic()
        until(lambda: time.monotonic() > began + 0.1)
        client.send(1)
        client.finish()
    assert 100 <= report(plain)["late_ms_max"] < 1000 * PATIENCE


def test_a_reset_counts_anew(plain: Server) -> None:
    with connected(plain) as client:
        transcribed(client, 5)
        assert report(plain, "DELETE") == {}
        found = report(plain)
        assert (found["frames"], found["tasks_started"], found["late_ms_max"], found["connections"]) == (0, 0, 0, 1)


@pytest.mark.parametrize(("method", "path", "status"), [("PUT", "/figures", 405), ("GET", "/", 404)])
def test_nothing_else_is_told(plain: Server, method: str, path: str, status: int) -> None:
    asked = urllib.request.Request(plain.figures_url.replace("/figures", path), method=method)
    with pytest.raises(urllib.error.HTTPError) as raised, urllib.request.urlopen(asked, timeout=PATIENCE):
        pass
    with closing(raised.value):
        assert raised.value.code == status


def test_hostile_bytes_are_dropped_and_counted_and_nobody_else_notices(server: Server) -> None:
    chance = random.Random(7)
    with connected(server) as client:
        for _ in range(20):
            with dial(server) as hostile:
                hostile.sendall(chance.randbytes(20_000) + b"\r\n\r\n")
                try:
                    while hostile.recv(4096):
                        pass
                except ConnectionResetError:
                    pass
        assert isinstance(transcribed(client, 10)[-1], Finished)
        until(lambda: report(server)["connections"] == 1)
    assert report(server)["errors"] == 20


def test_a_client_that_vanishes_in_a_task_is_counted(plain: Server) -> None:
    client = Client(plain.url)
    client.start()
    assert report(plain)["streams"] == 1
    client.socket.shutdown()
    until(lambda: report(plain)["connections"] == 0)
    assert (report(plain)["streams"], report(plain)["errors"]) == (0, 1)


def test_a_client_that_resets_before_it_speaks_is_forgotten(server: Server) -> None:
    client = dial(server)
    until(lambda: report(server)["connections"] == 1)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    until(lambda: report(server)["connections"] == 0)


def test_a_client_that_does_not_read_is_not_read_and_holds_nobody_up(server: Server) -> None:
    with closing(dial(server)) as raw, connected(server) as client:
        sock = raw
        if server.url.startswith("wss"):
            context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
            sock = context.wrap_socket(raw, server_hostname="127.0.0.1")
        sock.sendall(b"GET /api-ws/v1/inference HTTP/1.1\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        run = json.dumps({"header": {"action": "run-task", "task_id": "t"}}).encode()
        frame = b"\x82\xfe" + (8000).to_bytes(2, "big") + bytes(4 + 8000)
        sock.sendall(b"\x81" + bytes([0x80 | len(run)]) + bytes(4) + run)
        sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            for _ in range(100_000):
                sock.sendall(frame)
        assert isinstance(transcribed(client, 10)[-1], Finished)
        assert report(server)["connections"] == 2
        sock.close()


def test_the_command_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.load", "--final-every", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("listening on ws://127.0.0.1:")
            url = line.split("listening on ")[1].split(",")[0]
            with closing(Client(url)) as client:
                assert isinstance(transcribed(client, 10)[-1], Finished)
            with urllib.request.urlopen(line.split("figures on ")[1].strip(), timeout=PATIENCE) as answer:
                assert json.loads(answer.read())["tasks_finished"] == 1
        finally:
            process.terminate()
        assert process.wait(PATIENCE) == 0
