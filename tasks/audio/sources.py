"""Opens the bytes behind a reference: one opener per scheme."""

import errno
import io
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from tasks.audio.inline import InlineFile
from tasks.audio.limits import AudioLimits
from tasks.audio.offload import offloaded
from tasks.audio.reference import AudioReference
from tasks.audio.refusals import empty, too_large
from tasks.audio.remote import RemoteFile
from tasks.audio.signing import signed
from tasks.errors import BadInput, Unavailable
from worker.http import HttpPool
from worker.objects import ObjectStores

__all__ = ["AudioFile", "LocalFile", "OPENERS", "Surroundings", "open_source"]


class AudioFile(Protocol):
    """What the decoder needs of a source. `size` is in bytes, None when unknown; `shown` is safe to show."""

    shown: str
    size: int | None

    def read(self, size: int, /) -> bytes: ...

    def ready(self, size: int, /) -> bytes:
        """What `read` could give without any wait; none where it might have to, and it has the last word."""
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def tell(self) -> int: ...
    def seekable(self) -> bool: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What an opener may use: the folders of `file:`, the process's HTTP pool and its object stores, the bounds."""

    roots: Sequence[Path]
    http: HttpPool
    stores: ObjectStores
    limits: AudioLimits


def open_source(
    reference: AudioReference,
    *,
    roots: Sequence[Path],
    http: HttpPool,
    stores: ObjectStores | None = None,
    limits: AudioLimits | None = None,
) -> AbstractContextManager[AudioFile]:
    """Open the bytes behind a reference; they are read as they are asked for.

    Raises `BadInput`, `Unavailable`, also while reading.
    """
    around = Surroundings(roots=roots, http=http, stores=stores or ObjectStores(), limits=limits or AudioLimits())
    return OPENERS[reference.scheme](reference, around)


Pread = Callable[[int, int, int], bytes]
"""`(descriptor, count, offset) -> bytes`, as `os.pread`."""

_WITHOUT_WAIT = getattr(os, "RWF_NOWAIT", None)
"""Linux's: read what memory holds of the file, and nothing that would have to come from its disk."""


_scratch = threading.local()


def _buffer() -> memoryview:
    """A thread's place for what it reads and copies at once: cheaper than new and emptied memory each time."""
    if not hasattr(_scratch, "buffer"):
        _scratch.buffer = memoryview(bytearray(16 * 1024))
    buffer: memoryview = _scratch.buffer
    return buffer


class LocalFile:
    """An open descriptor as a file whose reading errors are ours. A slow disk holds up nobody but the reader.

    It is read by place: a read that still waits in another thread when the file is closed can then take nothing away
    from whoever gets the descriptor's number next.
    """

    def __init__(self, descriptor: int, shown: str, size: int, pread: Pread = os.pread) -> None:
        self.shown = shown
        self.size: int | None = size
        self._descriptor, self._pread = descriptor, pread
        self._position = 0

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; empty at the end. Raises `Unavailable`."""
        try:
            data = offloaded(partial(self._pread, self._descriptor, size, self._position))
        except OSError as error:  # a disk or a network share that fails midway
            why = os.strerror(error.errno or 0)
            raise Unavailable("audio_interrupted", f"Reading {self.shown} failed: {why}. Check its disk.") from None
        self._position += len(data)
        return data

    def ready(self, size: int, /) -> bytes:
        if _WITHOUT_WAIT is None:
            return b""
        buffer = _buffer()[:size]
        try:
            count = os.preadv(self._descriptor, [buffer], self._position, _WITHOUT_WAIT)
        except OSError:  # it is not in memory, or this kind of disk cannot tell
            return b""
        self._position += count
        return bytes(buffer[:count])

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size or 0}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)


@contextmanager
def _local(reference: AudioReference, around: Surroundings) -> Iterator[AudioFile]:
    with closing(offloaded(partial(_opened, reference, around.roots), discard=LocalFile.close)) as file:
        if not file.size:
            raise BadInput("empty_audio", f"{file.shown} is empty; check what was written to it.")
        _check_size(file, around)
        yield file


@contextmanager
def _remote(reference: AudioReference, around: Surroundings) -> Iterator[AudioFile]:
    with closing(RemoteFile(reference, around.http, around.limits)) as file:
        _check_size(file, around)
        yield file


@contextmanager
def _stored(reference: AudioReference, around: Surroundings) -> Iterator[AudioFile]:
    sign = partial(signed, reference, around.stores)
    with closing(RemoteFile(reference, around.http, around.limits, sign)) as file:
        _check_size(file, around)
        yield file


@contextmanager
def _inline(reference: AudioReference, around: Surroundings) -> Iterator[AudioFile]:
    with InlineFile(reference.data, reference.shown) as file:
        if not file.size:
            raise empty(file.shown)
        _check_size(file, around)
        yield file


def _check_size(file: AudioFile, around: Surroundings) -> None:
    if file.size is not None and file.size > around.limits.max_bytes:
        raise too_large(file.shown, file.size, around.limits.max_bytes)


def _opened(reference: AudioReference, roots: Sequence[Path]) -> LocalFile:
    descriptor = _descriptor(reference, roots)
    return LocalFile(descriptor, reference.shown, os.fstat(descriptor).st_size)


def _descriptor(reference: AudioReference, roots: Sequence[Path]) -> int:
    """An open regular file inside one of the roots, wherever symlinks and `..` lead."""
    shown = reference.shown
    real = os.path.realpath(reference.path)
    if not _inside(real, roots):
        raise _forbidden(shown, roots)
    try:
        # Looked at before it is opened: opening a device can already do something.
        if not stat.S_ISREG(os.stat(real, follow_symlinks=False).st_mode):
            raise _not_a_file(shown)
        # Between the look and the opening somebody may swap it: never wait for a FIFO, never follow a link, and look
        # again.
        descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise _unopened(shown, error.errno, roots) from None
    try:
        _check_opened(descriptor, real, shown, roots)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_opened(descriptor: int, real: str, shown: str, roots: Sequence[Path]) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise _not_a_file(shown)
    # A folder on the way may have become a symlink since: the kernel knows what was opened.
    link = f"/proc/self/fd/{descriptor}"
    if not _inside(os.path.realpath(link if os.path.lexists(link) else real), roots):
        raise _forbidden(shown, roots)


def _inside(real: str, roots: Sequence[Path]) -> bool:
    return any(Path(real).is_relative_to(os.path.realpath(root)) for root in roots)


def _forbidden(shown: str, roots: Sequence[Path]) -> BadInput:
    # The same words whether it exists or not: what lies outside the roots is nobody's business.
    if not roots:
        return BadInput(
            "forbidden_path", f"{shown} cannot be read: set STENOPOOL_AUDIO_ROOTS to the folders that jobs may read."
        )
    return BadInput("forbidden_path", f"{shown} lies outside STENOPOOL_AUDIO_ROOTS; move it there or add its folder.")


def _not_a_file(shown: str) -> BadInput:
    return BadInput("not_a_file", f"{shown} is a folder, a pipe or a device; name a regular file.")


def _unopened(shown: str, number: int | None, roots: Sequence[Path]) -> BadInput:
    if number in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
        return BadInput(
            "audio_not_found", f"{shown} does not exist; check the name and that the worker sees this disk."
        )
    if number == errno.ELOOP:  # became a symlink after it was resolved
        return _forbidden(shown, roots)
    why = os.strerror(number or 0)
    return BadInput("audio_unreadable", f"{shown} cannot be opened ({why}); let the worker's user read it.")


Opener = Callable[[AudioReference, Surroundings], AbstractContextManager[AudioFile]]

OPENERS: dict[str, Opener] = {
    "data": _inline,
    "file": _local,
    "http": _remote,
    "https": _remote,
    "oss": _stored,
    "s3": _stored,
}
