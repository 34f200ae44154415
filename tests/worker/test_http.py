import ipaddress
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

from worker.http import ForbiddenAddress, HttpLimits, HttpPool, is_metadata, is_public


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


PRIVATE = """
127.0.0.1 127.8.8.8 10.0.0.1 172.16.0.1 192.168.1.1 100.64.0.1 0.0.0.0 0.1.2.3 224.0.0.1 239.1.1.1 240.0.0.1
255.255.255.255 192.0.2.1 198.18.0.1 198.51.100.1 203.0.113.1 192.88.99.1 ::1 :: fc00::1 fd12::1 ff02::1
fec0::1 2001:db8::1 2001::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 2002:7f00:1:: 2002:a00:1::1 64:ff9b::7f00:1
64:ff9b::a00:1 64:ff9b:1::a00:1 ::7f00:1 100::1 4000::1
""".split()
METADATA = """
169.254.169.254 169.254.170.2 fe80::1 100.100.100.200 168.63.129.16 192.0.0.192 fd00:ec2::254 fd20:ce::254
::ffff:169.254.169.254 64:ff9b::a9fe:a9fe 2002:a9fe:a9fe::1
""".split()
PUBLIC = "8.8.8.8 1.1.1.1 93.184.216.34 2606:4700:4700::1111 ::ffff:8.8.8.8 64:ff9b::808:808 2002:808:808::1".split()


@pytest.mark.parametrize("text", PRIVATE)
def test_an_address_off_the_open_internet_is_not_public(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text)) and not is_metadata(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", METADATA)
def test_a_metadata_address_is_known_in_every_disguise(text: str) -> None:
    assert is_metadata(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", PUBLIC)
def test_an_address_on_the_open_internet_is_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text)) and not is_metadata(ipaddress.ip_address(text))


def resolving(*addresses: str) -> Callable[..., list[Any]]:
    def resolve(host: str, port: int, **options: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    return resolve


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "http://2130706433:1/", "http://0x7f.1:1/", "http://[::1]:1/", "https://127.1:1/"]
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


def test_the_defaults_are_what_the_docs_say() -> None:
    limits = HttpLimits()
    assert (limits.connect_timeout, limits.read_timeout, limits.block) == (5.0, 10.0, False)


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
