"""What the tests of one conversation share: fakes on a fake clock, and real connections to a server of raw frames."""

import pathlib
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fakes import FakeClock
from tests.worker.recognition.peer import Peer, Servers
from tests.worker.recognition.scripted import Inline, ScriptedTransport
from tests.worker.recognition.waiting import PATIENCE, Waiting
from worker.recognition import Endpoint, Loop, WebSocketTransport

WIRE = pathlib.Path(__file__).parents[2] / "wire"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def scripted(clock: FakeClock) -> ScriptedTransport:
    return ScriptedTransport(clock)


@pytest.fixture
def inline(clock: FakeClock) -> Inline:
    return Inline(clock)


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A real one, in a thread."""
    loop = Loop()
    yield loop
    loop.close(PATIENCE)


@pytest.fixture(scope="session")
def tls(certificate: pathlib.Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(the server's context, a client's context that trusts it), for 127.0.0.1."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    return server, ssl.create_default_context(cafile=str(certificate))


@pytest.fixture(params=["plain", "TLS"])
def connect_to(
    request: pytest.FixtureRequest, serve: Servers, tls: tuple[ssl.SSLContext, ssl.SSLContext]
) -> Callable[..., Waiting]:
    """Connects to a server that does `play(peer)` after the upgrade, in plain TCP and over TLS."""
    secure = request.param == "TLS"

    def connect_to(play: Callable[[Peer], None], **options: Any) -> Waiting:
        def handler(peer: Peer) -> None:
            peer.upgrade()
            play(peer)

        url = serve(handler, tls[0] if secure else None).replace("ws:", "wss:" if secure else "ws:")
        return Waiting(WebSocketTransport.connect(Endpoint(**{"url": url, "api_key": "k"} | options), tls[1]))

    return connect_to


@pytest.fixture
def serve() -> Iterator[Servers]:
    servers = Servers()
    yield servers
    servers.finish()


@pytest.fixture
def until_in() -> Callable[[threading.Thread, str], None]:
    """Returns as soon as the thread waits in the function of this qualified name."""

    def until_in(thread: threading.Thread, where: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while sys._current_frames()[thread.ident or 0].f_code.co_qualname != where:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    return until_in


@pytest.fixture(scope="session")
def golden() -> Callable[[str], list[str]]:
    return lambda name: (WIRE / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
