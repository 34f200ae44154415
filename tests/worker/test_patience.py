"""Servers that never run into a socket's timeout, as they send a byte now and then."""

import contextlib
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from urllib3.exceptions import HTTPError, ProtocolError, ReadTimeoutError

from worker.http import HttpPool

PATIENCE = 0.4
Talk = Callable[[socket.socket, threading.Event], None]


def dripping(begin: bytes, every: bytes) -> Talk:
    """Says something, and then the same again and again, ten times in the time that it has."""

    def talk(client: socket.socket, stop: threading.Event) -> None:
        client.recv(4096)
        client.sendall(begin)
        while not stop.wait(PATIENCE / 10):
            client.sendall(every)

    return talk


HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def listen() -> Iterator[Callable[..., int]]:
    """Start servers that talk to whoever connects as they like."""
    stop, listening, talking = threading.Event(), [], []

    def start(talk: Talk) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        server.settimeout(20)

        def serve() -> None:
            with contextlib.suppress(OSError), server.accept()[0] as client:
                talk(client, stop)

        listening.append(server)
        talking.append(threading.Thread(target=serve))
        talking[-1].start()
        port: int = server.getsockname()[1]
        return port

    yield start
    stop.set()
    for server in listening:
        server.close()
    for thread in talking:
        thread.join(25)


@pytest.fixture
def pool() -> Iterator[HttpPool]:
    pool = HttpPool(allow_private=True)
    yield pool
    pool.close()


@pytest.mark.parametrize(
    ("begin", "every"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 200 O", b"K"),
        (b"HTTP/1.1 200 OK\r\n", b"A"),
        (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 100 Continue\r\n", b"A: b\r\n"),
    ],
)
def test_a_head_that_does_not_come_to_an_end(
    pool: HttpPool, listen: Callable[..., int], begin: bytes, every: bytes
) -> None:
    url, began = f"http://127.0.0.1:{listen(dripping(begin, every))}/", time.monotonic()
    with pytest.raises(ReadTimeoutError):
        pool.request("GET", url, read_timeout=PATIENCE)
    assert PATIENCE * 0.9 < time.monotonic() - began < 10 * PATIENCE


@pytest.mark.parametrize(
    ("begin", "every"),
    [(HEAD, b"0"), (HEAD + b"5", b";"), (HEAD + b"0\r\n", b"A: b\r\n"), (HEAD + b"3\r\nabc", b"\r")],
)
def test_a_chunk_that_does_not_begin(pool: HttpPool, listen: Callable[..., int], begin: bytes, every: bytes) -> None:
    url = f"http://127.0.0.1:{listen(dripping(begin, every))}/"
    response, began = pool.request("GET", url, read_timeout=PATIENCE), time.monotonic()
    with pytest.raises(HTTPError):
        while response.read1(100):
            pass
    assert time.monotonic() - began < 10 * PATIENCE
    response.release_conn()


@pytest.mark.parametrize("line", [b"A: b\r\n", b"A" * 1000, b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_a_head_without_end_that_comes_fast(pool: HttpPool, listen: Callable[..., int], line: bytes) -> None:
    def talk(client: socket.socket, stop: threading.Event) -> None:
        client.recv(4096)
        client.sendall(b"" if line.startswith(b"HTTP") else b"HTTP/1.1 200 OK\r\n")
        while True:
            client.sendall(line * 20)

    with pytest.raises((ProtocolError, ReadTimeoutError)):
        pool.request("GET", f"http://127.0.0.1:{listen(talk)}/", read_timeout=PATIENCE)


def test_a_body_that_comes_slowly_but_comes_is_read(pool: HttpPool, listen: Callable[..., int]) -> None:
    def talk(client: socket.socket, stop: threading.Event) -> None:
        client.recv(4096)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n")
        for _ in range(20):
            stop.wait(PATIENCE / 10)
            client.sendall(b"x")

    response = pool.request("GET", f"http://127.0.0.1:{listen(talk)}/", read_timeout=PATIENCE)
    assert b"".join(iter(lambda: response.read1(100), b"")) == b"x" * 20
    response.release_conn()


def test_a_connection_used_again_has_its_whole_time_again(pool: HttpPool, listen: Callable[..., int]) -> None:
    def talk(client: socket.socket, stop: threading.Event) -> None:
        for _ in range(3):
            client.recv(4096)
            client.sendall(b"HTTP/1.1 200")
            stop.wait(PATIENCE * 0.6)
            client.sendall(b" OK\r\nContent-Length: 5\r\n\r\nhello")

    url = f"http://127.0.0.1:{listen(talk)}/"
    assert [pool.request("GET", url, read_timeout=PATIENCE).data for _ in range(3)] == [b"hello"] * 3
    assert pool.stats()["connections"] == 1


def test_without_a_timeout_there_is_no_bound(listen: Callable[..., int]) -> None:
    from worker.patience import PatientResponse

    with socket.create_connection(("127.0.0.1", listen(dripping(b"HTTP/1.1 200 OK\r\n", b"\r\n")))) as sock:
        sock.settimeout(None)
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        response = PatientResponse(sock, method="GET")
        response.begin()
        assert (response.status, response.read1(2)) == (200, b"\r\n")
        response.close()


GEVENT = """
import gevent.monkey; gevent.monkey.patch_all()
import sys, time, gevent
from worker.http import HttpPool
ticks = []
def tick():
    while True:
        ticks.append(1); gevent.sleep(0.02)
gevent.spawn(tick)
import ssl
pool = HttpPool(allow_private=True, context=ssl.create_default_context(cafile=sys.argv[2]))
began = time.monotonic()
try:
    pool.request("GET", sys.argv[1], connect_timeout=0.4, read_timeout=0.4)
except Exception as error:
    print(type(error).__name__, time.monotonic() - began < 4, len(ticks) > 5)
"""


@pytest.mark.parametrize("shaken", [False, True])
def test_under_gevent_tls_is_bounded_as_a_whole_too(
    listen: Callable[..., int], certificate: Path, shaken: bool
) -> None:
    """A record of TLS, and its handshake, are of many packets; gevent waits for each of them anew."""

    def talk(client: socket.socket, stop: threading.Event) -> None:
        if shaken:  # what it then sends is the beginning of a long record
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(incoming, outgoing, server_side=True)
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    client.sendall(outgoing.read())
                    incoming.write(client.recv(65536))
            tls.write(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 10_000)
            told = outgoing.read()
        else:
            told = b"\x16\x03\x03\x3f\xff" + bytes(16_000)
        for at in range(len(told)):
            client.sendall(told[at : at + 1])
            if stop.wait(PATIENCE / 20):
                return

    url = f"https://127.0.0.1:{listen(talk)}/"
    command = [sys.executable, "-c", GEVENT, url, str(certificate)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.stdout == "ReadTimeoutError True True\n", done.stderr
