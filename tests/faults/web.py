"""A web server for recordings that gives them slowly, and can vanish in the middle of it and come back."""

import contextlib
import re
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Final, Self

PIECE: Final = 4000
PAUSE: Final = 0.1
"""Seconds for a piece: a quarter faster than a recording of 16 kHz is spoken, so that a job never has much at hand."""


class AudioServer:
    """Serves the files of a folder, by ranges, as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._gone = threading.Event()
        self._port = 0
        self._appear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.vanish()

    def url(self, path: Path) -> str:
        return f"http://127.0.0.1:{self._port}/{path.name}"

    def vanish(self) -> None:
        """Reset every connection and close the port."""
        self._gone.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def come_back(self) -> None:
        """Listen at the same port again."""
        self._gone = threading.Event()
        self._appear()

    def _appear(self) -> None:
        folder, gone = self._folder, self._gone

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with contextlib.suppress(OSError):
                    _give(self, (folder / self.path.lstrip("/")).read_bytes(), gone)

            def log_message(self, format: str, *args: object) -> None: ...

        self._server = _Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_port
        # The default of half a second is how late `shutdown` returns.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="audio", daemon=True)
        self._thread.start()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None: ...

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        self.close_request(request)  # without saying goodbye first: it might be that of one who has vanished


def _give(handler: BaseHTTPRequestHandler, data: bytes, gone: threading.Event) -> None:
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", "bytes=0-"))
    first = int(asked[1]) if asked else 0
    end = int(asked[2]) + 1 if asked and asked[2] else len(data)
    handler.send_response(206)
    handler.send_header("Content-Range", f"bytes {first}-{end - 1}/{len(data)}")
    handler.send_header("Content-Length", str(end - first))
    handler.send_header("Content-Type", "audio/wav")
    handler.end_headers()
    for at in range(first, end, PIECE):
        handler.wfile.write(data[at : min(at + PIECE, end)])
        if gone.wait(PAUSE):
            # Linger on with time zero: the kernel sends RST instead of FIN.
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
