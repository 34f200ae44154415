"""What FFmpeg sees of a source."""

import io

from tasks.audio.effort import Effort
from tasks.audio.offload import give_way
from tasks.audio.sources import AudioFile

__all__ = ["Tap"]

_HEAD = 4096


class Tap:
    """A file object that never raises inside FFmpeg: it keeps the first error for `check()` and plays a file that has
    ended.

    FFmpeg would turn our error into "invalid data" or into the end of the file, PyAV would drop what is no
    `Exception`, and with greenlets, which share a thread, PyAV might raise it in another job. It has no `name`, so
    that FFmpeg guesses nothing from it. `effort` counts FFmpeg's work, of which waiting for the source is no part.
    """

    def __init__(self, file: AudioFile) -> None:
        self._file = file
        self._error: BaseException | None = None
        self._position = 0
        self._head: bytes | None = None
        self._once = False
        self._turn = 0
        self.effort: Effort | None = None

    @property
    def head(self) -> bytes:
        """The first few thousand bytes. They are kept, so that looking at them costs no second request."""
        if self._head is None:
            self._head = b""
            self._head = self._gather(_HEAD)
        return self._head

    def read_once(self) -> None:
        """From now on, let go of the beginning as soon as the reader has left it: nobody looks at it again."""
        self._once = True

    def check(self) -> None:
        """Raise what reading or seeking raised, if anything did."""
        if self._error is not None:
            raise self._error

    def read(self, size: int) -> bytes:
        head = self.head
        if self._error is not None:
            return b""
        if self._position < len(head):
            data = head[self._position : self._position + size]
            if self._once and self._position + len(data) == len(head):
                self._head = b""
        else:
            data = self._fetch(size)
        self._position += len(data)
        return data

    def ready(self, size: int) -> bytes:
        """What `read` could give without any wait; none where it might have to."""
        if self._error is not None or self._head is None:
            return b""
        if self._position < len(self._head):
            return self.read(size)
        if self._file.seekable() and self._file.tell() != self._position:
            self._file.seek(self._position)
        data = self._file.ready(size)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.size}[whence]
        except KeyError:  # FFmpeg has questions of its own beyond the three
            return -1
        if self._error is not None or base is None or base + offset < 0 or not self.seekable():
            return -1
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def seekable(self) -> bool:
        return self._file.seekable()

    def at(self, offset: int, count: int) -> bytes:
        """Bytes at a place, without moving the reader; fewer where the source ends, cannot seek or has failed."""
        if offset + count <= len(self.head):
            return self.head[offset : offset + count]
        if not self.seekable():
            return b""
        before, self._position = self._position, offset
        data = self._gather(count)
        self._position = before
        return data

    def _gather(self, count: int) -> bytes:
        """Up to `count` bytes from the source, in as many reads as that takes."""
        data = b""
        while len(data) < count and (more := self._fetch(count - len(data), len(data))):
            data += more
        return data

    def _fetch(self, size: int, ahead: int = 0) -> bytes:
        effort = self.effort
        working = effort is not None and effort.pause()
        try:
            if effort is not None:
                effort.check()
            if self._file.seekable() and self._file.tell() != self._position + ahead:
                self._file.seek(self._position + ahead)
            data = self._file.read(size)
            self._turn = give_way(self._turn)
            return data
        except BaseException as error:  # also a soft time limit or a greenlet's end: check() raises it a moment later
            self._error = error
            return b""
        finally:
            if effort is not None and working:
                effort.resume()
