"""Recordings whose transcripts go to a folder, over as many runs of the command as it takes."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cli.board import Line
from cli.client import Client, Job
from cli.journal import Entry, InUse, Journal
from cli.output import MANY, fail, not_written, rendered, tell
from cli.references import Recording

ASIDE = frozenset({"pace", "live", "tenant", "account"})
"""Options that change no transcript: asked for again with others of these, a recording is the same job."""


class Batch:
    """Knows which recordings are done, which are on their way, and which have yet to be sent.

    One is done when its files are there. One that was sent is followed, unless Redis has forgotten it: then it is sent
    again under the same id. One that failed or was cancelled in an earlier run is tried again under a new one.
    """

    def __init__(
        self,
        steno: Client,
        folder: Path,
        forms: Sequence[str],
        recordings: Sequence[Recording],
        options: Mapping[str, Any],
        queue: str | None = None,
    ) -> None:
        self._steno, self._folder, self._forms = steno, folder, forms
        self._options, self._queue = dict(options), queue
        self._journal = _journal(folder, {name: value for name, value in options.items() if name not in ASIDE})
        self.left = [recording for recording in recordings if not self._is_done(recording)]
        self._is_loud = len(self.left) <= MANY

    def close(self) -> None:
        self._journal.close()

    def jobs(self) -> Iterator[Job]:
        """The job of each recording that is not done; taking it sends it, where it was not sent."""
        for recording in self.left:
            yield self._job(recording)

    def write(self, line: Line) -> None:
        """Write the files of a job that went well."""
        for form in self._forms:
            path = self._path(line.job.name, form)
            try:
                _write(path, rendered(line, form))
                self._journal.written(line.job.id, form)
            except OSError as error:
                not_written(line, str(path), error)
            if self._is_loud:
                tell(f"wrote {path}")

    def _job(self, recording: Recording) -> Job:
        entry = self._journal.find(recording.audio)
        state = self._steno.view(entry.job).fields().get("state", "") if entry else ""
        if entry is None or state in ("failed", "cancelled"):
            with _usable(self._folder):
                entry = self._journal.begin(recording.audio, recording.name)
        elif state in ("running", "succeeded") or (state == "queued" and self._journal.was_sent(entry)):
            return Job(entry.job, recording.audio, entry.name)
        return self._sent(recording, entry)

    def _sent(self, recording: Recording, entry: Entry) -> Job:
        # Its record may say that it is queued, and its message may never have been sent: then it is sent twice.
        job = self._steno.send(recording.audio, self._options, self._queue, job_id=entry.job, name=entry.name)
        with _usable(self._folder):
            self._journal.sent(entry)
        if self._is_loud:
            tell(f"{job.name}: job {job.id}", style="dim")
        return job

    def _is_done(self, recording: Recording) -> bool:
        entry = self._journal.find(recording.audio)
        return entry is not None and all(
            self._journal.may_be_written(entry, form) and self._path(entry.name, form).is_file() for form in self._forms
        )

    def _path(self, name: str, form: str) -> Path:
        return self._folder / f"{name}.{form}"


def _journal(folder: Path, options: Mapping[str, Any]) -> Journal:
    try:
        with _usable(folder):
            folder.mkdir(parents=True, exist_ok=True)
            return Journal(folder, options)
    except InUse:
        fail(f"Another stenopool writes to the folder {folder}; wait for it, or give another folder.")


@contextmanager
def _usable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        fail(f"The folder {folder} cannot be used: {error.strerror}.")


def _write(path: Path, text: str) -> None:
    """Under another name at first: what is there is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    with open(unfinished, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)
