"""Valkey, a load server and what is measured, each held to its core: `with rig() as it, it.worker("threads", 200)`."""

import os
import re
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import redis
from celery import Celery

from bench.certificate import write_certificate
from bench.pin import Cores, pinned
from bench.silence import silence
from bench.window import Load, Window, session_pss_mb, window
from emulator.stack import NotReady, Process, Stack, answers
from tasks.job.keys import ENDED, JobKeys
from worker.figures import number
from worker.report import Reports

KEY = "bench"
OURS = ("STENOPOOL_", "DASHSCOPE_", "RECOGNITION_")
"""How settings begin: those of who runs a benchmark are not measured."""

LISTENS = re.compile(r"listening on (\S+), figures on (\S+)\s")
WARM_TIMEOUT = 120.0
STOP_TIMEOUT = 2.0
AT_ONCE = 100
"""Jobs whose states are asked for in one round trip; few, because Redis is part of what is measured."""

SIZE = "RECOGNITION_OBJECTPOOL_SIZE"
QUICKLY = {
    "STENOPOOL_POOL_OPENS_PER_SECOND": "200",
    "STENOPOOL_POOL_WARM_SPREAD": "0",
    "STENOPOOL_QUOTA_STARTS_PER_SECOND": "10000",
}
"""So that thousands are warm in seconds; yet not in one burst of handshakes, which no pool of these sizes makes."""


class Subject:
    """A process group that is measured."""

    def __init__(self, process: Process, cores: Cores, load: Load) -> None:
        self.process = process
        self._cores = cores
        self._load = load

    def window(self, seconds: float) -> Window:
        """Measure so long. Raises `NotReady` with the end of its log when it has died."""
        found = window(seconds, core=self._cores.measured, leader=self.process.pid, load=self._load)
        self.wait_until(lambda: True)
        return found

    def pss_mb(self) -> list[float]:
        """Megabytes of the main process and of each child, shared pages divided among them."""
        return session_pss_mb(self.process.pid)

    def wait_streams(self, count: int, timeout: float) -> None:
        """Wait until so many streams are open at the load server. Raises `NotReady`."""
        self.wait_until(lambda: self._load.figures()["streams"] >= count, timeout, every=0.2)

    def wait_until(self, ready: Callable[[], bool], timeout: float = 0.0, every: float = 0.05) -> None:
        """Wait for something while it lives. Raises `NotReady` with the end of its log when it died or was too slow."""
        until = time.monotonic() + timeout
        while not (self.process.running and ready()):
            if not self.process.running or time.monotonic() > until:
                raise NotReady(f"{self.process!r} is not as far. The end of its log:\n{self.process.output[-2000:]}")
            time.sleep(every)


class Worker(Subject):
    """A real Celery worker, and a client that sends it jobs."""

    def __init__(self, process: Process, cores: Cores, load: Load, redis_url: str) -> None:
        super().__init__(process, cores, load)
        # Without a results' backend: it would subscribe to each job that it sends.
        self._app = Celery("bench", broker=redis_url, set_as_current=False)
        self._redis = redis.Redis.from_url(redis_url)
        self._reports = Reports.at(redis_url, patience=5.0)

    def send(self, count: int, reference: str, *, over: float = 0.0, **options: Any) -> list[str]:
        """Send so many jobs, evenly spread over so many seconds; `options` are the task's. Returns their ids."""
        began, ids = time.monotonic(), []
        for number_sent in range(count):
            time.sleep(max(0.0, began + over * number_sent / count - time.monotonic()))
            ids.append(str(uuid.uuid4()))
            self._app.send_task("tasks.transcribe", args=[reference], kwargs=options, task_id=ids[-1])
        return ids

    def wait(self, ids: Sequence[str], timeout: float) -> None:
        """Wait until these jobs have ended. Raises `NotReady` when the worker dies or is too slow, or a job failed."""
        left = list(ids)

        def ended() -> bool:
            while left and (over := self._over(left[:AT_ONCE])):
                left[:] = [one for one in left if one not in over]
            return not left

        self.wait_until(ended, timeout, every=0.02)

    def keep(self, recognizers: int) -> None:
        """Have so many recognisers kept, and wait until they are there (threads and gevent)."""
        size = {"size": recognizers}
        replies = self._app.control.broadcast("resize_recognizers", arguments=size, reply=True, limit=1, timeout=30)
        if "ok" not in str(replies):
            raise NotReady(f"the worker keeps its size: {replies}")
        self.wait_warm(1, recognizers)

    def wait_warm(self, processes: int, recognizers: int) -> None:
        """Wait until so many processes have so many recognisers each, idle or lent. Raises `NotReady`."""

        def warm() -> bool:
            found = self._reports.read(self._reports.names()).values()
            there = [number(report, "idle") + number(report, "leased") for report in found]
            return sum(have >= recognizers for have in there) >= processes

        self.wait_until(warm, WARM_TIMEOUT, every=0.2)

    def wait_online(self) -> None:
        """Wait until it takes commands, and so jobs. Raises `NotReady`."""
        self.wait_until(lambda: bool(self._app.control.broadcast("ping", reply=True, limit=1, timeout=1)), WARM_TIMEOUT)

    def close(self) -> None:
        """Kill it, with the jobs it has, and let Redis forget everything."""
        self.process.stop(timeout=0.0)
        self._redis.flushall()
        self._redis.close()
        self._reports.close()
        self._app.close()

    def _over(self, ids: Sequence[str]) -> set[str]:
        with self._redis.pipeline(transaction=False) as pipeline:
            for one in ids:
                pipeline.hmget(JobKeys(one).job, "state", "error_code")
            states = dict(zip(ids, pipeline.execute(), strict=True))
        ended = {one for one, (state, _) in states.items() if state and state.decode() in ENDED}
        if failed := [states[one] for one in ended if states[one][0] != b"succeeded"]:
            raise NotReady(f"{len(failed)} jobs did not succeed, the first: {failed[0]}")
        return ended


class Rig:
    """What every load benchmark stands on. Made by `rig()`."""

    def __init__(self, stack: Stack, cores: Cores, certificate: Path | None) -> None:
        self.folder = stack.folder
        self.redis_url = stack.redis_url
        self.cores = cores
        self._stack = stack
        self._certificate = certificate
        port = self.redis_url.split(":")[-1].split("/")[0]
        valkey = self.run("valkey", "-m", "emulator.valkey", "--port", port)
        secured = ["--certificate", str(certificate)] if certificate else []
        server = self.run("load", "-m", "bench.load", "--port", "0", *secured)
        valkey.wait_until(lambda _: answers(int(port)))
        server.wait_until(lambda process: bool(LISTENS.search(process.output)))
        self.url, figures = LISTENS.findall(server.output)[0]
        self.load = Load(figures, log=lambda: f"{server!r}\n{server.output}")

    def run(self, name: str, *command: str, measured: bool = False, **env: str) -> Process:
        """Start a Python process on the measured core or on the others. It ends with the rig, if not before."""
        cores = {self.cores.measured} if measured else self.cores.rest
        name = f"{len(self._stack.processes)}-{name}"
        return self._stack.run(name, pinned([sys.executable, *command], cores), self.env() | env)

    def env(self) -> dict[str, str]:
        """The environment of what connects to the load server; without what the user has set for himself."""
        own = {
            "STENOPOOL_REDIS_URL": self.redis_url,
            "STENOPOOL_AUDIO_ROOTS": str(self.folder),
            "DASHSCOPE_WEBSOCKET_BASE_URL": getattr(self, "url", ""),
            "DASHSCOPE_API_KEY": KEY,
            "NO_PROXY": "127.0.0.1",
        }
        trusted = {"SSL_CERT_FILE": str(self._certificate)} if self._certificate else {}
        return {name: value for name, value in os.environ.items() if not name.startswith(OURS)} | own | trusted

    @contextmanager
    def subject(self, name: str, *command: str, **env: str) -> Iterator[Subject]:
        """A Python process on the measured core, killed in the end."""
        process = self.run(name, *command, measured=True, **env)
        try:
            yield Subject(process, self.cores, self.load)
        finally:
            process.stop(timeout=0.0)

    @contextmanager
    def worker(self, kind: str, streams: int, *options: str, **env: str) -> Iterator[Worker]:
        """A worker that runs so many jobs at once, online and warm; killed in the end. One at a time.

        `options` are further ones of Celery's, `env` further settings.

        Raises:
            NotReady: it is not warm in time; with the end of its log.
        """
        command = ["-m", "celery", "-A", "worker.app", "worker", "-P", kind, "-c", str(streams), "-l", "WARNING"]
        plain = ["-n", "bench@%h", "--without-gossip", "--without-mingle"]
        process = self.run(kind, *command, *plain, *options, measured=True, **(QUICKLY | env))
        with closing(Worker(process, self.cores, self.load, self.redis_url)) as worker:
            processes, jobs = (streams, 1) if kind == "prefork" else (1, streams)
            worker.wait_warm(processes, min(jobs, int(env.get(SIZE, jobs))))
            worker.wait_online()
            yield worker

    def recording(self, seconds: float) -> str:
        """The reference to a recording of silence of that length, 16 kHz mono."""
        return silence(self.folder, seconds).as_uri()


@contextmanager
def rig(secure: bool = False) -> Iterator[Rig]:
    """Valkey and the load server (`wss:` if `secure`), and their end, also by Ctrl-C, SIGTERM or SIGHUP."""
    handlers = {ending: signal.signal(ending, _leave) for ending in (signal.SIGTERM, signal.SIGHUP)}
    cores = Cores.of_this_process()
    with tempfile.TemporaryDirectory(prefix="stenopool-bench-") as name:
        stack = Stack(Path(name))
        try:
            with cores.stand_aside():
                yield Rig(stack, cores, write_certificate(stack.folder / "both.pem") if secure else None)
        finally:
            stack.stop(STOP_TIMEOUT)
            for ending, handler in handlers.items():
                signal.signal(ending, handler)


def _leave(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)
