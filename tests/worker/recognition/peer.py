"""A real server of raw frames in a thread."""

import base64
import hashlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable

from tests.worker.recognition.waiting import PATIENCE


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
