"""How messages travel: five methods, and their one real implementation over websocket-client.

The only file that imports websocket-client. It does the upgrade and the framing; waiting is `wire.py`'s.
"""

import contextlib
import functools
import ssl
import time
from collections.abc import Mapping
from typing import Protocol

import websocket
from websocket import ABNF

from worker.recognition.endpoint import Endpoint
from worker.recognition.errors import ConnectFailed, ConnectionLost, RecognitionError, RemoteProtocolError
from worker.recognition.refusals import closed, handshake_error
from worker.recognition.wire import Wire, dial


class Transport(Protocol):
    """A connected, ordered channel of messages. One thread only, but for `abort`; and one process only."""

    def send(self, data: str | bytes) -> float:
        """Send str as text, bytes as binary; bounded. ConnectionLost: nothing more can be sent.

        Returns for how many seconds it was held up because the other side took nothing more.
        """
        ...

    def receive(self, timeout: float) -> str | None:
        """The next text message; None when none came within `timeout` seconds (0: look, do not wait).

        ConnectionLost, or what a close frame says; RemoteProtocolError for what is no text message.
        """
        ...

    def is_open(self) -> bool:
        """Whether a send may still succeed, as far as is known without looking. False in a forked child."""
        ...

    def abort(self) -> None:
        """End it at once and without a word, from any thread. Never raises; again is harmless.

        Its thread gets ConnectionLost, also out of the midst of a send or receive, and still has to close it.
        """
        ...

    def close(self) -> None:
        """End it, politely if possible, in bounded time. Never raises; again is harmless.

        In a forked child only the child's copy is closed: no byte is written, the parent's connection stays.
        """
        ...


@functools.cache
def shared_context() -> ssl.SSLContext:
    """The process's one context: loading the system's certificates costs about 25 ms of CPU each time."""
    return ssl.create_default_context()


class WebSocketTransport:
    """A WebSocket as client. Answers pings while it receives; after any failure it is not open any more."""

    def __init__(self, socket: websocket.WebSocket, wire: Wire, close_timeout: float) -> None:
        self._socket = socket
        self._wire = wire
        self._close_timeout = close_timeout
        self._is_open = True

    @classmethod
    def connect(cls, endpoint: Endpoint, context: ssl.SSLContext | None = None) -> "WebSocketTransport":
        """Connect, secure and upgrade within `connect_timeout`; `context` replaces the process's shared one.

        Straight to the endpoint: proxies, of the environment too, are not used (the socket is ours, so
        websocket-client asks for none). Redirects are not followed: they would carry the key elsewhere.
        Raises ConnectFailed, or what `handshake_error` makes of the HTTP status.
        """
        deadline = time.monotonic() + endpoint.connect_timeout
        try:
            wire = Wire(dial(endpoint.host, endpoint.port, deadline), write_timeout=endpoint.write_timeout)
        except (OSError, UnicodeError) as exc:  # UnicodeError: a host name that IDNA cannot encode
            raise _connect_failed(endpoint, exc) from None
        with contextlib.ExitStack() as unless_connected:  # also a task's time limit may strike here
            unless_connected.callback(wire.close)
            try:
                if endpoint.is_secure:
                    wire.secure(context or shared_context(), endpoint.host, deadline)
                wire.read_until(deadline)
                transport = cls(_upgrade(endpoint, wire), wire, endpoint.close_timeout)
            except websocket.WebSocketBadStatusException as exc:
                raise handshake_error(exc.status_code, _retry_after(exc.resp_headers or {})) from None
            except (OSError, ValueError, websocket.WebSocketException) as exc:
                raise _connect_failed(endpoint, exc) from None
            unless_connected.pop_all()
        return transport

    def __repr__(self) -> str:
        return f"<WebSocketTransport {'open' if self.is_open() else 'not open'}>"

    def send(self, data: str | bytes) -> float:
        if isinstance(data, str):
            self._put(data.encode(), ABNF.OPCODE_TEXT)
        else:
            self._put(data, ABNF.OPCODE_BINARY)
        return self._wire.waited

    def receive(self, timeout: float) -> str | None:
        if not self._wire.is_ours():
            raise ConnectionLost("it is another process's")
        # Also after a send has failed: why the service hung up may still be unread.
        self._wire.read_until(time.monotonic() + timeout)
        try:
            return self._message()
        except websocket.WebSocketTimeoutException:
            return None  # what came of an unfinished frame stays buffered
        except RecognitionError:
            self._is_open = False
            raise
        except (OSError, websocket.WebSocketConnectionClosedException) as exc:
            self._is_open = False
            raise ConnectionLost(f"{type(exc).__name__} while receiving") from None
        except websocket.WebSocketException:
            self._is_open = False
            raise RemoteProtocolError("a frame breaks RFC 6455") from None

    def is_open(self) -> bool:
        return self._is_open and self._wire.is_ours()

    def abort(self) -> None:
        self._is_open = False  # not reusable any more, whatever its thread still reads of what has come
        self._wire.abort()

    def close(self) -> None:
        try:
            if self.is_open():
                self._put((1000).to_bytes(2, "big") + b"bye", ABNF.OPCODE_CLOSE)
                self._await_close()
        except (OSError, websocket.WebSocketException, RecognitionError):
            pass  # whatever ends the conversation, it is ended
        finally:
            self._is_open = False
            self._wire.close()

    def _put(self, data: bytes, opcode: int) -> None:
        if not self.is_open():
            raise ConnectionLost("it is closed, broken or another process's")
        try:
            self._socket.send(data, opcode)
        except (OSError, websocket.WebSocketException) as exc:
            # Part of the frame may be on the wire, also after a timeout: no other frame can follow it.
            self._is_open = False
            raise ConnectionLost(f"{type(exc).__name__} while sending") from None

    def _message(self) -> str:
        while True:
            frame = self._socket.frame_buffer.recv_frame()
            if frame.opcode == ABNF.OPCODE_PING:
                self._answer(ABNF.OPCODE_PONG, _payload(frame))
            elif frame.opcode == ABNF.OPCODE_CLOSE:
                raise self._close_answered(_payload(frame))
            elif frame.opcode != ABNF.OPCODE_PONG and (text := self._assembled(frame)) is not None:
                return text

    def _assembled(self, frame: ABNF) -> str | None:
        parts = self._socket.cont_frame
        parts.validate(frame)
        parts.add(frame)
        if not parts.is_fire(frame):
            return None
        opcode, whole = parts.extract(frame)
        if opcode == ABNF.OPCODE_BINARY:
            raise RemoteProtocolError("the service sent a binary message")
        try:
            # Here and not in websocket-client, which checks UTF-8 in Python at 4 MB a second.
            return _payload(whole).decode()
        except UnicodeDecodeError:
            raise RemoteProtocolError("the service sent text that is not UTF-8") from None

    def _close_answered(self, payload: bytes) -> RecognitionError:
        self._answer(ABNF.OPCODE_CLOSE, payload[:2])  # RFC 6455, 5.5.1: with the status code received
        code = int.from_bytes(payload[:2], "big") if payload else None
        return closed(code, payload[2:].decode(errors="replace"))

    def _answer(self, opcode: int, data: bytes) -> None:
        # The peer may have gone already. Why it went is in what we still read, and not in this failure.
        with contextlib.suppress(ConnectionLost):
            self._put(data, opcode)

    def _await_close(self) -> None:
        deadline = time.monotonic() + self._close_timeout
        self._wire.read_until(deadline)
        while time.monotonic() < deadline:
            if self._socket.frame_buffer.recv_frame().opcode == ABNF.OPCODE_CLOSE:
                return


def _upgrade(endpoint: Endpoint, wire: Wire) -> websocket.WebSocket:
    return websocket.create_connection(
        endpoint.url,
        socket=wire,
        header=endpoint.headers(),
        suppress_origin=True,  # Origin is a browser's
        redirect_limit=0,
        enable_multithread=False,
        skip_utf8_validation=True,
    )


def _connect_failed(endpoint: Endpoint, exc: Exception) -> ConnectFailed:
    # The type only: texts of the handshake quote headers, bodies and URLs.
    return ConnectFailed(f"{endpoint.host}:{endpoint.port}, {type(exc).__name__}")


def _retry_after(headers: Mapping[str, str]) -> float | None:
    # The header's other form, a date, would need the two clocks to agree; it counts as not given.
    value = headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdecimal() else None


def _payload(frame: ABNF) -> bytes:
    return frame.data if isinstance(frame.data, bytes) else frame.data.encode()
