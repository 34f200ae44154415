"""What the tables of the command line share: columns, names, the console, and drawing again and again."""

import itertools
import math
import time
from collections.abc import Callable, Iterable
from typing import Generic, NamedTuple, TypeVar

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

REDRAW = 1.0
"""Seconds between two looks of `--watch`."""

SEARCH_EVERY = 5
"""Looks after which `--watch` searches for what is new; searching walks over all keys of the database."""

UNBOUND, WIDE, SHORTEST = 160, 96, 16
"""Characters: of a table for a file or a pipe, where nobody tells a width; of a table with room for what is spare; of a
name."""

UNITS = (("s", 1, 100), ("min", 60, 100), ("h", 3600, 48), ("days", 86400, math.inf))
"""In what a time is told: the unit's seconds, and how many of it are more than is told in it."""

T = TypeVar("T")


class Column(NamedTuple, Generic[T]):
    """A column of figures: narrow, so that a name has room. Left out of screens narrower than `room`."""

    head: str
    show: Callable[[T], str]
    room: int = 0
    is_words: bool = False


class Name:
    """A name. Where it is too long its middle is left out: the end tells names apart. Odd characters are replaced."""

    def __init__(self, name: str) -> None:
        self._name = "".join(c if c.isprintable() else "_" for c in name)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        over = len(self._name) - options.max_width
        head = options.max_width // 4
        yield Text(self._name if over <= 0 else f"{self._name[:head]}…{self._name[head + over + 1 :]}")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(SHORTEST, len(self._name)), len(self._name))


def grid(names: Iterable[str], columns: Iterable[Column[T]]) -> Table:
    """A table without rows: columns for names, then those for figures."""
    drawn = Table(*names, box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        drawn.add_column(column.head, justify="left" if column.is_words else "right", no_wrap=True)
    return drawn


def stdout() -> Console:
    """Where a table goes."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = max(console.width, UNBOUND)
    return console


def rest() -> None:
    """The pause between two looks."""
    time.sleep(REDRAW)


def redraw(
    search: Callable[[], list[str]],
    draw: Callable[[list[str]], RenderableType],
    console: Console,
    pause: Callable[[], None] = rest,
) -> None:
    """Draw what was found again and again, and search anew at times, until it is interrupted."""
    found: list[str] = []
    with Live(console=console, auto_refresh=False) as live:
        for turn in itertools.count():
            found = search() if turn % SEARCH_EVERY == 0 else found
            live.update(draw(found), refresh=True)
            pause()


def duration(seconds: float) -> str:
    """Rounded up: nothing that has yet to come is told as 0."""
    name, unit, _ = next(one for one in UNITS if seconds < one[1] * one[2])
    return f"{max(1, math.ceil(seconds / unit))} {name}"
