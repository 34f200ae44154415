"""Follows jobs to their end, with a progress bar for each on stderr."""

import time
from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from cli.client import ALONE, Client, Job
from tasks.job.keys import ENDED
from tasks.job.view import JobView

POLL = 0.2
"""Seconds between two looks at the records."""

NO_WORKER_AFTER = 5.0
"""Seconds in the queue, after which we look whether any worker is there at all."""

WIDTH = 48
"""Characters of the current text that are shown."""

WAITS = "waits for the account's quota"
"""What is said of a job that is done but for a stream that it may begin."""

LOST = "lost"
"""What we call the state of a job whose record has gone while we watched."""


class Line:
    """One job's line on the screen."""

    def __init__(self, job: Job, view: JobView, progress: Progress) -> None:
        self.job = job
        self.fields: dict[str, str] = {}
        self._view = view
        self._progress = progress
        self._text = ""
        self._speed = ""
        self._row: TaskID = progress.add_task(job.name, total=None, said="queued", seconds="", speed="")

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
        for kind, data in self._view.events():
            if kind in ("partial", "final"):
                self._text = str(data["text"])
        if self.fields.get("progress_ms") != before.get("progress_ms"):
            self._speed = self._measured()
        done, total = int(self.fields.get("progress_ms", 0)), int(self.fields.get("duration_ms", 0))
        self._progress.update(
            self._row,
            completed=done,
            total=total or None,
            said=self._said(),
            seconds=f"{done / 1000:.1f}/{total / 1000:.1f} s" if total else f"{done / 1000:.1f} s",
            speed=self._speed,
        )

    def _said(self) -> str:
        if self.is_waiting:
            return WAITS
        if self.state == "running" and self._text:
            return self._text[-WIDTH:]
        return f"{self.state}: {self.fields['error']}"[:WIDTH] if "error" in self.fields else self.state

    def _measured(self) -> str:
        """Audio seconds sent per second; only at the moment when the figure of what was sent is new."""
        done = int(self.fields.get("progress_ms", 0)) / 1000
        begun = float(self.fields.get("started_at", 0))
        took = float(self.fields.get("ended_at", 0) or time.time()) - begun
        return f"×{done / took:.1f}" if begun and done and took > 0 else ""


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
            if time.monotonic() > look_at and all(line.state == "queued" for line in lines):
                look_at = float("inf")
                _say_if_alone(client, console)
            time.sleep(POLL)


def _bars(console: Console) -> Progress:
    text = "{task.description} {task.fields[seconds]} {task.fields[speed]}"
    said = TextColumn("{task.fields[said]}", style="dim", markup=False)
    return Progress(TextColumn(text, markup=False), BarColumn(bar_width=24), said, console=console)


def _say_if_alone(client: Client, console: Console) -> None:
    if not client.workers():
        console.print(ALONE, style="yellow", soft_wrap=True)
