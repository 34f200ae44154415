import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from emulator import BackgroundEmulator
from worker.generation import Client, Limits


@pytest.fixture(scope="module")
def service() -> Iterator[BackgroundEmulator]:
    with BackgroundEmulator() as running:
        yield running


@pytest.fixture
def emulator(service: BackgroundEmulator) -> Iterator[BackgroundEmulator]:
    """A service that has been asked nothing yet, by this test."""
    assert service.logbook.wait_until(lambda book: book.generations_open == 0)  # what an earlier one gave up
    service.logbook.clear()
    yield service
    service.faults.clear()


@pytest.fixture
def secured(certificate: Path) -> Iterator[BackgroundEmulator]:
    """A service over TLS, whose certificate is signed by itself. To be named before the clients, which then hang up
    first: it would not wait for them to say goodbye.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with BackgroundEmulator(ssl_context=context) as running:
        yield running


@pytest.fixture
def distrusted(certificate: Path) -> Iterator[str]:
    """A server whose certificate nobody vouches for. (The emulator's own would not close what a client hangs up in the
    handshake.)
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def shake() -> None:
            with suppress(OSError), server.accept()[0] as caller:
                context.wrap_socket(caller, server_side=True)

        thread = threading.Thread(target=shake)
        thread.start()
        yield f"https://127.0.0.1:{server.getsockname()[1]}/api/v1"
        thread.join(5.0)


@pytest.fixture
def dripping() -> Iterator[str]:
    """A server whose answer comes a byte at a time."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            with suppress(OSError), server.accept()[0] as caller:
                caller.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                while not over.wait(0.02):
                    caller.sendall(b" ")

        thread = threading.Thread(target=drip)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/api/v1"
        over.set()
        thread.join(5.0)


@pytest.fixture
def make() -> Iterator[Callable[..., Client]]:
    """Makes clients that close with the test, and leave no thread."""
    made: list[Client] = []

    def client(url: str, context: ssl.SSLContext | None = None, **limits: Any) -> Client:
        made.append(Client(url, Limits(**limits), context or ssl.create_default_context()))
        return made[-1]

    yield client
    for one in made:
        one.close(5.0)
    for thread in threading.enumerate():
        if thread.name == "generation":
            thread.join(5.0)
            assert not thread.is_alive()
