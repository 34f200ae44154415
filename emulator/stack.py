"""Valkey, emulator and workers as real processes on free ports, for the demo and the tests."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

START_TIMEOUT = 60.0
"""Seconds that a process has to be ready; the speech model is loaded in that time."""

OURS = 12_000, 32_000
"""Ports for servers. Linux gives clients those from 32,768 on, other systems higher ones."""

ANY = random.SystemRandom()  # tests begin the ordinary one with the same seed, again and again

STOP_TIMEOUT = 15.0
"""Seconds that a process has to stop by itself before it is killed."""


class NotReady(RuntimeError):
    """Raised when a process ended or did not become ready in time; its text holds the end of its output."""


class Process:
    """A command with its output in a file. It leads a process group, so that its children stop with it."""

    def __init__(self, name: str, command: list[str], env: dict[str, str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as output:
            self._child = subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    def __repr__(self) -> str:
        return f"<Process {self.name}, pid {self.pid}, {'running' if self.running else 'ended'}>"

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        # Looked at without being reaped: until then no other process can get its number, so that a kill cannot stray.
        return self._child.returncode is None and not os.waitid(
            os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT
        )

    @property
    def output(self) -> str:
        """All that it has printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_until(self, ready: Callable[["Process"], bool], timeout: float = START_TIMEOUT) -> "Process":
        """Wait until it is ready. Raises `NotReady`."""
        until = time.monotonic() + timeout
        while not ready(self):
            if not self.running or time.monotonic() > until:
                raise NotReady(f"{self.name} is not ready. The end of its output:\n{self.output[-2000:]}")
            time.sleep(0.02)
        return self

    def stop(self, timeout: float = STOP_TIMEOUT) -> int:
        """Ask it to stop, kill what has not stopped in time and any child it left, and return the exit code."""
        if self._child.returncode is None:
            until = time.monotonic() + timeout
            os.kill(self.pid, signal.SIGTERM)  # Popen.terminate would reap it first
            while self.running and time.monotonic() < until:
                time.sleep(0.02)
            os.killpg(self.pid, signal.SIGKILL)
        return self._child.wait()


class Stack:
    """Valkey and the emulator, and as many workers as are asked for. Leaving it stops them all."""

    def __init__(
        self,
        folder: Path,
        *,
        engine: str = "script",
        emulator_options: tuple[str, ...] = (),
        valkey_options: tuple[str, ...] = (),
    ) -> None:
        self.folder = folder
        self.processes: list[Process] = []
        self.redis_url = f"redis://127.0.0.1:{free_port()}/0"
        self.upstream_url = ""
        self._engine = engine
        self._options = emulator_options
        self._valkey_options = valkey_options

    def __enter__(self) -> "Stack":
        try:
            self.start_valkey()
            self.start_emulator()
            self.valkey.wait_until(self.valkey_answers)
            self.emulator.wait_until(is_listening)
        except BaseException:
            self.stop()
            raise
        self.upstream_url = self.emulator.output.split("listening on ")[1].split()[0]
        return self

    def start_valkey(self, *options: str) -> Process:
        """Start Valkey, or start it again where it was; not waited for. Options replace those of the stack."""
        port = self.redis_url.split(":")[-1].split("/")[0]
        command = [sys.executable, "-m", "emulator.valkey", "--port", port, *(options or self._valkey_options)]
        self.valkey = self.run("valkey", command)
        return self.valkey

    def start_emulator(self) -> Process:
        """Start the emulator, or start it again where it was; not waited for."""
        port = self.upstream_url.split(":")[2].split("/")[0] if self.upstream_url else str(free_port())
        command = [sys.executable, "-m", "emulator", "--port", port, "--engine", self._engine, *self._options]
        self.emulator = self.run("emulator", command)
        return self.emulator

    def valkey_answers(self, process: Process) -> bool:
        """Whether Valkey takes commands."""
        return answers(int(self.redis_url.split(":")[-1].split("/")[0]))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What was interrupted has nothing to finish.
        self.stop(STOP_TIMEOUT if error is None else 1.0)

    @property
    def http_url(self) -> str:
        """Where the emulator's logbook and faults are."""
        return self.upstream_url.replace("ws", "http", 1).split("/api-ws")[0]

    def env(self, **more: str) -> dict[str, str]:
        """The environment of a worker or a client of this stack."""
        own = {
            "STENOPOOL_REDIS_URL": self.redis_url,
            "DASHSCOPE_WEBSOCKET_BASE_URL": self.upstream_url,
            "DASHSCOPE_HTTP_BASE_URL": f"{self.http_url}/api/v1",
            "DASHSCOPE_API_KEY": "emulator",
        }
        return dict(os.environ) | own | more

    def run(self, name: str, command: list[str], env: dict[str, str] | None = None) -> Process:
        """Start a process that stops with the stack."""
        process = Process(name, command, env or dict(os.environ), self.folder)
        self.processes.append(process)
        return process

    def worker(
        self, pool: str = "prefork", concurrency: int = 2, name: str = "worker", options: Sequence[str] = (), **env: str
    ) -> Process:
        """Start a worker and wait until it is ready."""
        return self.start_worker(pool, concurrency, name, options, **env).wait_until(is_ready)

    def start_worker(self, pool: str, concurrency: int, name: str, options: Sequence[str] = (), **env: str) -> Process:
        """Start a worker, with further options of Celery's, and wait for nothing: Redis may still be missing."""
        common = ["-P", pool, "-c", str(concurrency), "-n", f"{name}@%h", "--without-gossip", "--without-mingle"]
        command = [sys.executable, "-m", "celery", "-A", "worker.app", "worker", "-l", "INFO", *common, *options]
        return self.run(name, command, self.env(**env))

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Stop everything, the last started first. Ctrl-C meanwhile kills what is waited for; nothing is left."""
        while self.processes:
            try:
                self.processes[-1].stop(timeout)
            except KeyboardInterrupt:
                self.processes[-1].stop(timeout=0.0)
            self.processes.pop()


def is_ready(worker: Process) -> bool:
    """Whether a worker takes jobs."""
    return " ready." in worker.output


def is_listening(emulator: Process) -> bool:
    """Whether an emulator takes connections."""
    return "listening on " in emulator.output


def free_port() -> int:
    """A port that nobody uses now, below those that the system gives to clients.

    Else a client might be given the port of a server that is away for a while: it could not come back to it, and who
    calls it there would even meet himself.
    """
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", ANY.randrange(*OURS)))
            return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether a Redis on this machine answers a PING."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
