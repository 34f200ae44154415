"""Recordings that users upload: files with random names in one folder that the workers can read."""

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from .jobs import JOB_ID, new_id
from .settings import MEGABYTE

PART: Final = ".part"
"""How the name of a file ends that is still being uploaded."""

NO_ROOM: Final = "There is no room for more recordings just now; try again later."

GRACE: Final = 3600.0
"""Seconds from an upload to its job. What nobody has asked to transcribe by then is removed."""


class Uploads:
    """The folder. What is written stays within `most_upload` bytes a file, and about `most_uploads` in all."""

    def __init__(self, folder: Path, most_upload: int, most_uploads: int) -> None:
        self._folder = folder
        self._most_upload = most_upload
        self._most_uploads = most_uploads

    def find(self, upload_id: str) -> Path | None:
        """The file of an upload, if it is there. Only an id of ours can name one."""
        path = self._folder / upload_id if JOB_ID.fullmatch(upload_id) else None
        return path if path and path.is_file() else None

    async def save(self, chunks: AsyncIterator[bytes], announced: int) -> str:
        """Write an upload as it comes, and return its id. Raises HTTPException when there is no room for it."""
        self._check(announced)
        if await run_in_threadpool(self._size) + announced > self._most_uploads:
            raise HTTPException(507, NO_ROOM)
        upload_id = new_id()
        part = self._folder / f"{upload_id}{PART}"
        try:
            if not await self._write(part, chunks):
                raise HTTPException(400, "The file is empty; choose another one.")
            part.rename(self._folder / upload_id)
        except OSError:  # the disk is full
            raise HTTPException(507, NO_ROOM) from None
        finally:
            part.unlink(missing_ok=True)
        return upload_id

    async def sweep(self, is_needed: Callable[[str], Awaitable[bool]]) -> None:
        """Remove the files of jobs that nobody knows any more, and uploads that came to nothing."""
        for path, age in await run_in_threadpool(lambda: list(self._files())):
            if age > GRACE and (path.suffix == PART or not await is_needed(path.name)):
                path.unlink(missing_ok=True)

    def _check(self, size: int) -> None:
        if size > self._most_upload:
            most = self._most_upload // MEGABYTE
            raise HTTPException(413, f"The file is too large; at most {most} MB are allowed: compress or split it.")

    async def _write(self, part: Path, chunks: AsyncIterator[bytes]) -> int:
        size = 0
        with part.open("xb") as file:
            async for chunk in chunks:
                size += len(chunk)
                self._check(size)
                await run_in_threadpool(file.write, chunk)
        return size

    def _files(self) -> Iterator[tuple[Path, float]]:
        """Ours in the folder, and how many seconds ago each was written to last."""
        for path in self._folder.iterdir():
            if JOB_ID.fullmatch(path.stem) and path.suffix in ("", PART):
                with contextlib.suppress(FileNotFoundError):
                    yield path, time.time() - path.stat().st_mtime

    def _size(self) -> int:
        with contextlib.suppress(FileNotFoundError):
            return sum(path.stat().st_size for path in self._folder.iterdir())
        return 0
