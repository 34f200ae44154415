"""One table over the fleet: what the recognisers of each process do, read from the processes' reports in Redis."""

from collections.abc import Callable

from rich.console import Console, RenderableType
from rich.table import Table

from cli.screen import WIDE, Column, Name, grid, redraw, rest
from worker.figures import number
from worker.limits import most_leased
from worker.report import TTL, Report, Reports, together

NOBODY = (
    f"No worker has reported its recognisers within the last {TTL} seconds; "
    "start one with: celery -A worker.app worker -l INFO"
)

WIDER = 102
"""Characters from which there is room for what is sparer than spare."""


def _count(name: str) -> Callable[[Report], str]:
    return lambda report: f"{number(report, name):.0f}"


def _leased(report: Report) -> str:
    return f"{number(report, 'leased'):.0f}/{number(report, 'most_leased') or most_leased(report):.0f}"


def _reused(report: Report) -> str:
    leases = number(report, "leases")
    return f"{100 * number(report, 'reused') / leases:.0f} %" if leases else "-"


def _times(report: Report) -> str:
    return "/".join(f"{1000 * number(report, f'{name}_seconds_p95'):.0f}" for name in ("borrow", "connect"))


FIGURES: tuple[Column[Report], ...] = (
    Column("pool", lambda report: str(report.get("pool", "")), WIDE, is_words=True),
    Column("leased\n/max", _leased),
    Column("idle", _count("idle")),
    Column("open-\ning", _count("opening")),
    Column("wait-\ning", _count("waiting")),
    Column("quota\nwaits", _count("quota_waiting"), WIDER),
    Column("cre-\nated", _count("created")),
    Column("re-\nused", _reused),
    Column("dis-\ncarded", _count("discarded"), WIDE),
    Column("over-\nflow", _count("overflow"), WIDE),
    Column("p95 ms\nborrow/\nconnect", _times),
    Column("limited\nby", lambda report: str(report.get("limits", "")).replace(",", "\n") or "-", is_words=True),
    Column("seen\nago", lambda report: f"{number(report, 'age'):.0f} s" if "age" in report else ""),
)


def look(reports: Reports, names: list[str] | None = None) -> dict[str, Report]:
    """The reports of these processes, or of all, ordered by worker and process."""
    found = reports.read(reports.names() if names is None else names)
    return dict(sorted(found.items(), key=lambda one: (str(one[1].get("worker", "")), number(one[1], "pid"))))


def table(found: dict[str, Report], width: int) -> Table:
    """A row for each process, and of several their sum, for a screen of this width."""
    columns = [column for column in FIGURES if width >= column.room]
    drawn = grid(["process"], columns)
    for name, report in found.items():
        drawn.add_row(Name(name), *(column.show(report) for column in columns))
    if len(found) > 1:
        whole = together(found.values())
        drawn.add_row(f"{len(found)} processes", *(column.show(whole) for column in columns), style="bold")
    return drawn


def watch(reports: Reports, console: Console, pause: Callable[[], None] = rest) -> None:
    """Draw the table again and again, until it is interrupted."""

    def draw(names: list[str]) -> RenderableType:
        found = look(reports, names)
        return table(found, console.width) if found else NOBODY

    redraw(reports.names, draw, console, pause)
