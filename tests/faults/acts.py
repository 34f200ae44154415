"""Which drills there are, what each may cost, and how they are played: all at once, by as few workers as possible."""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from emulator.stack import Stack
from tests.faults.board import Board, Key, at_once, in_turn
from tests.faults.of_one_job import CONCURRENCY, OF_AUDIO, OF_ONE_JOB
from tests.faults.of_redis import OF_LONG_OUTAGE, OF_REDIS, Together, together
from tests.faults.of_workers import OF_CHILDREN, OF_POISON, OF_WORKERS, TRIES
from tests.faults.scene import Scene
from tests.faults.storm import FAULT, POOL, storm
from tests.sites import KEY, POOLS


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """What a fault may cost at most.

    `takeover`: seconds until a job that was hit goes on. `again`: seconds streamed once more for each further stream of
    a job; an unfinished sentence and what was on its way. `streams`: further streams of all jobs together.
    """

    takeover: float
    again: float = 1.6
    streams: int | None = None


QUICK, DEAD, ASKED = Bounds(takeover=6), Bounds(takeover=20), Bounds(takeover=4, streams=0)
"""The job goes on in its worker; another worker takes it over, when the lease has ended and the message has come back;
it ends because somebody has asked for it."""

BOUNDS: Final[Mapping[str, Bounds]] = {
    **dict.fromkeys(OF_ONE_JOB, QUICK),
    "upstream: half-open": Bounds(takeover=10),
    "upstream: never task-started": Bounds(takeover=8, again=0.0),
    "upstream: never task-finished": Bounds(takeover=8),
    "audio server gone for 3 s": Bounds(takeover=15),
    "cancelled by its key": ASKED,
    "revoked with terminate": ASKED,
    **dict.fromkeys([*OF_WORKERS, *OF_CHILDREN, *OF_POISON], DEAD),
    # From the first death to the end, over all that follow.
    **dict.fromkeys(["job that kills its child each time", *OF_POISON], Bounds(takeover=20 * TRIES)),
    "same job id sent five times": Bounds(takeover=0, streams=0),
    # As long as it takes to start, and then the pool's wait before it tries again, which grows with that.
    "upstream: emulator restarted": Bounds(takeover=20),
    "Redis: CLIENT KILL of all connections": Bounds(takeover=6, streams=0),
    "Redis: hung for 5 s": Bounds(takeover=15, streams=0),
    "Redis: stopped for 5 s": Bounds(takeover=15, streams=0),
    "Redis: restarted empty": Bounds(takeover=10, streams=0),
    "Redis: stopped for 60 s": Bounds(takeover=75, streams=0),
    # Not all of its jobs are paced: then all the audio may be on its way.
    FAULT: Bounds(takeover=30, again=4.2),
}

DRILLS: Final[Sequence[Key]] = [
    *((fault, pool) for fault in [*OF_ONE_JOB, *OF_AUDIO] for pool in POOLS),
    *((fault, pool) for fault in OF_WORKERS for pool in POOLS),
    *((fault, "prefork") for fault in OF_CHILDREN),
    *((fault, "threads") for fault in OF_POISON),
    *((fault, pool) for fault in [*OF_REDIS, *OF_LONG_OUTAGE] for pool in POOLS),
    (FAULT, POOL),
]


class Programme:
    """Plays the drills that a board wants. Leaving it ends what still plays."""

    def __init__(self, board: Board, folder: Path) -> None:
        self._board = board
        self._folder = folder
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        # Those that take longest begin first.
        self._begin(partial(self._on_redis, "outage", OF_LONG_OUTAGE), OF_LONG_OUTAGE, POOLS)
        self._begin(partial(self._on_redis, "redis", OF_REDIS), OF_REDIS, POOLS)
        self._begin(self._on_workers, [*OF_WORKERS, *OF_CHILDREN, *OF_POISON], POOLS)
        self._begin(self._on_one_job, [*OF_ONE_JOB, *OF_AUDIO], POOLS)
        self._begin(self._storm, [FAULT], [POOL])
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _begin(self, act: Callable[[], None], faults: Collection[str], pools: Sequence[str]) -> None:
        """Play an act in a thread of its own, if any of its drills is wanted."""

        def play() -> None:
            with self._board.giving(faults, pools):
                act()

        if any(self._board.wants(fault, *pools) for fault in faults):
            self._threads.append(threading.Thread(target=play, name="act"))
            self._threads[-1].start()

    # -- acts ----------------------------------------------------------------------------------------------------------

    def _on_redis(self, name: str, chapters: Mapping[str, Together]) -> None:
        with self._stack(name) as stack, self._scenes() as scene:
            made = [scene(stack, pool, number) for number, pool in enumerate(POOLS) if self._wants(chapters, pool)]
            together(self._board, made, chapters)

    def _on_workers(self) -> None:
        with self._stack("workers") as stack, self._scenes() as scene, ThreadPoolExecutor() as plays:
            for number, pool in enumerate(POOLS):
                if self._wants(OF_WORKERS, pool):
                    plays.submit(in_turn, self._board, scene(stack, pool, number), OF_WORKERS)
            few = {"concurrency": 1, "STENOPOOL_JOB_RETRIES": str(TRIES - 1)}
            for number, (chapters, pool) in enumerate([(OF_CHILDREN, "prefork"), (OF_POISON, "threads")], len(POOLS)):
                if self._wants(chapters, pool):
                    plays.submit(in_turn, self._board, scene(stack, pool, number, **few), chapters)

    def _on_one_job(self) -> None:
        with self._stack("jobs") as stack, self._scenes() as scene, ThreadPoolExecutor() as plays:
            for number, pool in enumerate(POOLS):
                if self._wants({**OF_ONE_JOB, **OF_AUDIO}, pool):
                    plays.submit(self._play_one_job, scene(stack, pool, number, concurrency=CONCURRENCY[pool]))

    def _play_one_job(self, scene: Scene) -> None:
        at_once(self._board, scene, OF_ONE_JOB)
        in_turn(self._board, scene, OF_AUDIO)

    def _storm(self) -> None:
        with self._stack("storm") as stack, self._scenes() as scene:
            prefork = scene(stack, "prefork", 0, concurrency=4)
            threads = scene(stack, "threads", 0, concurrency=12)
            self._board.put(storm(prefork, threads))

    def _wants(self, chapters: Mapping[str, object], pool: str) -> bool:
        return any(self._board.wants(fault, pool) for fault in chapters)

    @contextmanager
    def _stack(self, name: str) -> Iterator[Stack]:
        """A Valkey that keeps what it holds, and an emulator."""
        folder = self._folder / name
        for part in ("audio", "data"):
            (folder / part).mkdir(parents=True)
        emulator = ("--api-key", KEY, "--starts-per-second", "0")
        with Stack(folder, emulator_options=emulator, valkey_options=("--data", str(folder / "data"))) as stack:
            yield stack

    @contextmanager
    def _scenes(self) -> Iterator[Callable[..., Scene]]:
        """Makes scenes, which end with the context."""
        with ExitStack() as ends:

            def scene(stack: Stack, pool: str, database: int, **how: object) -> Scene:
                made = Scene(stack, pool, database, self._over, **how)  # type: ignore[arg-type]
                ends.callback(made.end)
                return made

            yield scene
