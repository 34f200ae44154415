"""The load server's side of one connection: bytes in, bytes out. No socket, no clock."""

import base64
import hashlib
import json
import re
from typing import Final

from bench.load.figures import Figures
from bench.load.script import BYTES_PER_SECOND, STEP_BYTES, Script, frame_head

PATHS: Final = (b"/api-ws/v1/inference", b"/api-ws/v1/inference/")
GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
KEY: Final = re.compile(rb"\r\nsec-websocket-key:[ \t]*([A-Za-z0-9+/=]{24})[ \t]*\r\n", re.IGNORECASE)
BINARY, MASKED_16, CLOSE, PING, PONG = 0x82, 0xFE, 0x88, 0x89, 0x8A
TEXT: Final = 0x81
MOST_REQUEST: Final = 16_384
MOST_TEXT: Final = 262_144
MOST_AUDIO: Final = 16 * 1024 * 1024


class Malformed(Exception):
    """The client does not speak the protocol; it is to be dropped."""


class Speech:
    """Reads what a client sends and collects what it is to be answered in `out`. `is_over`: hang up after that.

    A task's due times count from the moment its task-started was made: audio that begins at second p of the task is
    due p seconds later.
    """

    def __init__(self, script: Script, figures: Figures) -> None:
        self.out: list[bytes] = []
        self.is_over = False
        self._script = script
        self._figures = figures
        self._upgraded = False
        self._held = b""  # a head or a command that has not come whole
        self._size = self._rest = 0  # of the frame of audio that has not come whole
        self._task_id: bytes | None = None
        self._zero = 0.0
        self._received = self._step = self._next = 0

    def __repr__(self) -> str:
        return f"<Speech {'in a task' if self.in_task else 'idle'}, {self._received} bytes of audio>"

    @property
    def in_task(self) -> bool:
        return self._task_id is not None

    def feed(self, data: bytearray, size: int, now: float) -> None:
        """Take the first `size` bytes of `data`, which came at `now` seconds. Raises Malformed."""
        if self._held:
            data = bytearray(self._held) + memoryview(data)[:size]
            size, self._held = len(data), b""
        at = 0
        if not self._upgraded:
            at = self._request(data, size)
        elif self._rest:
            at = min(size, self._rest)
            self._rest -= at
            if self._rest:
                return
            self._audio(self._size, now)
        if self._upgraded:
            self._frames(data, at, size, now)

    def end(self) -> None:
        """The connection is gone."""
        if self.in_task:
            self._task_id = None
            self._figures.streams -= 1

    def _frames(self, data: bytearray, at: int, size: int, now: float) -> None:
        while at < size and not self.is_over:
            first = data[at]
            if first == BINARY and size - at >= 8 and data[at + 1] == MASKED_16:  # nearly all are like this
                begin, length = at + 8, data[at + 2] << 8 | data[at + 3]
            else:
                begin, length = _head(data, at, size)
                if not begin or (first != BINARY and begin + length > size):
                    self._held = bytes(data[at:size])
                    return
            at = begin + length
            if first != BINARY:
                self._command(first, _unmasked(data, begin, at), now)
            elif at > size:
                self._size, self._rest = length, at - size
            else:
                self._audio(length, now)

    def _audio(self, length: int, now: float) -> None:
        if self._task_id is None:
            self._fail("audio", b"")
            return
        self._figures.judge(now - self._zero - self._received / BYTES_PER_SECOND, length)
        self._received += length
        while self._received >= self._next:
            self._step += 1
            self._next = (self._step + 1) * STEP_BYTES
            self.out.append(self._script.result(self._step, self._task_id))
            self._figures.events += 1
            self._figures.first_events += self._step == 1

    def _command(self, first: int, payload: bytes, now: float) -> None:
        if first == TEXT:
            action, task_id = _action(payload)
            if action == "run-task" and not self.in_task:
                self._run(task_id, now)
            elif action == "finish-task" and task_id == self._task_id:
                self._finish(task_id)
            else:
                self._fail(action, task_id)
        elif first == PING:
            self.out.append(frame_head(PONG, len(payload)) + payload)
        elif first == CLOSE:
            self.out.append(frame_head(CLOSE, len(payload)) + payload)
            self.is_over = True
        elif first != PONG:
            raise Malformed("a frame of a kind that no client of ours sends")

    def _run(self, task_id: bytes, now: float) -> None:
        self._task_id, self._zero = task_id, now
        self._received, self._step, self._next = 0, 0, self._script.first_bytes
        self._figures.stream_begins()
        self.out.append(self._script.started(task_id))

    def _finish(self, task_id: bytes) -> None:
        if rest := self._script.rest(self._received, task_id):
            self.out.append(rest)
            self._figures.events += 1
            self._figures.first_events += self._step == 0
        self.out.append(self._script.finished(task_id))
        self._figures.tasks_finished += 1
        self.end()

    def _fail(self, what: str, task_id: bytes) -> None:
        """Tell the client what it did, and hang up, as the service does."""
        name = what if what in ("audio", "run-task", "finish-task") else "unknown"
        self.out.append(self._script.failed(task_id, f"Invalid action('{name}')! Please follow the protocol!"))
        self.out.append(frame_head(CLOSE, 2) + (1000).to_bytes(2, "big"))
        self._figures.errors += 1
        self.is_over = True

    def _request(self, data: bytearray, size: int) -> int:
        """Answer the upgrade request; return where the frames begin."""
        end = data.find(b"\r\n\r\n", 0, size) + 4
        if end < 4:
            if size > MOST_REQUEST:
                raise Malformed("a request without an end")
            self._held = bytes(data[:size])
            return size
        request = bytes(data[:end])
        parts, key = request.partition(b"\r\n")[0].split(b" "), KEY.search(request)
        if len(parts) != 3 or parts[0] != b"GET" or parts[1] not in PATHS or key is None:
            raise Malformed("not a request to upgrade")
        accept = base64.b64encode(hashlib.sha1(key[1] + GUID).digest())
        self.out.append(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self._upgraded = True
        return end


def _head(data: bytearray, at: int, size: int) -> tuple[int, int]:
    """Where the payload begins, and its length; (0, 0) when the head has not come whole."""
    if size - at < 2:
        return 0, 0
    first, second = data[at], data[at + 1]
    if not second & 0x80 or first not in (TEXT, BINARY, CLOSE, PING, PONG):
        raise Malformed("a frame that is not masked, or is fragmented, or is of an unknown kind")
    more = {126: 2, 127: 8}.get(second & 0x7F, 0)
    if size - at < 6 + more:
        return 0, 0
    length = int.from_bytes(data[at + 2 : at + 2 + more], "big") if more else second & 0x7F
    if length > (MOST_AUDIO if first == BINARY else MOST_TEXT if first == TEXT else 125):
        raise Malformed("a frame that is too long")
    return at + 6 + more, length


def _unmasked(data: bytearray, begin: int, end: int) -> bytes:
    size = end - begin
    mask = (bytes(data[begin - 4 : begin]) * (size // 4 + 1))[:size]
    return (int.from_bytes(data[begin:end], "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")


def _action(payload: bytes) -> tuple[str, bytes]:
    """The action of a command, and its task id, written as in JSON."""
    try:
        header = json.loads(payload)["header"]
        action, task_id = header["action"], header["task_id"]
    except (ValueError, RecursionError, LookupError, TypeError):
        raise Malformed("a command that is not one") from None
    if not isinstance(action, str) or not isinstance(task_id, str) or not 0 < len(task_id) < 100:
        raise Malformed("a command without an action or a task id")
    return action, json.dumps(task_id)[1:-1].encode()
