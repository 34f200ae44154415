"""Emulators, proxies and clients as processes of their own, so that the measured one has its interpreter to itself."""

import json
import os
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

from emulator.stack import Process, Stack

# An interrupt has nothing to wait for.
STOP_TIMEOUT = 2.0


class Stage:
    """Starts processes, each under a name of its own. All end with `stage()`."""

    def __init__(self, stack: Stack) -> None:
        self.folder = stack.folder
        self._stack = stack

    def emulator(self, *options: str) -> str:
        """Start an emulator that takes any number of starts a second; return its URL."""
        process = self._run("emulator", "--port", "0", "--starts-per-second", "0", *options)
        return process.wait_until(_listens).output.split("listening on ")[1].split()[0]

    @contextmanager
    def proxy(self, url: str, round_trip_ms: float, on: str) -> Iterator[str]:
        """A URL that leads there over a distance, as long as the block lasts."""
        port = str(urlsplit(url).port)
        process = self._run("bench.proxy", "--to", port, "--round-trip-ms", f"{round_trip_ms:g}", "--on", on)
        try:
            own = process.wait_until(_listens).output.split("listening on ")[1].split()[0]
            yield urlsplit(url)._replace(netloc=own).geturl()
        finally:
            process.stop(STOP_TIMEOUT)

    def ask(self, *command: str, timeout: float, **env: str) -> Any:
        """Run a module of ours to its end; return the line of JSON that it printed. Raises RuntimeError."""
        process = self._run(*command, **env)
        until = time.monotonic() + timeout
        while process.running and time.monotonic() < until:
            time.sleep(0.05)
        code, output = process.stop(STOP_TIMEOUT), process.output
        if code:
            raise RuntimeError(f"{command[0]} failed:\n{output[-2000:]}")
        return json.loads(next(line for line in output.splitlines() if line.startswith("{")))

    def _run(self, module: str, *options: str, **env: str) -> Process:
        name = f"{len(self._stack.processes)}-{module}"
        return self._stack.run(name, [sys.executable, "-m", module, *options], dict(os.environ) | env)


@contextmanager
def stage() -> Iterator[Stage]:
    """A stage, and its end, also by Ctrl-C, SIGTERM or SIGHUP: nothing that was started is left."""
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _leave)
    with tempfile.TemporaryDirectory(prefix="stenopool-bench-") as folder:
        stack = Stack(Path(folder))
        try:
            yield Stage(stack)
        finally:
            stack.stop(STOP_TIMEOUT)


def logbook(url: str, method: str = "GET") -> dict[str, Any]:
    """What the emulator behind this `ws:` URL has seen; DELETE starts afresh."""
    address = f"http://{urlsplit(url).netloc}/logbook"
    with urllib.request.urlopen(urllib.request.Request(address, method=method), timeout=30) as answer:
        return dict(json.loads(answer.read() or b"{}").get("summary", {}))


def _listens(process: Process) -> bool:
    return "listening on " in process.output and process.output.endswith("\n")


def _leave(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)
