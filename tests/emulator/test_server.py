"""The port as a whole: upgrades, the HTTP side, TLS, start and stop."""

import json
import socket
import ssl
import urllib.error
import urllib.request
from typing import Any

import pytest
import websocket

from emulator import BackgroundEmulator, Fault, Limits, Logbook
from tests.emulator.client import Client, counter


def ask(method: str, url: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.loads(response.read() or b"null")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_both_paths_and_any_case_of_bearer_are_taken(emulator, slash, scheme):
    ws = websocket.create_connection(emulator.url + slash, timeout=5, header=[f"Authorization: {scheme} k"])
    ws.close()
    assert emulator.logbook.connections == 1


@pytest.mark.parametrize("header", [[], ["Authorization: Basic x"], ["Authorization: Bearer "], ["Authorization: k"]])
def test_without_a_bearer_key_there_is_no_upgrade(emulator, header):
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        websocket.create_connection(emulator.url, timeout=5, header=header)
    assert caught.value.status_code == 401
    assert caught.value.resp_body is not None
    assert json.loads(caught.value.resp_body)["code"] == "InvalidApiKey"


def test_only_the_configured_key_is_taken(start, connect):
    emulator = start(api_key="right")
    connect(emulator, key="right").begin()
    with pytest.raises(websocket.WebSocketBadStatusException, match="401"):
        connect(emulator, key="wrong")


def test_upgrades_over_the_rate_are_refused_for_the_penalty(start, connect):
    emulator = start(Limits(opens_per_second=1, penalty_seconds=60))
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        while True:
            connect(emulator)
    assert caught.value.status_code == 429
    assert caught.value.resp_body is not None
    assert json.loads(caught.value.resp_body)["code"] == "Throttling.BurstRate"
    assert "retry-after" not in (caught.value.resp_headers or {})
    with pytest.raises(websocket.WebSocketBadStatusException, match="429"):
        connect(emulator)
    connect(emulator, key="another-account")
    assert emulator.logbook.rejected == {429: 2}
    summary = emulator.logbook.summary()
    assert sum(summary["per_second"]["upgrades"]) == summary["connections"] + 2


def test_what_is_no_upgrade_is_not_counted_as_one(start, connect):
    emulator = start(Limits(opens_per_second=1, penalty_seconds=60))
    url = emulator.api_url.replace("/api/v1", "/api-ws/v1/inference")
    assert [ask("GET", url, Authorization="Bearer secret-key")[0] for _ in range(3)] == [400] * 3
    connect(emulator)


def test_a_plain_get_is_told_to_upgrade(emulator):
    url = emulator.api_url.replace("/api/v1", "/api-ws/v1/inference")
    assert ask("GET", url, Authorization="Bearer k")[0] == 400


def test_faults_are_ordered_shown_and_forgotten_over_http(emulator):
    url = emulator.http_url + "/faults"
    status, pending = ask("POST", url, [{"kind": "close"}, {"kind": "abort", "times": 2}])
    assert (status, [fault["kind"] for fault in pending]) == (201, ["close", "abort"])
    assert ask("POST", url, {"kind": "garbage"})[0] == 201
    assert len(ask("GET", url)[1]) == 3
    assert ask("DELETE", url) == (204, None)
    assert emulator.faults.pending == ()


@pytest.mark.parametrize("body", [{"kind": "x"}, 5, {"kind": "close", "times": "many"}])
def test_a_wrong_fault_is_explained(emulator, body):
    status, answer = ask("POST", emulator.http_url + "/faults", body)
    assert status == 400
    assert answer["error"]


def test_the_logbook_is_shown_and_cleared_over_http(emulator, client):
    client.transcribe(counter(100))
    url = emulator.http_url + "/logbook"
    status, book = ask("GET", url)
    assert status == 200
    assert (book["summary"]["connections"], book["summary"]["streams"]) == (1, 1)
    assert (book["tasks"][0]["outcome"], book["tasks"][0]["audio_bytes"]) == ("finished", 200)
    assert "chunks" not in book["tasks"][0]
    assert ask("GET", url + "?chunks=1")[1]["tasks"][0]["chunks"][0][1] == 200
    assert ask("DELETE", url)[0] == 204
    assert emulator.logbook.tasks == ()


def test_tcp_connections_are_counted(emulator, connect):
    connect(emulator)
    ask("GET", emulator.http_url + "/logbook")
    assert emulator.logbook.tcp == 2


def test_it_speaks_tls(start, certificate):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    emulator = start(ssl_context=server)
    assert emulator.url.startswith("wss://") and emulator.http_url.startswith("https://")
    client = Client(emulator.url, sslopt={"ca_certs": str(certificate)})
    assert client.transcribe(counter(100)) == ["1-100"]
    emulator.faults.add(Fault(kind="abort"))
    client.start()
    with pytest.raises((OSError, websocket.WebSocketException)):
        client.receive()
    client.ws.shutdown()


def test_audio_is_kept_if_asked(start, connect):
    emulator = start(keep_audio=True)
    connect(emulator).transcribe(counter(100))
    assert emulator.logbook.tasks[0].audio == counter(100)


def test_stopping_drops_who_is_connected(connect):
    emulator = BackgroundEmulator()
    with emulator:
        client = connect(emulator)
        client.begin()
        assert repr(emulator).startswith("<BackgroundEmulator ws://127.0.0.1:")
    with pytest.raises((OSError, websocket.WebSocketException)):
        client.receive()
    emulator.stop()
    emulator.faults.add(Fault(kind="close_idle"))
    assert emulator.logbook.connections_open == 0


def test_an_outage_is_played_with_one_logbook(connect):
    book = Logbook()
    with BackgroundEmulator(logbook=book) as first:
        connect(first)
        connect(first).begin()
        first.faults.add(Fault(kind="silent"))
        connect(first).start()
        assert book.wait_until(lambda it: it.streams_open == 2)
    assert (book.connections_open, book.streams_open) == (0, 0)
    with BackgroundEmulator(port=first.port, logbook=book) as second:
        assert connect(second).transcribe(counter(10)) == ["1-10"]
        assert (book.connections_open, book.streams_open) == (1, 0)
    assert (book.connections, book.connections_open, book.streams, book.streams_open) == (4, 0, 3, 0)
    assert [(task.connection, task.outcome) for task in book.tasks][-1] == (4, "finished")
    assert [task.outcome for task in book.tasks] == ["lost", "lost", "finished"]


def test_a_port_in_use_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(OSError):
            BackgroundEmulator(port=taken.getsockname()[1]).start()
