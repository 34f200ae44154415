"""How messages travel: a channel that never waits, and its one real implementation.

websocket-client does the upgrade here, and the framing in `frames.py`; the bytes are `wire.py`'s.
"""

import contextlib
import functools
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Protocol

import websocket

from worker.recognition.endpoint import Endpoint
from worker.recognition.errors import ConnectFailed, ConnectionLost, RecognitionError, RemoteProtocolError
from worker.recognition.frames import BINARY, CLOSE, PING, PONG, TEXT, Dry, Parser, encoded
from worker.recognition.refusals import closed, handshake_error
from worker.recognition.wire import READ_SIZE, Wire, dial

MOST_UNSENT = 1024 * 1024
"""Bytes that may wait for a peer that takes nothing; one that keeps asking by pings is given up beyond."""


class Transport(Protocol):
    """A connected, ordered channel of messages. One thread at a time, but for `abort`; and one process only."""

    def send(self, data: str | bytes | memoryview) -> bool:
        """Send str as text, bytes as binary. False: a part of it is left; `flush` until it is gone, before the next.

        ConnectionLost: nothing more can be sent.
        """
        ...

    def flush(self) -> bool:
        """Send what is left. False: not all of it went. ConnectionLost as for `send`."""
        ...

    def ping(self) -> bool:
        """Send a ping; what is returned and raised is as for `send`. A pong is no message: only `has_heard` tells."""
        ...

    def receive(self) -> Iterator[str]:
        """The text messages that one look at the socket gives; none when nothing came. Take them all.

        Raises, after those that came before: ConnectionLost, or what a close frame says; RemoteProtocolError for what
        is no text message.
        """
        ...

    def has_heard(self) -> bool:
        """Whether the last look gave anything at all: a message or a part of one, a ping, a pong."""
        ...

    def is_blocked(self) -> bool:
        """Whether the socket has to become writable before anything goes on."""
        ...

    def fileno(self) -> int:
        """The socket's descriptor, to wait for; -1 when there is none any more."""
        ...

    def is_open(self) -> bool:
        """Whether a send may still succeed, as far as is known without looking. False in a forked child."""
        ...

    def abort(self) -> None:
        """End it at once and without a word, from any thread. Never raises; again is harmless.

        Its thread finds ConnectionLost, and still has to close it.
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

    def __init__(self, wire: Wire, close_timeout: float) -> None:
        self._wire = wire
        self._read = self._look
        self._parser = Parser(lambda: self._read())
        self._close_timeout = close_timeout
        self._is_open = True
        self._has_heard = False

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
                _upgrade(endpoint, wire)
            except websocket.WebSocketBadStatusException as exc:
                raise _alone(handshake_error(exc.status_code, _retry_after(exc.resp_headers or {}))) from None
            except (OSError, ValueError, websocket.WebSocketException) as exc:
                raise _connect_failed(endpoint, exc) from None
            unless_connected.pop_all()
        return cls(wire, endpoint.close_timeout)

    def __repr__(self) -> str:
        return f"<WebSocketTransport {'open' if self.is_open() else 'not open'}>"

    def send(self, data: str | bytes | memoryview) -> bool:
        return self._put(encoded(data, BINARY) if not isinstance(data, str) else encoded(data.encode(), TEXT))

    def flush(self) -> bool:
        return self._put(b"")

    def ping(self) -> bool:
        return self._put(encoded(b"", PING))

    def receive(self) -> Iterator[str]:
        if not self._wire.is_ours():
            raise ConnectionLost("it is another process's")
        # Also after a send has failed: why the service hung up may still be unread.
        self._has_heard = False
        try:
            while True:
                if (text := self._text(*self._parser.message())) is not None:
                    yield text
                if self._has_heard and self._parser.is_dry:
                    return
        except Dry:
            return
        except RecognitionError:
            self._is_open = False
            raise
        except OSError as exc:
            self._is_open = False
            raise ConnectionLost(f"{type(exc).__name__} while receiving") from None
        except websocket.WebSocketException:
            self._is_open = False
            raise RemoteProtocolError("a frame breaks RFC 6455") from None

    def has_heard(self) -> bool:
        return self._has_heard

    def is_blocked(self) -> bool:
        return self._wire.is_blocked

    def fileno(self) -> int:
        return self._wire.fileno()

    def is_open(self) -> bool:
        return self._is_open and self._wire.is_ours()

    def abort(self) -> None:
        self._is_open = False  # not reusable any more, whatever its thread still reads of what has come
        self._wire.abort()

    def close(self) -> None:
        try:
            # What does not go at once is not worth a wait.
            if self.is_open() and self._wire.put(encoded((1000).to_bytes(2, "big") + b"bye", CLOSE)):
                self._await_close()
        except (OSError, websocket.WebSocketException, RecognitionError):
            pass  # whatever ends the conversation, it is ended
        finally:
            self._is_open = False
            self._wire.close()

    def _put(self, data: bytes) -> bool:
        if not (self._is_open and self._wire.is_ours()):
            raise ConnectionLost("it is closed, broken or another process's")
        try:
            return self._wire.put(data)
        except OSError as exc:
            # Part of the frame may be on the wire: no other frame can follow it.
            self._is_open = False
            raise ConnectionLost(f"{type(exc).__name__} while sending") from None

    def _look(self) -> bytes:
        """One read for each look, so that a service that sends without pause does not hold up the other streams."""
        if self._has_heard:
            raise Dry
        data = self._wire.take()
        if data is None:
            raise Dry
        if not data:
            raise ConnectionResetError  # said like any other end without a close frame
        self._has_heard = True
        return data

    def _text(self, opcode: int, payload: bytes) -> str | None:
        if opcode == TEXT:
            try:
                # Here and not in websocket-client, which checks UTF-8 in Python at 4 MB a second.
                return payload.decode()
            except UnicodeDecodeError:
                raise RemoteProtocolError("the service sent text that is not UTF-8") from None
        if opcode == BINARY:
            raise RemoteProtocolError("the service sent a binary message")
        if opcode == CLOSE:
            raise self._close_answered(payload)
        if opcode == PING:
            self._answer(PONG, payload)
        return None

    def _close_answered(self, payload: bytes) -> RecognitionError:
        self._answer(CLOSE, payload[:2])  # RFC 6455, 5.5.1: with the status code received
        code = int.from_bytes(payload[:2], "big") if payload else None
        return closed(code, payload[2:].decode(errors="replace"))

    def _answer(self, opcode: int, data: bytes) -> None:
        if self._wire.unsent > MOST_UNSENT:
            self._is_open = False
            return
        # The peer may have gone already. Why it went is in what we still read, and not in this failure.
        with contextlib.suppress(ConnectionLost):
            self._put(encoded(data, opcode))

    def _await_close(self) -> None:
        """Until the peer's close frame, its end, or the time is up."""
        self._wire.read_until(time.monotonic() + self._close_timeout)
        self._read = self._wait
        while self._parser.message()[0] != CLOSE:
            pass

    def _wait(self) -> bytes:
        data = self._wire.recv(READ_SIZE)
        if not data:
            raise ConnectionResetError
        return data


def _upgrade(endpoint: Endpoint, wire: Wire) -> None:
    websocket.create_connection(
        endpoint.url,
        socket=wire,
        header=endpoint.headers(),
        suppress_origin=True,  # Origin is a browser's
        redirect_limit=0,
        enable_multithread=False,
        skip_utf8_validation=True,
    )


def _connect_failed(endpoint: Endpoint, exc: Exception) -> RecognitionError:
    # The type only: texts of the handshake quote headers, bodies and URLs.
    return _alone(ConnectFailed(f"{endpoint.host}:{endpoint.port}, {type(exc).__name__}"))


def _alone(error: RecognitionError) -> RecognitionError:
    """Told without the one that it was made of, which quotes so much: compiled, a raise has no `from None`."""
    error.__suppress_context__ = True
    return error


def _retry_after(headers: Mapping[str, str]) -> float | None:
    # The header's other form, a date, would need the two clocks to agree; it counts as not given.
    value = headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdecimal() else None
