import logging
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from urllib3.exceptions import EmptyPoolError, NameResolutionError, NewConnectionError

from tests.worker.test_addresses import METADATA
from worker.http import ForbiddenAddress, HttpLimits, HttpPool


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"hello"
        self.send_response(302 if "away" in self.path else 200)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture
def pool() -> Iterator[HttpPool]:
    pool = HttpPool(allow_private=True)
    yield pool
    pool.close()


def resolving(*addresses: str) -> Callable[..., list[Any]]:
    def resolve(host: str, port: int, **options: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    return resolve


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/",
        "http://2130706433:1/",
        "http://0x7f.1:1/",
        "http://0177.0.0.1:1/",
        "http://017700000001:1/",
        "http://0:1/",
        "http://[::1]:1/",
        "http://[::ffff:7f00:1]:1/",
        "https://127.1:1/",
        "http://localhost:1/",
    ],
)
def test_no_spelling_of_a_private_address_gets_through(url: str) -> None:
    with pytest.raises(ForbiddenAddress) as caught:
        HttpPool().request("GET", url)
    assert caught.value.allowable


@pytest.mark.parametrize("allow", [True, False])
@pytest.mark.parametrize("address", METADATA)
def test_a_metadata_service_stays_closed_whatever_is_allowed(address: str, allow: bool) -> None:
    pool = HttpPool(allow_private=allow, resolve=resolving(address))
    with pytest.raises(ForbiddenAddress) as caught:
        pool.request("GET", "http://innocent.example/")
    assert not caught.value.allowable
    assert str(caught.value) == "innocent.example is at an address that is not allowed"
    assert pool.stats()["refused"] == 1


def test_a_name_that_leads_to_a_private_address_is_refused(port: int) -> None:
    with pytest.raises(ForbiddenAddress):
        HttpPool(resolve=resolving("127.0.0.1")).request("GET", f"http://innocent.example:{port}/")


def test_the_address_that_was_checked_is_the_one_used_however_names_change(port: int) -> None:
    asked: list[str] = []

    def rebinding(host: str, port: int, **options: object) -> list[Any]:
        asked.append(host)
        return resolving("127.0.0.1" if len(asked) == 1 else "169.254.169.254")(host, port)

    pool = HttpPool(allow_private=True, resolve=rebinding)
    assert pool.request("GET", f"http://innocent.example:{port}/").data == b"hello"
    assert asked == ["innocent.example"]
    pool.close()
    with pytest.raises(ForbiddenAddress):
        pool.request("GET", f"http://innocent.example:{port}/")


def test_an_allowed_address_is_used_when_its_neighbour_is_not(port: int) -> None:
    pool = HttpPool(allow_private=True, resolve=resolving("169.254.169.254", "127.0.0.1"))
    assert pool.request("GET", f"http://mixed.example:{port}/").data == b"hello"
    pool.close()


@pytest.mark.allow_hosts(["127.0.0.1", "127.0.0.9"])
def test_the_next_address_is_tried_when_one_refuses(port: int) -> None:
    pool = HttpPool(allow_private=True, resolve=resolving("127.0.0.9", "127.0.0.1"))
    assert pool.request("GET", f"http://two.example:{port}/").data == b"hello"
    pool.close()


def test_a_host_nobody_answers_at(pool: HttpPool) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(NewConnectionError):
            pool.request("GET", f"http://127.0.0.1:{taken.getsockname()[1]}/")


@pytest.mark.parametrize("error", [socket.gaierror("unknown"), UnicodeError("label too long")])
def test_a_name_that_cannot_be_resolved(error: Exception) -> None:
    def resolve(*args: object, **options: object) -> list[Any]:
        raise error

    with pytest.raises(NameResolutionError):
        HttpPool(resolve=resolve).request("GET", "http://nowhere.example/")


def test_a_connection_is_used_again(pool: HttpPool, port: int) -> None:
    assert pool.request("POST", f"http://127.0.0.1:{port}/", body=b"abc", headers={"X": "y"}).data == b"abc"
    assert pool.request("GET", f"http://127.0.0.1:{port}/").data == b"hello"
    assert pool.stats() == {"requests": 2, "connections": 1, "refused": 0, "hosts": 1}
    assert repr(pool) == "<HttpPool 1 hosts, 1 connections made, 2 requests>"


def test_a_redirect_is_an_answer_like_any_other(pool: HttpPool, port: int) -> None:
    response = pool.request("GET", f"http://127.0.0.1:{port}/away")
    assert (response.status, response.headers["Location"], response.data) == (302, "/elsewhere", b"hello")


def test_a_closed_pool_starts_afresh(pool: HttpPool, port: int) -> None:
    pool.request("GET", f"http://127.0.0.1:{port}/").drain_conn()
    pool.close()
    pool.close()
    assert pool.stats()["hosts"] == 0
    assert pool.request("GET", f"http://127.0.0.1:{port}/").data == b"hello"
    assert pool.stats()["connections"] == 2


def test_nothing_is_made_before_the_first_request() -> None:
    assert HttpPool().stats() == {"requests": 0, "connections": 0, "refused": 0, "hosts": 0}


def test_a_pool_that_blocks_waits_no_longer_than_for_a_connection(port: int) -> None:
    pool = HttpPool(HttpLimits(maxsize=1, block=True, connect_timeout=0.2), allow_private=True)
    held = pool.request("GET", f"http://127.0.0.1:{port}/")
    with pytest.raises(EmptyPoolError):
        pool.request("GET", f"http://127.0.0.1:{port}/")
    held.drain_conn()
    pool.close()


@pytest.mark.parametrize("total", [1, 2])
def test_all_hosts_together_have_no_more_connections_than_allowed(port: int, total: int) -> None:
    pool = HttpPool(HttpLimits(total=total, connect_timeout=0.2), allow_private=True)
    urls = [f"http://{host}:{port}/" for host in ("127.0.0.1", "localhost", "127.1")]
    held = [pool.request("GET", url) for url in urls[:total]]
    with pytest.raises(EmptyPoolError):
        pool.request("GET", urls[total])
    held[0].drain_conn()
    assert pool.request("GET", urls[total]).data == b"hello"
    for one in held[1:]:
        one.close()
        one.release_conn()
    assert [pool.request("GET", url).data for url in urls * 2] == [b"hello"] * 6
    pool.close()


def test_a_request_that_fails_gives_its_turn_back(port: int) -> None:
    pool = HttpPool(HttpLimits(total=1, connect_timeout=0.2), allow_private=True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        for _ in range(3):
            with pytest.raises(NewConnectionError):
                pool.request("GET", f"http://127.0.0.1:{taken.getsockname()[1]}/")
    assert pool.request("GET", f"http://127.0.0.1:{port}/").data == b"hello"
    pool.close()


def test_a_full_host_gives_its_turn_back(port: int) -> None:
    pool = HttpPool(HttpLimits(maxsize=1, block=True, total=2, connect_timeout=0.1), allow_private=True)
    held = pool.request("GET", f"http://127.0.0.1:{port}/")
    for _ in range(3):
        with pytest.raises(EmptyPoolError):
            pool.request("GET", f"http://127.0.0.1:{port}/")
    assert pool.request("GET", f"http://localhost:{port}/").data == b"hello"
    held.drain_conn()
    pool.close()


@pytest.mark.parametrize(("idle", "made"), [(60.0, 1), (0.0, 2)])
def test_a_connection_that_was_idle_for_too_long_is_not_used_again(port: int, idle: float, made: int) -> None:
    pool = HttpPool(HttpLimits(idle=idle), allow_private=True)
    for _ in range(2):
        assert pool.request("GET", f"http://127.0.0.1:{port}/").data == b"hello"
    assert pool.stats()["connections"] == made
    pool.close()


def test_the_defaults_are_what_the_docs_say() -> None:
    limits = HttpLimits()
    assert (limits.connect_timeout, limits.read_timeout, limits.block) == (5.0, 10.0, False)
    assert (limits.total, limits.idle) == (None, 60.0)


def test_no_query_reaches_the_log(pool: HttpPool, port: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        pool.request("GET", f"http://127.0.0.1:{port}/a?Signature=hush").drain_conn()
    assert "hush" not in caplog.text


def test_a_forbidden_address_crosses_processes() -> None:
    error = pickle.loads(pickle.dumps(ForbiddenAddress("host", True)))
    assert (error.host, error.allowable) == ("host", True)


def test_the_proxy_of_the_environment_is_not_used(port: int) -> None:
    code = f"from worker.http import HttpPool; print(HttpPool(allow_private=True).request('GET', 'http://127.0.0.1:{port}/').data)"
    env = {"HTTP_PROXY": "http://127.0.0.1:1", "http_proxy": "http://127.0.0.1:1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout == "b'hello'\n"
