"""What a proxy adds to a round trip beside the distance it is told to add."""

import socket
import socketserver
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench.proxy import HOST
from bench.stage import Stage

PATIENCE = 10.0
ECHOES = 200
MESSAGE = b"x" * 3200  # a tenth of a second of audio


class Echo(socketserver.BaseRequestHandler):
    """Says what it hears."""

    def handle(self) -> None:
        while data := self.request.recv(65536):
            self.request.sendall(data)


def proxy_cost(it: Stage, round_trip_ms: float) -> float:
    """Milliseconds that a round trip takes longer through a proxy than it should; medians."""
    with _echo() as port:
        straight = _round_trip_ms(port)
        with it.proxy(f"tcp://{HOST}:{port}", round_trip_ms, "line") as url:
            return _round_trip_ms(int(url.split(":")[-1])) - straight - round_trip_ms


@contextmanager
def _echo() -> Iterator[int]:
    with socketserver.ThreadingTCPServer((HOST, 0), Echo) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join(PATIENCE)


def _round_trip_ms(port: int) -> float:
    with socket.create_connection((HOST, port), PATIENCE) as client:
        _turn(client)  # it pays for the opening
        return 1000 * statistics.median(_turn(client) for _ in range(ECHOES))


def _turn(client: socket.socket) -> float:
    began = time.monotonic()
    client.sendall(MESSAGE)
    left = len(MESSAGE)
    while left:
        data = client.recv(left)
        if not data:
            raise ConnectionError("the proxy hung up")
        left -= len(data)
    return time.monotonic() - began
