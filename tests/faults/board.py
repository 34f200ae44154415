"""Where drills put their rows and tests wait for them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from tests.faults.scene import Scene
from tests.faults.table import Row

Key = tuple[str, str]
"""Fault and pool."""

Chapter = Callable[[Scene, str], Row]
"""One drill: does the damage that the name stands for, and tells what came of the jobs."""

Chapters = Mapping[str, Chapter]


class Board:
    """One row for each fault and pool that is wanted, or the reason why there is none."""

    def __init__(self, wanted: Iterable[Key]) -> None:
        self._rows: dict[Key, Future[Row]] = {key: Future() for key in wanted}

    def wants(self, fault: str, *pools: str) -> bool:
        return any((fault, pool) in self._rows for pool in pools)

    def row(self, fault: str, pool: str) -> Row:
        """Wait for a row. Raises what its drill raised."""
        return self._rows[fault, pool].result()

    def rows(self) -> list[Row]:
        """Those that there are."""
        return [row.result() for row in self._rows.values() if row.done() and row.exception() is None]

    def put(self, row: Row) -> None:
        future = self._rows.get((row.fault, row.pool))
        if future is not None and not future.done():
            future.set_result(row)

    @contextmanager
    def giving(self, faults: Iterable[str], pools: Iterable[str]) -> Iterator[None]:
        """Whatever is raised here is why these rows are missing."""
        try:
            yield
        except BaseException as error:
            for key in [(fault, pool) for fault in faults for pool in pools]:
                if key in self._rows and not self._rows[key].done():
                    self._rows[key].set_exception(error)


def in_turn(board: Board, scene: Scene, chapters: Chapters) -> None:
    """One drill after the other, by the same workers where they live on."""
    for fault, chapter in chapters.items():
        if board.wants(fault, scene.pool) and not _play(board, scene, fault, chapter):
            scene.clear()  # whatever it has left under way is no matter of the next one


def at_once(board: Board, scene: Scene, chapters: Chapters) -> None:
    """All drills at the same time, by the same worker: for damages that hit one job alone."""
    wanted = {fault: chapter for fault, chapter in chapters.items() if board.wants(fault, scene.pool)}
    if not wanted:
        return
    with board.giving(wanted, [scene.pool]):
        scene.crew()
        with ThreadPoolExecutor(len(wanted)) as drills:
            for fault, chapter in wanted.items():
                drills.submit(_play, board, scene, fault, chapter)


def _play(board: Board, scene: Scene, fault: str, chapter: Chapter) -> bool:
    """Whether the drill could be played to its end."""
    played = False
    with board.giving([fault], [scene.pool]):
        board.put(chapter(scene, fault))
        played = True
    return played
