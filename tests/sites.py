"""One Valkey, one emulator and a worker for each execution pool: real processes, shared by the tests that need them.

Each worker has a database of its own, so that each test knows who ran its job. A test that counts connections has an
emulator of its own, too: on the common one all workers connect.
"""

import json
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from celery import Celery
from celery.result import AsyncResult

from emulator import BackgroundEmulator, Limits
from emulator.stack import Process, Stack, is_ready
from worker.report import Report, Reports, together
from worker.sizing import with_spare

POOLS = ("prefork", "threads", "gevent", "solo")
CONCURRENCY = 2
KEY = "sk-emulator-only"
TIMEOUT = 30.0
DATABASES = 64


def kept(pool: str, concurrency: int = CONCURRENCY) -> int:
    """How many recognisers a worker keeps, all its processes together."""
    if pool in ("threads", "gevent"):
        return with_spare(concurrency)
    return with_spare(1) * (concurrency if pool == "prefork" else 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """How a worker is started, beside its settings."""

    concurrency: int = CONCURRENCY
    options: tuple[str, ...] = ()
    redis_url: str | None = None
    wait: bool = True


ORDINARY = Launch()


class Site:
    """A worker, and a client that knows nothing of ours but the broker's address."""

    def __init__(self, stack: Stack, pool: str, database: int, how: Launch = ORDINARY, /, **env: str) -> None:
        self.stack = stack
        self.pool = pool
        self.folder = stack.folder / "audio"
        self.redis_url = how.redis_url or stack.redis_url.rsplit("/", 1)[0] + f"/{database}"
        self.redis = redis.Redis.from_url(self.redis_url)
        self.client = Celery("web", broker=self.redis_url, backend=self.redis_url, set_as_current=False)
        self.env = stack.env(
            **{
                "STENOPOOL_REDIS_URL": self.redis_url,
                "STENOPOOL_AUDIO_ROOTS": str(self.folder),
                "STENOPOOL_POOL_WARM_SPREAD": "0",
                "DASHSCOPE_API_KEY": KEY,
            }
            | env
        )
        self.emulator_url = self.env["DASHSCOPE_WEBSOCKET_BASE_URL"].replace("ws", "http", 1).split("/api-ws")[0]
        name = f"{pool}{database}-{uuid.uuid4().hex[:4]}"
        self.worker: Process = stack.start_worker(pool, how.concurrency, name, how.options, **self.env)
        if how.wait:
            self.ready()

    def ready(self) -> "Site":
        """Wait until the worker takes jobs."""
        self.worker.wait_until(is_ready)
        return self

    def send(self, *args: Any, celery: Mapping[str, Any] | None = None, **options: Any) -> AsyncResult[Any]:
        """Put a job on the queue; `celery` are options of Celery's own, such as a time limit."""
        return self.client.send_task("tasks.transcribe", args=args, kwargs=options, **(celery or {}))

    def run(self, references: Iterable[str], **options: Any) -> list[dict[str, Any]]:
        """Send all at once; the results in the same order."""
        return [job.get(timeout=TIMEOUT) for job in [self.send(one, **options) for one in references]]

    def transcribe(self, *args: Any, **options: Any) -> dict[str, Any]:
        result: dict[str, Any] = self.send(*args, **options).get(timeout=TIMEOUT)
        return result

    def failure(self, *args: Any, **options: Any) -> tuple[str, str]:
        """The code and the sentence with which a job fails."""
        answer = self.send(*args, **options)
        error = answer.get(timeout=TIMEOUT, propagate=False)
        assert answer.state == "FAILURE", error
        code, sentence = error.args
        record = self.record(str(answer.id))
        assert (record["state"], record["error_code"], record["error"]) == ("failed", code, sentence)
        return code, sentence

    def record(self, job_id: str) -> dict[str, str]:
        fields: Any = self.redis.hgetall(f"stenopool:job:{{{job_id}}}")
        return {name.decode(): value.decode() for name, value in fields.items()}

    def tasks(self, marker: str) -> list[dict[str, Any]]:
        """What the emulator noted of the recognitions with this marker among their parameters."""
        return [task for task in self.logbook()["tasks"] if task["parameters"].get("marker") == marker]

    def logbook(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.emulator_url}/logbook?chunks=1", timeout=10) as answer:
            book: dict[str, Any] = json.load(answer)
        return book

    def fault(self, **fault: Any) -> None:
        """Order a fault of the service; the next connection or recognition that it suits takes it."""
        order = urllib.request.Request(f"{self.emulator_url}/faults", json.dumps(fault).encode(), method="POST")
        urllib.request.urlopen(order, timeout=10).close()

    def reports(self) -> list[Report]:
        """What the worker's processes have reported of their pools."""
        board = Reports.at(self.redis_url)
        try:
            return list(board.read(board.names()).values())
        finally:
            board.close()

    def figure(self, name: str) -> float:
        """A figure of the pools of all processes together, as it was reported last."""
        return sum(float(report[name]) for report in self.reports())

    def figures(self) -> Report:
        """The figures of all processes together as of now: those that were reported last are up to five seconds old."""
        now, until = time.time(), time.monotonic() + TIMEOUT
        while not (reports := self.reports()) or any(float(report["reported_at"]) < now for report in reports):
            assert time.monotonic() < until, f"no report within {TIMEOUT:g} s"
            time.sleep(0.05)
        return together(reports)

    def is_warm(self, kept: int) -> bool:
        """Whether so many recognisers stand by and none is being opened."""
        return (self.figure("idle"), self.figure("opening")) == (kept, 0)

    def close(self) -> None:
        self.redis.close()
        self.client.close()

    def end(self) -> None:
        """Kill the worker and forget all that it wrote: nothing that it would finish matters any more."""
        self.worker.stop(timeout=0.0)
        with suppress(redis.ConnectionError):  # a Redis of the test's own, which has stopped
            self.redis.flushdb()
        self.close()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    (folder / "audio").mkdir()
    # No limit of starts: tests run many short jobs at once, and each shall cost one attempt.
    with Stack(folder, emulator_options=("--api-key", KEY, "--starts-per-second", "0")) as running:
        yield running


@pytest.fixture(scope="session")
def databases() -> list[int]:
    """Numbers of databases that nobody uses."""
    return list(reversed(range(DATABASES)))


@pytest.fixture(scope="session")
def sites(stack: Stack, databases: list[int]) -> Iterator[Callable[..., Site]]:
    """Makes a site for a pool, or for a pool with settings of its own, once."""
    made: dict[str, Site] = {}

    def site(pool: str, **env: str) -> Site:
        name = f"{pool} {sorted(env.items())}"
        if name not in made:
            made[name] = Site(stack, pool, databases.pop(), **env)
        return made[name]

    yield site
    for one in made.values():
        one.end()


def addresses(emulator: BackgroundEmulator) -> dict[str, str]:
    """The settings of a worker whose service this is."""
    return {"DASHSCOPE_WEBSOCKET_BASE_URL": emulator.url, "DASHSCOPE_HTTP_BASE_URL": emulator.api_url}


@contextmanager
def ending(stack: Stack, databases: list[int]) -> Iterator[Callable[..., Site]]:
    """Starts sites of any shape, which end with the context."""
    with ExitStack() as ends:

        def start(pool: str, emulator: BackgroundEmulator | None = None, how: Launch = ORDINARY, **env: str) -> Site:
            where = {} if emulator is None else addresses(emulator)
            number = databases.pop()
            ends.callback(databases.append, number)
            site = Site(stack, pool, number, how, **where | env)
            ends.callback(site.end)
            return site

        yield start


@pytest.fixture
def alone(stack: Stack, databases: list[int]) -> Iterator[Callable[..., Site]]:
    """Makes a site of a test's own, which ends with the test; with the emulator that it is given."""
    with ending(stack, databases) as start:
        yield start


@pytest.fixture
def service() -> Iterator[Callable[..., BackgroundEmulator]]:
    """Makes an emulator of a test's own, without a limit of starts unless it is given one."""
    made: list[BackgroundEmulator] = []

    def start(port: int = 0, **limits: Any) -> BackgroundEmulator:
        made.append(BackgroundEmulator(limits=Limits(**{"starts_per_second": None} | limits), port=port))
        made[-1].start()
        return made[-1]

    yield start
    for one in made:
        one.stop()


@pytest.fixture(params=POOLS)
def site(request: pytest.FixtureRequest, sites: Callable[..., Site]) -> Site:
    """A site; the test runs once under each execution pool."""
    return sites(request.param)


@pytest.fixture
def threads(sites: Callable[..., Site]) -> Site:
    """A site of one pool, for what cannot differ between them."""
    return sites("threads")


@pytest.fixture
def marker() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def eventually() -> Callable[..., None]:
    """Waits until a condition holds, with a bound."""

    def wait(condition: Callable[[], object], what: str, timeout: float = TIMEOUT) -> None:
        until = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < until, f"not within {timeout:g} s: {what}"
            time.sleep(0.02)

    return wait
