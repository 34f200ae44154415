import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from emulator.stack import NotReady, Process, Stack, answers, free_port, is_listening
from emulator.valkey import command, embedded, installed

Run = Callable[..., Process]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def started(program: str) -> Process:
        return Process("it", [sys.executable, "-c", program], dict(os.environ), tmp_path)

    return started


def test_a_process_is_ready_when_its_output_says_so(run: Run) -> None:
    process = run("print('up', flush=True); import time; time.sleep(60)")
    process.wait_until(lambda it: "up" in it.output)
    assert process.running and repr(process) == f"<Process it, pid {process.pid}, running>"
    assert process.stop() == -signal.SIGTERM
    assert not process.running and process.stop() == -signal.SIGTERM


def test_a_process_that_ends_early_is_said_with_its_output(run: Run) -> None:
    process = run("print('no such thing'); raise SystemExit(3)")
    with pytest.raises(NotReady, match="no such thing"):
        process.wait_until(lambda _: False)
    assert process.stop() == 3


def test_a_process_that_is_never_ready_is_not_waited_for_longer_than_allowed(run: Run) -> None:
    process = run("import time; time.sleep(60)")
    with pytest.raises(NotReady):
        process.wait_until(lambda _: False, timeout=0.1)
    process.stop()


def test_what_does_not_stop_is_killed_with_its_children(run: Run) -> None:
    process = run(
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print('child', child.pid, flush=True); time.sleep(60)"
    )
    process.wait_until(lambda it: "child" in it.output and it.output.endswith("\n"))
    child = int(process.output.split()[-1])
    assert process.stop(timeout=0.2) == -signal.SIGKILL
    until = time.monotonic() + 10
    while is_alive(child):
        assert time.monotonic() < until
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether it runs; what is dead and not yet reaped by the system does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_stack_that_does_not_come_up_stops_what_it_started(tmp_path: Path) -> None:
    stack = Stack(tmp_path, emulator_options=("--no-such-flag",))
    with pytest.raises(NotReady, match="no-such-flag"), stack:
        pass
    assert stack.processes == []


def test_what_a_stack_runs_can_be_started_again_where_it_was(tmp_path: Path) -> None:
    with Stack(tmp_path, valkey_options=("--data", str(tmp_path))) as stack:
        with redis.Redis.from_url(stack.redis_url) as client:
            client.set("kept", 1)
            stack.valkey.stop()
            stack.start_valkey().wait_until(stack.valkey_answers)
            assert client.get("kept") == b"1"
            stack.valkey.stop()
            stack.start_valkey("--host", "127.0.0.1").wait_until(stack.valkey_answers)
            assert client.get("kept") is None
        stack.emulator.stop()
        stack.start_emulator().wait_until(is_listening)
        urllib.request.urlopen(f"{stack.http_url}/logbook", timeout=10).close()
        assert stack.upstream_url in stack.emulator.output


def test_nobody_answers_at_a_free_port_and_no_client_is_given_it() -> None:
    ports = {free_port() for _ in range(20)}
    assert len(ports) > 10 and max(ports) < 32_768
    assert not any(map(answers, ports))


def test_the_embedded_server_is_real_and_keeps_nothing(valkey: str, tmp_path: Path) -> None:
    assert "valkey-server" in embedded()
    line = command("valkey-server", "127.0.0.1", 1)
    assert (line[line.index("--save") + 1], line[line.index("--appendonly") + 1]) == ("", "no")
    assert line[line.index("--maxmemory-policy") + 1] == "noeviction"


def test_a_machine_without_a_server_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="neither valkey-server nor redis-server is installed"):
        installed()
    (tmp_path / "redis-server").write_text("#!/bin/sh\n")
    (tmp_path / "redis-server").chmod(0o755)
    assert installed() == str(tmp_path / "redis-server")


def test_the_system_s_server_is_used_when_asked_for(tmp_path: Path) -> None:
    (tmp_path / "redis-server").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "redis-server").chmod(0o755)
    line = [sys.executable, "-m", "emulator.valkey", "--system", "--port", "77"]
    done = subprocess.run(line, env=os.environ | {"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True)
    assert "--port 77" in done.stdout
