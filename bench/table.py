"""Measurements as a table: for the eye on the terminal, and for keeps as Markdown beside the machine's facts."""

import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table as Grid

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of text under columns; `notes` say what the figures are, `command` how to get them again."""

    title: str
    command: str
    columns: Sequence[str]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def show(self) -> None:
        """Print it."""
        grid = Grid(title=self.title, title_justify="left", box=box.SIMPLE_HEAD, padding=0)
        for name in self.columns:
            grid.add_column(name, justify="right", no_wrap=True)
        for row in self.rows:
            grid.add_row(*row)
        console = Console()
        console.print(grid)
        for note in self.notes:
            console.print(f"- {note}", markup=False, highlight=False, soft_wrap=True)

    def store(self, name: str) -> Path:
        """Write it over `results/<name>.md`."""
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{name}.md"
        path.write_text(self.markdown(), encoding="utf-8")
        return path

    def markdown(self) -> str:
        """The whole page."""
        head = [f"# {self.title}", "", f"`{self.command}` on {machine()}.", ""]
        rule = ["---:"] * len(self.columns)
        body = [_line(row) for row in (self.columns, rule, *self.rows)]
        return "\n".join([*head, *body, "", *(f"- {note}" for note in self.notes), ""])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def milliseconds(seconds: float) -> str:
    """With a decimal where it matters."""
    found = 1000 * seconds
    return f"{found:.1f}" if found < 100 else f"{found:.0f}"


def quantile(values: Sequence[float], part: float) -> float:
    """The smallest value that at least this part of them does not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]


def machine() -> str:
    """What the figures depend on beside the code."""
    return f"{_processor()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
