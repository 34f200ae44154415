"""What is seen of jobs while they are followed: a line for each on stderr, and of several a line for all."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column

from cli.client import Job
from cli.screen import Name, duration
from tasks.job.keys import ENDED
from tasks.job.view import JobView

WIDTH, SHORTEST, FIGURES, BAR = 48, 16, 22, 24
"""Characters of the current text that are shown at most, and at least if any; of figures; of a bar."""

WITH_BAR = 110
"""Characters of a screen with room for a bar."""

WAITS = "waits for the account's quota"
"""What is said of a job that is done but for a stream that it may begin."""

LOST = "lost"
"""What we call the state of a job whose record has gone while we watched."""

FORETOLD_AFTER = 10
"""Recordings. After so many that were seen to end, the time that the rest takes can be told from theirs."""


class Line:
    """One job's line on the screen."""

    def __init__(self, job: Job, view: JobView, progress: Progress, is_shown: bool = True) -> None:
        self.job = job
        self.fields: dict[str, str] = {}
        self.heard_ms = 0
        """Audio that was sent since we look."""
        self.was_over = False
        """It had ended before we first looked."""
        self._view = view
        self._progress = progress
        self._text = ""
        self._speed = ""
        self._row: TaskID = progress.add_task(
            job.name, total=None, visible=is_shown, said="queued", seconds="", speed=""
        )

    @property
    def state(self) -> str:
        return self.fields.get("state", "queued")

    @property
    def ended(self) -> bool:
        return self.state in ENDED | {LOST}

    @property
    def is_waiting(self) -> bool:
        """It could begin, or go on, if the account had room for it."""
        return "waiting_since" in self.fields and "error" not in self.fields and not self.ended

    def refresh(self) -> None:
        """Read the record and draw what it says."""
        if self.ended:
            return
        before, self.fields = self.fields, self._view.fields()
        if before and not self.fields:
            self.fields = {"state": LOST, "error": "Redis does not know the job any more; it expired or was deleted."}
        self.was_over = not before and self.ended
        if self.state == "running":
            self._listen()
        done, total = int(self.fields.get("progress_ms", 0)), int(self.fields.get("duration_ms", 0))
        if self.fields.get("progress_ms") != before.get("progress_ms"):
            self._speed = self._measured()
        self.heard_ms += max(0, done - int(before.get("progress_ms", 0))) if before else 0
        self._progress.update(
            self._row,
            completed=done,
            total=total or None,
            said=self._said(),
            seconds=f"{done / 1000:.1f}/{total / 1000:.1f} s" if total else f"{done / 1000:.1f} s",
            speed=self._speed,
        )

    def show(self, is_shown: bool) -> None:
        self._progress.update(self._row, visible=is_shown)

    def remove(self) -> None:
        self._progress.remove_task(self._row)

    def _listen(self) -> None:
        for kind, data in self._view.events():
            if kind in ("partial", "final"):
                self._text = str(data["text"])

    def _said(self) -> str:
        if self.is_waiting:
            return WAITS
        if self.state == "running" and self._text:
            return self._text[-room(self._progress.console.width)[1] :]
        return f"{self.state}: {self.fields['error']}" if "error" in self.fields else self.state

    def _measured(self) -> str:
        """Audio seconds sent per second; only at the moment when the figure of what was sent is new."""
        done = int(self.fields.get("progress_ms", 0)) / 1000
        begun = float(self.fields.get("started_at", 0))
        took = float(self.fields.get("ended_at", 0) or time.time()) - begun
        return f"×{done / took:.1f}" if begun and done and took > 0 else ""


class Board:
    """The lines of so many jobs. Where they do not fit on the screen, only those of jobs that run are on it."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._progress = progress(console)
        self._live = self._picture()
        self._begun = time.monotonic()
        self._over = self._failed = self._seen = self._heard_ms = 0
        self._all = self._progress.add_task("", total=total, visible=total > 1, said="", seconds="", speed="")

    def __rich__(self) -> RenderableType:
        return self._progress.get_renderable()

    def __enter__(self) -> "Board":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        if not self._console.is_terminal:
            self._console.line()  # on a terminal the library ends its last line itself

    @property
    def _is_tight(self) -> bool:
        return self._total > self._room

    @property
    def _room(self) -> int:
        """Lines for jobs, beside the one for all and one for the cursor."""
        return max(1, self._console.height - 2)

    def add(self, job: Job, view: JobView) -> Line:
        return Line(job, view, self._progress, is_shown=not self._is_tight)

    def draw(self, lines: Sequence[Line]) -> None:
        """Tell of all, and show those that run, as many as there is room for."""
        running = [line for line in lines if line.state == "running"]
        if self._is_tight:
            shown = {line.job.id for line in running[: self._room]}
            for line in lines:
                line.show(line.job.id in shown)
        heard = (self._heard_ms + sum(line.heard_ms for line in lines)) / 1000
        self._progress.update(
            self._all,
            completed=self._over,
            description=f"{self._over} of {self._total} done",
            seconds=f"{self._failed} failed" if self._failed else "",
            speed=f"×{heard / self._elapsed:.1f}" if heard else "",
            said=f"{len(running)} running{self._foretold()}" if lines else "",
        )

    def count(self, line: Line) -> None:
        """A job has ended and will not be in the lines any more."""
        self._over += 1
        self._failed += line.state != "succeeded"
        self._seen += not line.was_over
        self._heard_ms += line.heard_ms
        if self._is_tight:
            line.remove()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Gives the screen to what is written to stdout, where that is on the same one."""
        if not (self._console.is_terminal and sys.stdout.isatty()):
            yield
            return
        self._live.transient = True
        self._live.stop()
        try:
            yield
        finally:
            self._live = self._picture()
            self._live.start()

    @property
    def _elapsed(self) -> float:
        return max(0.001, time.monotonic() - self._begun)

    def _foretold(self) -> str:
        left = self._total - self._over
        if not left or self._seen < FORETOLD_AFTER:
            return ""
        return f", about {duration(left * self._elapsed / self._seen)} left"

    def _picture(self) -> Live:
        # What goes to stdout must go there, also while this is shown.
        return Live(
            get_renderable=self.__rich__,
            console=self._console,
            refresh_per_second=5,
            redirect_stdout=False,
            redirect_stderr=False,
        )


class NameColumn(ProgressColumn):
    """What a line is about, in so many characters."""

    def __init__(self, most: int) -> None:
        super().__init__(Column(max_width=most, no_wrap=True))

    def render(self, task: Task) -> Name:
        return Name(task.description)


def room(width: int) -> tuple[int, int]:
    """Characters for a name, and for what is said beside it, on a screen of this width. The figures are never cut."""
    left = width - FIGURES - 1 - (BAR + 1) * (width >= WITH_BAR)
    said = min(WIDTH, left // 2)
    return (left - said - 1, said) if said >= SHORTEST else (max(SHORTEST, left), 0)


def progress(console: Console) -> Progress:
    """Lines: a name, figures, and as far as there is room a bar and what is said."""
    name, said = room(console.width)
    shown: list[ProgressColumn] = [
        NameColumn(name),
        TextColumn("{task.fields[seconds]} {task.fields[speed]}", markup=False),
    ]
    if console.width >= WITH_BAR:
        shown.append(BarColumn(bar_width=BAR))
    if said:
        column = Column(max_width=said, no_wrap=True)
        shown.append(TextColumn("{task.fields[said]}", style="dim", markup=False, table_column=column))
    return Progress(*shown, console=console, auto_refresh=False)
