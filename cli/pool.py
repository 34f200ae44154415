"""One table over the fleet: what the recognisers of each process do, read from the processes' reports in Redis."""

import itertools
import time
from collections.abc import Callable
from typing import NamedTuple

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from worker.limits import most_leased, number
from worker.report import TTL, Report, Reports, together

NOBODY = (
    f"No worker has reported its recognisers within the last {TTL} seconds; "
    "start one with: celery -A worker.app worker -l INFO"
)

REDRAW = 1.0
"""Seconds between two looks of `--watch`."""

SEARCH_EVERY = 5
"""Looks after which `--watch` searches for new processes; searching walks over all keys of the database."""

UNBOUND, WIDE, SHORTEST = 160, 96, 16
"""Characters: of a table for a file or a pipe, where nobody tells a width; from which all columns fit; of a name."""


class Column(NamedTuple):
    """A column of figures: narrow, so that a process's name has room in 100 columns."""

    head: str
    show: Callable[[Report], str]
    spare: bool = False
    """Left out where there is no room for it."""


class Name:
    """A process's name. Where it is too long its middle is left out: the end tells processes apart."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        over = len(self._name) - options.max_width
        head = options.max_width // 4
        yield Text(self._name if over <= 0 else f"{self._name[:head]}…{self._name[head + over + 1 :]}")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(SHORTEST, len(self._name)), len(self._name))


def _count(name: str) -> Callable[[Report], str]:
    return lambda report: f"{number(report, name):.0f}"


def _leased(report: Report) -> str:
    return f"{number(report, 'leased'):.0f}/{number(report, 'most_leased') or most_leased(report):.0f}"


def _reused(report: Report) -> str:
    leases = number(report, "leases")
    return f"{100 * number(report, 'reused') / leases:.0f} %" if leases else "-"


def _times(report: Report) -> str:
    return "/".join(f"{1000 * number(report, f'{name}_seconds_p95'):.0f}" for name in ("borrow", "connect"))


FIGURES = (
    Column("pool", lambda report: str(report.get("pool", "")), spare=True),
    Column("leased\n/max", _leased),
    Column("idle", _count("idle")),
    Column("open-\ning", _count("opening")),
    Column("wait-\ning", _count("waiting")),
    Column("cre-\nated", _count("created")),
    Column("re-\nused", _reused),
    Column("dis-\ncarded", _count("discarded"), spare=True),
    Column("over-\nflow", _count("overflow"), spare=True),
    Column("p95 ms\nborrow/\nconnect", _times),
    Column("limited\nby", lambda report: str(report.get("limits", "")).replace(",", "\n") or "-"),
    Column("seen\nago", lambda report: f"{number(report, 'age'):.0f} s" if "age" in report else ""),
)


def look(reports: Reports, names: list[str] | None = None) -> dict[str, Report]:
    """The reports of these processes, or of all, ordered by worker and process."""
    found = reports.read(reports.names() if names is None else names)
    return dict(sorted(found.items(), key=lambda one: (str(one[1].get("worker", "")), number(one[1], "pid"))))


def table(found: dict[str, Report], width: int) -> Table:
    """A row for each process, and of several their sum, for a screen of this width."""
    drawn = Table("process", box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    columns = [column for column in FIGURES if width >= WIDE or not column.spare]
    for column in columns:
        words = column.head in ("pool", "limited\nby")
        drawn.add_column(column.head, justify="left" if words else "right", no_wrap=True)
    for name, report in found.items():
        drawn.add_row(Name(name), *(column.show(report) for column in columns))
    if len(found) > 1:
        whole = together(found.values())
        drawn.add_row(f"{len(found)} processes", *(column.show(whole) for column in columns), style="bold")
    return drawn


def stdout() -> Console:
    """Where the table goes."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = max(console.width, UNBOUND)
    return console


def watch(reports: Reports, console: Console, pause: Callable[[], None] = lambda: time.sleep(REDRAW)) -> None:
    """Draw the table again and again, until it is interrupted."""
    names: list[str] = []
    with Live(console=console, auto_refresh=False) as live:
        for turn in itertools.count():
            names = reports.names() if turn % SEARCH_EVERY == 0 else names
            found = look(reports, names)
            drawn: RenderableType = table(found, console.width) if found else NOBODY
            live.update(drawn, refresh=True)
            pause()
