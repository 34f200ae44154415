"""The load server's figures over HTTP: GET reads them, DELETE counts anew. One request a connection."""

import json
import socket
from collections.abc import Callable
from typing import Final

from bench.load.figures import Figures

MOST_REQUEST: Final = 4096
PATH: Final = b"/figures"


class Control:
    """One client that asks for the figures. `gone` is called once, when it was answered or left."""

    def __init__(self, sock: socket.socket, figures: Figures, gone: Callable[["Control"], None]) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self._figures = figures
        self._gone = gone
        self._request = b""

    def ready(self, events: int) -> None:
        """Something came."""
        try:
            data = self.sock.recv(MOST_REQUEST)
            self._request += data
            is_whole = b"\r\n\r\n" in self._request
            if is_whole:
                self.sock.send(self._answer())  # less than any socket's buffer
        except BlockingIOError:
            return
        except OSError:
            is_whole = True
        if is_whole or not data or len(self._request) > MOST_REQUEST:
            self._gone(self)

    def close(self) -> None:
        """Hang up."""
        self.sock.close()

    def _answer(self) -> bytes:
        method, _, rest = self._request.partition(b" ")
        if rest.split(b" ")[0] != PATH:
            return _http("404 Not Found")
        if method == b"DELETE":
            self._figures.reset()
            return _http("204 No Content")
        if method == b"GET":
            return _http("200 OK", json.dumps(self._figures.report()))
        return _http("405 Method Not Allowed")


def _http(status: str, body: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
