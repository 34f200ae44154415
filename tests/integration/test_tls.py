"""TLS all the way: the recording over https:, the recognition over wss:."""

import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from emulator.background import BackgroundEmulator

Site = Any


@pytest.fixture
def secured(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def page(counter: Callable[[float], Path], secured: ssl.SSLContext) -> Iterator[str]:
    """Serves a recording of two seconds over https:."""
    body = counter(2).read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = secured.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}/call.wav"
        server.shutdown()
        thread.join(10)


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "solo"])
def test_a_recording_goes_through_tls_on_both_sides(
    sites: Callable[..., Site], certificate: Path, secured: ssl.SSLContext, page: str, pool: str
) -> None:
    with BackgroundEmulator(ssl_context=secured) as emulator:
        site = sites(
            pool,
            STENOPOOL_AUDIO_ALLOW_PRIVATE="true",
            SSL_CERT_FILE=str(certificate),
            DASHSCOPE_WEBSOCKET_BASE_URL=emulator.url,
        )

        results = [site.transcribe(page, pace=0) for _ in range(2)]
        site.worker.stop()

    assert [result["text"] for result in results] == ["0-15999 16000-31999"] * 2
    assert (emulator.logbook.streams, emulator.url[:6]) == (2, "wss://")


def test_a_certificate_that_nobody_vouches_for_is_refused(sites: Callable[..., Site], page: str) -> None:
    code, _ = sites("threads", STENOPOOL_AUDIO_ALLOW_PRIVATE="true").failure(page)
    assert code == "audio_tls"
