"""What was sent for a folder of results, so that the same command goes on where an earlier one ended, however that was.

A line of JSON is added at each step, and a job's is on the disk before the job is sent: whatever is interrupted where,
a job is found again under its id. Of a reference only what may be shown is kept, and its hash.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from cli.client import new_id
from config.logs import LONGEST_SHOWN, shown_reference

NAME = ".stenopool.jsonl"
"""The file's name, in the folder."""


class InUse(Exception):
    """Raised when another process has the folder's journal."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A job: of which recording, with which options, and how its results are called."""

    job: str
    recording: str
    options: str
    name: str


class Journal:
    """The journal of a folder, for jobs with these options. One process at a time has it.

    Raises:
        InUse: another one does.
        OSError: it cannot be opened.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        self._options = digest(json.dumps(options, sort_keys=True))
        self._latest: dict[str, Entry] = {}
        self._names: dict[str, str] = {}
        self._changed: set[str] = set()
        self._sent: set[str] = set()
        self._written: set[tuple[str, str]] = set()
        self._file = open(folder / NAME, "a+b")
        try:
            self._read()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        self._file.close()

    def find(self, audio: str) -> Entry | None:
        """The latest job of a recording, if that was with our options."""
        entry = self._latest.get(digest(audio))
        return entry if entry and entry.options == self._options else None

    def begin(self, audio: str, name: str) -> Entry:
        """Choose the id of a new job. Its results keep the name that those of the recording have; a new recording gets
        this name, with a number if it is taken.
        """
        recording = digest(audio)
        earlier = self._latest.get(recording)
        entry = Entry(new_id(), recording, self._options, earlier.name if earlier else self._free(name))
        # On the disk before the job is on its way.
        self._add(audio=shown_reference(audio)[:LONGEST_SHOWN], **asdict(entry))
        os.fsync(self._file.fileno())
        return entry

    def sent(self, entry: Entry) -> None:
        self._add(sent=entry.job)

    def was_sent(self, entry: Entry) -> bool:
        """False as well where it was, and nobody came to note it."""
        return entry.job in self._sent

    def written(self, job: str, form: str) -> None:
        self._add(written=job, form=form)

    def may_be_written(self, entry: Entry, form: str) -> bool:
        """Whether a file that is there is this job's; one with other options has the same name."""
        return (entry.job, form) in self._written or entry.recording not in self._changed

    def _read(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse from None
        self._file.seek(0)
        last = b"\n"
        for last in self._file:
            with suppress(ValueError, KeyError, TypeError):  # the end of a line may have been cut off
                self._take(json.loads(last))
        if not last.endswith(b"\n"):
            self._file.write(b"\n")
            self._file.flush()

    def _add(self, **line: str) -> None:
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()
        self._take(line)

    def _take(self, line: Mapping[str, str]) -> None:
        if "sent" in line:
            self._sent.add(line["sent"])
        elif "written" in line:
            self._written.add((line["written"], line["form"]))
        else:
            entry = Entry(**{field.name: str(line[field.name]) for field in fields(Entry)})
            earlier = self._latest.setdefault(entry.recording, entry)
            if earlier.options != entry.options:
                self._changed.add(entry.recording)
            self._latest[entry.recording] = entry
            self._names.setdefault(entry.name, entry.recording)

    def _free(self, name: str) -> str:
        number = 1
        while (tried := f"{name}.{number}" if number > 1 else name) in self._names:
            number += 1
        return tried


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
