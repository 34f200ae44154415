"""A fake clock, a scripted transport, and a real server of raw frames in a thread."""

import base64
import hashlib
import json
import pathlib
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fakes import FakeClock
from worker.recognition import Endpoint, WebSocketTransport

WIRE = pathlib.Path(__file__).parents[2] / "wire"
TASK = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
PATIENCE = 10.0  # bounds every wait of the server; no test that passes comes near it


class ScriptedTransport:
    """Answers by a script on a fake clock: `says(delay, message)` queues a text, or an exception to raise."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.sent: list[tuple[float, Any]] = []  # seconds since the start, the message
        self.waits: list[float] = []
        self.on_send: Callable[[Any], None] = lambda message: None  # what it takes of the clock is the other side's
        self.send_lag = 0.0  # and this is what a send takes of the clock because our own process does not get to run
        self.wake_lag: Callable[[float], float] = lambda timeout: 0.0  # the same for a receive that gets nothing
        self.open = True
        self._start = clock.now
        self._queue: list[tuple[float, Any]] = []

    def says(self, delay: float, message: Any) -> None:
        self._queue.append((self.clock.now + delay, message))
        self._queue.sort(key=lambda item: item[0])

    def send(self, data: str | bytes) -> float:
        began = self.clock.now
        message = data if isinstance(data, bytes) else json.loads(data)
        self.sent.append((round(self.clock.now - self._start, 6), message))
        self.on_send(message)
        held_up = self.clock.now - began
        self.clock.now += self.send_lag
        return held_up

    def receive(self, timeout: float) -> str | None:
        assert timeout >= 0
        self.waits.append(timeout)
        if not self._queue or self._queue[0][0] > self.clock.now + timeout:
            self.clock.now += timeout + self.wake_lag(timeout)
            return None
        at, message = self._queue.pop(0)
        self.clock.now = max(self.clock.now, at)
        if isinstance(message, Exception):
            self.open = False
            raise message
        return json.dumps(message)

    def is_open(self) -> bool:
        return self.open

    def abort(self) -> None:
        self.open = False

    def close(self) -> None:
        self.open = False


class Peer:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(PATIENCE)
        self.sock = sock
        self.request = b""

    def hear_request(self) -> None:
        while b"\r\n\r\n" not in self.request:
            self.request += self.sock.recv(1)

    def upgrade(self, glued: bytes = b"") -> None:
        self.hear_request()
        self.sock.sendall(self.agreement() + glued)

    def agreement(self) -> bytes:
        lines = dict(line.split(": ", 1) for line in self.request.decode().split("\r\n")[1:-2])
        guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1((lines["Sec-WebSocket-Key"] + guid).encode()).digest()).decode()
        return (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n"
        ).encode()

    @staticmethod
    def frame(opcode: int, payload: bytes, fin: bool = True) -> bytes:
        head = bytes([fin << 7 | opcode])
        if len(payload) < 126:
            return head + bytes([len(payload)]) + payload
        if len(payload) < 65536:
            return head + bytes([126]) + struct.pack("!H", len(payload)) + payload
        return head + bytes([127]) + struct.pack("!Q", len(payload)) + payload

    def say(self, opcode: int, payload: bytes, fin: bool = True) -> None:
        self.sock.sendall(self.frame(opcode, payload, fin))

    def exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.sock.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def hear(self) -> tuple[int, bytes]:
        first, second = self.exactly(2)
        assert second & 0x80, "a client must mask"
        length = second & 0x7F
        if length >= 126:
            length = int.from_bytes(self.exactly(2 if length == 126 else 8), "big")
        mask = self.exactly(4)
        return first & 0x0F, bytes(byte ^ mask[i % 4] for i, byte in enumerate(self.exactly(length)))

    def reset(self) -> None:
        """Leave with a TCP RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Servers:
    """Runs handlers on loopback: each for one connection, or for several in a thread each."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._failures: list[Exception] = []

    def __call__(
        self, handler: Callable[[Peer], None], context: ssl.SSLContext | None = None, *, connections: int = 1
    ) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(PATIENCE)
        port = listener.getsockname()[1]
        for _ in range(connections):
            thread = threading.Thread(target=self._serve, args=(listener.dup(), handler, context))
            thread.start()
            self._threads.append(thread)
        listener.close()
        return f"ws://127.0.0.1:{port}/api-ws/v1/inference"

    def _serve(self, listener: socket.socket, handler: Callable[[Peer], None], context: ssl.SSLContext | None) -> None:
        try:
            with listener:
                listener.settimeout(PATIENCE)
                sock, _ = listener.accept()
            sock.settimeout(PATIENCE)
            with context.wrap_socket(sock, server_side=True) if context else sock as sock:
                handler(Peer(sock))
        except Exception as exc:
            self._failures.append(exc)

    def finish(self) -> None:
        for thread in self._threads:
            thread.join(2 * PATIENCE)
            assert not thread.is_alive()
        assert self._failures == []


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def scripted(clock: FakeClock) -> ScriptedTransport:
    return ScriptedTransport(clock)


@pytest.fixture(scope="session")
def tls(certificate: pathlib.Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(the server's context, a client's context that trusts it), for 127.0.0.1."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    return server, ssl.create_default_context(cafile=str(certificate))


@pytest.fixture(params=["plain", "TLS"])
def connect_to(
    request: pytest.FixtureRequest, serve: Servers, tls: tuple[ssl.SSLContext, ssl.SSLContext]
) -> Callable[..., WebSocketTransport]:
    """Connects to a server that does `play(peer)` after the upgrade, in plain TCP and over TLS."""
    secure = request.param == "TLS"

    def connect_to(play: Callable[[Peer], None], **options: Any) -> WebSocketTransport:
        def handler(peer: Peer) -> None:
            peer.upgrade()
            play(peer)

        url = serve(handler, tls[0] if secure else None).replace("ws:", "wss:" if secure else "ws:")
        return WebSocketTransport.connect(Endpoint(**{"url": url, "api_key": "k"} | options), tls[1])

    return connect_to


@pytest.fixture
def serve() -> Iterator[Servers]:
    servers = Servers()
    yield servers
    servers.finish()


@pytest.fixture
def until_blocked() -> Callable[[threading.Thread], None]:
    """Returns as soon as the thread has tried to send or receive, and waits until it can."""

    def until_blocked(thread: threading.Thread) -> None:
        deadline = time.monotonic() + PATIENCE
        while sys._current_frames()[thread.ident or 0].f_code.co_qualname != "Wire._wait":
            assert time.monotonic() < deadline
            time.sleep(0.001)

    return until_blocked


@pytest.fixture(scope="session")
def golden() -> Callable[[str], list[str]]:
    return lambda name: (WIRE / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
