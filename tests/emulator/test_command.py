"""`python -m emulator` as a process."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
import websocket

from emulator.__main__ import main
from tests.emulator.client import Client, counter
from tests.emulator.test_server import ask

COMMAND = [sys.executable, "-m", "emulator"]


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([*COMMAND, "--port", "0"], stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_stop(process, number):
    assert process.stderr
    line = process.stderr.readline()
    found = re.fullmatch(
        r"emulator listening on (ws://127\.0\.0\.1:(\d+)/api-ws/v1/inference) \(engine script\)\n", line
    )
    assert found, line
    client = Client(found[1])
    assert client.transcribe(counter(100)) == ["1-100"]
    client.begin()
    _, book = ask("GET", f"http://127.0.0.1:{found[2]}/logbook")
    assert book["summary"]["streams"] == 2
    process.send_signal(number)
    assert process.wait(timeout=3) == 0
    assert process.stderr.read() == ""
    client.ws.shutdown()


def test_a_port_in_use_is_one_sentence(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 1
    assert capsys.readouterr().err.startswith(f"emulator: cannot listen on 127.0.0.1:{port}: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--certificate", "missing.pem"], "cannot use the certificate missing.pem"),
        (["--sentence-ms", "1"], "sentence_ms=1 must be at least 2"),
        (["--port", "70000"], "cannot listen on 127.0.0.1:70000"),
    ],
)
def test_what_cannot_run_is_one_sentence(capsys, arguments, said):
    assert main(["--port", "0", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("emulator: " + said)
    assert error.count("\n") == 1


def test_a_wrong_limit_is_a_wrong_flag(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--idle-seconds", "-1"])
    assert caught.value.code == 2
    assert "idle_seconds=-1.0 must be greater than 0" in capsys.readouterr().err


def test_upgrades_and_the_penalty_are_limited_by_flags():
    command = [*COMMAND, "--port", "0", "--opens-per-second", "1", "--penalty-seconds", "60"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        url = process.stderr.readline().split()[3]
        clients = []
        with pytest.raises(websocket.WebSocketBadStatusException, match="429"):
            while True:
                clients.append(Client(url))
        with pytest.raises(websocket.WebSocketBadStatusException, match="429"):
            Client(url)
        process.terminate()
        assert process.wait(timeout=3) == 0
    for client in clients:
        client.ws.shutdown()


@pytest.mark.parametrize("flag", ["--opens-per-second", "--penalty-seconds"])
def test_a_negative_rate_or_penalty_is_a_wrong_flag(capsys, flag):
    with pytest.raises(SystemExit):
        main([flag, "-1"])
    assert flag[2:].replace("-", "_") + "=-1" in capsys.readouterr().err


def test_it_runs_without_the_speech_model(tmp_path):
    (tmp_path / "moonshine_voice.py").write_text("raise ImportError('not here')")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(tmp_path), os.getcwd()))}
    command = [*COMMAND, "--port", "0", "--engine", "moonshine"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert done.stderr == "emulator: the moonshine engine needs the package moonshine-voice==0.0.73 (not here)\n"


def test_it_serves_tls(certificate):
    command = [*COMMAND, "--port", "0", "--certificate", str(certificate), "--key", str(certificate)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert process.stderr.readline().startswith("emulator listening on wss://127.0.0.1:")
        process.terminate()
        assert process.wait(timeout=3) == 0
