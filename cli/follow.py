"""Follows jobs to their end, with a progress bar for each on stderr."""

import time
from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from cli.client import Client, Job
from tasks.job.keys import ENDED
from tasks.job.view import JobView

POLL = 0.2
"""Seconds between two looks at the records."""

NO_WORKER_AFTER = 5.0
"""Seconds in the queue, after which we look whether any worker is there at all."""

WIDTH = 48
"""Characters of the current text that are shown."""


class Line:
    """One job's line on the screen."""

    def __init__(self, job: Job, view: JobView, progress: Progress) -> None:
        self.job = job
        self.fields: dict[str, str] = {}
        self._view = view
        self._progress = progress
        self._text = ""
        self._row: TaskID = progress.add_task(job.name, total=None, said="queued", seconds="", speed="")

    @property
    def ended(self) -> bool:
        return self.fields.get("state") in ENDED

    def refresh(self) -> None:
        """Read the record and draw what it says."""
        if self.ended:
            return
        self.fields = self._view.fields()
        for kind, data in self._view.events():
            if kind in ("partial", "final"):
                self._text = str(data["text"])
        done, total = int(self.fields.get("progress_ms", 0)), int(self.fields.get("duration_ms", 0))
        self._progress.update(
            self._row,
            completed=done,
            total=total or None,
            said=self._said(),
            seconds=f"{done / 1000:.1f}/{total / 1000:.1f} s" if total else f"{done / 1000:.1f} s",
            speed=self._speed(done),
        )

    def _said(self) -> str:
        state = self.fields.get("state", "queued")
        if state == "running" and self._text:
            return self._text[-WIDTH:]
        return f"{state}: {self.fields['error']}"[:WIDTH] if "error" in self.fields else state

    def _speed(self, done: int) -> str:
        begun = float(self.fields.get("started_at", 0))
        ended = float(self.fields.get("ended_at", 0)) or time.time()
        return f"×{done / 1000 / (ended - begun):.1f}" if begun and ended > begun else ""


def follow(client: Client, jobs: Iterable[Job], console: Console) -> list[Line]:
    """Wait until every job has ended, showing how far each is. Interrupting it leaves the jobs running."""
    with _bars(console) as progress:
        lines = [Line(job, client.view(job.id), progress) for job in jobs]
        look_at = time.monotonic() + NO_WORKER_AFTER
        while True:
            for line in lines:
                line.refresh()
            if all(line.ended for line in lines):
                return lines
            if time.monotonic() > look_at and all(line.fields.get("state") == "queued" for line in lines):
                look_at = float("inf")
                _say_if_alone(client, console)
            time.sleep(POLL)


def _bars(console: Console) -> Progress:
    text = "{task.description} {task.fields[seconds]} {task.fields[speed]}"
    said = TextColumn("[dim]{task.fields[said]}", markup=True)
    return Progress(TextColumn(text, markup=False), BarColumn(bar_width=24), said, console=console)


def _say_if_alone(client: Client, console: Console) -> None:
    if not client.workers():
        console.print("No worker answers; start one with: celery -A worker.app worker", style="yellow")
