import hashlib
import io
import re
import socket
import ssl
import struct
import zlib
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler as Request
from pathlib import Path
from typing import Any

import pytest

from tasks.audio import open_audio
from tasks.audio.limits import AudioLimits
from tasks.audio.reference import AudioReference
from tasks.audio.sources import open_source
from tasks.errors import BadInput, JobError, Unavailable
from worker.http import HttpLimits, HttpPool

BODY = bytes(range(256)) * 4096  # 1 MiB
SECRET = "?Signature=hush"


def headers(request: Request, status: int, **fields: object) -> None:
    request.send_response(status)
    for name, value in fields.items():
        request.send_header(name.replace("_", "-"), str(value))
    request.end_headers()


def span(request: Request, body: bytes) -> int:
    found = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", "bytes=0-"))
    assert found
    return int(found[1])


def ranged(body: bytes = BODY, **fields: object) -> Callable[[Request], None]:
    """A good server: answers ranges with 206."""

    def answer(request: Request) -> None:
        begin = span(request, body)
        if begin >= len(body):
            return headers(request, 416, Content_Length=0)
        part = f"bytes {begin}-{len(body) - 1}/{len(body)}"
        headers(request, 206, Content_Length=len(body) - begin, Content_Range=part, **fields)
        request.wfile.write(body[begin:])

    return answer


def plain(body: bytes = BODY, status: int = 200, **fields: object) -> Callable[[Request], None]:
    """A simple server: knows no ranges."""

    def answer(request: Request) -> None:
        headers(request, status, Content_Length=len(body), **fields)
        request.wfile.write(body)

    return answer


def hanging_up(body: bytes, **fields: object) -> Callable[[Request], None]:
    """Says no length: its body ends where it hangs up."""

    def answer(request: Request) -> None:
        headers(request, 200, Connection="close", **fields)
        request.wfile.write(body)
        request.close_connection = True

    return answer


def cutting(every: int, body: bytes = BODY) -> Callable[[Request], None]:
    """Gives ranges, and resets the connection after `every` bytes."""

    def answer(request: Request) -> None:
        begin = span(request, body)
        part = f"bytes {begin}-{len(body) - 1}/{len(body)}"
        headers(request, 206, Content_Length=len(body) - begin, Content_Range=part, ETag='"1"')
        request.wfile.write(body[begin : begin + every])
        reset(request)

    return answer


def reset(request: Request) -> None:
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.close_connection = True


def source(url: str, http: HttpPool, limits: AudioLimits | None = None) -> Any:
    return open_source(AudioReference.parse(url), roots=(), http=http, limits=limits)


def drained(file: Any) -> bytes:
    return b"".join(iter(lambda: file.read(32 * 1024), b""))


def failure(url: str, http: HttpPool, limits: AudioLimits | None = None) -> JobError:
    with pytest.raises(JobError) as caught, source(url + SECRET, http, limits) as file:
        drained(file)
    error = caught.value
    assert (
        "hush" not in str(error)
        and error.__cause__ is None
        and error.__suppress_context__ | (error.__context__ is None)
    )
    return error


def test_a_body_is_read_as_it_comes(serve: Any, http: HttpPool) -> None:
    server = serve(ranged())
    with source(f"{server.url}/a b.mp3?x=1", http) as file:
        assert (file.size, file.seekable(), file.shown) == (len(BODY), True, f"{server.url}/a b.mp3")
        assert drained(file) == BODY
        assert file.read(10) == b""
    path, sent = server.requests[0]
    assert (path, sent["Accept-Encoding"], len(server.requests)) == ("/a%20b.mp3?x=1", "identity", 1)


def test_a_body_read_to_its_end_gives_the_connection_back(serve: Any, http: HttpPool) -> None:
    server = serve(ranged())
    for _ in range(3):
        with source(f"{server.url}/a", http) as file:
            drained(file)
    assert (http.stats()["requests"], http.stats()["connections"]) == (3, 1)


def test_seeking_asks_for_a_range_and_a_short_way_ahead_does_not(serve: Any, http: HttpPool) -> None:
    server = serve(ranged(ETag='"7"'))
    with source(f"{server.url}/a", http) as file:
        assert file.read(4) == BODY[:4]
        file.seek(1000)
        assert file.read(4) == BODY[1000:1004]
        assert len(server.requests) == 1
        file.seek(-10, io.SEEK_END)
        assert drained(file) == BODY[-10:]
        file.seek(2)
        file.seek(3, io.SEEK_CUR)
        assert (file.tell(), file.read(3)) == (5, BODY[5:8])
    assert [sent["Range"] for _, sent in server.requests] == ["bytes=0-", f"bytes={len(BODY) - 10}-", "bytes=5-"]
    assert server.requests[1][1]["If-Range"] == '"7"'


@pytest.mark.parametrize(("fields", "expected"), [({"ETag": 'W/"7"', "Last_Modified": "then"}, "then"), ({}, None)])
def test_a_weak_tag_does_not_vouch_for_the_bytes(serve: Any, http: HttpPool, fields: Any, expected: Any) -> None:
    server = serve(ranged(**fields))
    with source(f"{server.url}/a", http) as file:
        file.seek(-1, io.SEEK_END)
        file.read(1)
    assert server.requests[1][1].get("If-Range") == expected


def test_without_ranges_there_is_no_seeking(serve: Any, http: HttpPool) -> None:
    with source(f"{serve(plain()).url}/a", http) as file:
        assert (file.seekable(), file.size) == (False, len(BODY))
        with pytest.raises(io.UnsupportedOperation):
            file.seek(5)
        assert drained(file) == BODY


def test_a_server_may_promise_ranges_without_giving_one_at_once(serve: Any, http: HttpPool) -> None:
    with source(f"{serve(plain(Accept_Ranges='bytes')).url}/a", http) as file:
        assert file.seekable()


@pytest.mark.parametrize("place", [(-1, 0), (0, 7)])
def test_there_are_places_that_nobody_can_seek(serve: Any, http: HttpPool, place: tuple[int, int]) -> None:
    with source(f"{serve(ranged()).url}/a", http) as file, pytest.raises(io.UnsupportedOperation):
        file.seek(*place)


def test_a_body_of_unknown_length_is_read_to_its_end(serve: Any, http: HttpPool) -> None:
    def answer(request: Request) -> None:
        headers(request, 200, Transfer_Encoding="chunked")
        request.wfile.write(b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (b"ab", b"cde", b"")))

    with source(f"{serve(answer).url}/a", http) as file:
        assert (file.size, file.seekable(), drained(file)) == (None, False, b"abcde")


def test_a_packed_body_is_unpacked_although_we_asked_for_a_plain_one(serve: Any, http: HttpPool) -> None:
    packed = zlib.compress(BODY, wbits=31)
    with source(f"{serve(plain(packed, Content_Encoding='gzip')).url}/a", http) as file:
        assert (drained(file), file.size, file.seekable()) == (BODY, None, False)


def test_a_body_that_cannot_be_unpacked_is_damaged(serve: Any, http: HttpPool) -> None:
    assert failure(f"{serve(plain(b'not gzip', Content_Encoding='gzip')).url}/a", http).code == "damaged_audio"


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (404, BadInput, "audio_not_found"),
        (410, BadInput, "audio_not_found"),
        (401, BadInput, "audio_forbidden"),
        (403, BadInput, "audio_forbidden"),
        (400, BadInput, "audio_refused"),
        (304, BadInput, "audio_refused"),
        (416, BadInput, "empty_audio"),
        (429, Unavailable, "audio_server_error"),
        (500, Unavailable, "audio_server_error"),
        (503, Unavailable, "audio_server_error"),
    ],
)
def test_a_status_says_whether_to_try_again(serve: Any, http: HttpPool, status: int, kind: type, code: str) -> None:
    error = failure(f"{serve(plain(b'', status)).url}/a", http)
    assert (type(error), error.code) == (kind, code)


def test_an_empty_body_is_refused(serve: Any, http: HttpPool) -> None:
    assert failure(f"{serve(plain(b'')).url}/a", http).code == "empty_audio"


def test_an_empty_body_of_unknown_length_is_refused_too(serve: Any, http: HttpPool) -> None:
    def answer(request: Request) -> None:
        headers(request, 200, Connection="close")
        request.close_connection = True

    assert failure(f"{serve(answer).url}/a", http).code == "empty_audio"


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_may_be_as_large_as_allowed(serve: Any, http: HttpPool, declared: bool) -> None:
    def answer(request: Request) -> None:
        headers(request, 200, **({"Content_Length": 100_001} if declared else {"Connection": "close"}))
        request.wfile.write(bytes(100_001))
        request.close_connection = True

    url = f"{serve(answer).url}/a"
    assert failure(url, http, AudioLimits(max_bytes=100_000)).code == "audio_too_large"
    with source(url, http, AudioLimits(max_bytes=100_001)) as file:
        assert len(drained(file)) == 100_001


# -- redirects -----------------------------------------------------------------------------------------------------


def hops(count: int, to: str = "/a") -> Callable[[Request], None]:
    def answer(request: Request) -> None:
        number = int(request.path.partition("?")[0].rsplit("/", 1)[1])
        if number < count:
            return headers(request, 302, Location=f"/{number + 1}?Signature=hush", Content_Length=0)
        plain()(request)

    return answer


def test_five_redirects_are_followed(serve: Any, http: HttpPool) -> None:
    with source(f"{serve(hops(5)).url}/0", http) as file:
        assert (drained(file) == BODY, file.shown.endswith("/0")) == (True, True)


def test_a_sixth_is_not(serve: Any, http: HttpPool) -> None:
    assert failure(f"{serve(hops(6)).url}/0", http).code == "too_many_redirects"


@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("file:///etc/passwd", "forbidden_redirect"),
        ("data:audio/wav,hush", "forbidden_redirect"),
        ("http://[hush/", "forbidden_redirect"),
        ("http://169.254.169.254/latest/meta-data/?hush", "forbidden_address"),
        ("http://[::ffff:169.254.169.254]/", "forbidden_address"),
        ("http://2852039166/", "forbidden_address"),
    ],
)
def test_a_redirect_leads_to_no_forbidden_place(serve: Any, http: HttpPool, location: str, code: str) -> None:
    error = failure(f"{serve(plain(b'', 302, Location=location)).url}/a", http)
    assert error.code == code and "STENOPOOL_AUDIO_ALLOW_PRIVATE" not in error.sentence


class Worlds(HttpPool):
    """A network in which a server of ours is on the open internet, and the guard stands before all else."""

    def __init__(self, open_url: str, resolve: Any = None) -> None:
        super().__init__(resolve=resolve)
        self._open_url, self._free = open_url, HttpPool(allow_private=True)

    def request(self, method: str, url: str, **how: Any) -> Any:
        return (
            self._free.request(method, url, **how)
            if url.startswith(self._open_url)
            else super().request(method, url, **how)
        )

    def close(self) -> None:
        super().close()
        self._free.close()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0177.0.0.1", "0x7f.1", "127.1", "[::ffff:127.0.0.1]"]
)
def test_a_redirect_from_the_open_internet_leads_to_no_private_place(serve: Any, host: str) -> None:
    inside = serve(plain())
    outside = serve(plain(b"", 302, Location=f"http://{host}:{inside.port}/admin?hush"))
    http = Worlds(outside.url)
    error = failure(f"{outside.url}/a", http)
    assert error.code == "forbidden_address" and "STENOPOOL_AUDIO_ALLOW_PRIVATE=true" in error.sentence
    assert (len(outside.requests), inside.requests) == (1, [])
    http.close()


def test_a_name_that_changes_its_mind_is_looked_at_each_time(serve: Any) -> None:
    """DNS rebinding: open at the first look, private at the second, which is the one that counts."""
    inside = serve(plain())
    answers = ["192.0.2.7", "127.0.0.1"]

    def rebinding(host: str, port: int, **options: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers.pop(), port))]

    assert failure(f"http://innocent.example:{inside.port}/a", HttpPool(resolve=rebinding)).code == "forbidden_address"
    assert (answers, inside.requests) == (["192.0.2.7"], [])


def test_credentials_stay_with_the_host_they_were_meant_for(serve: Any, http: HttpPool) -> None:
    other = serve(plain())
    server = serve(
        lambda request: headers(request, 302, Location={"/a": "/b"}.get(request.path, other.url), Content_Length=0)
    )
    with source(server.url.replace("//", "//me:word@") + "/a", http) as file:
        drained(file)
    assert [sent.get("Authorization") for _, sent in server.requests] == ["Basic bWU6d29yZA=="] * 2
    assert "Authorization" not in other.requests[0][1]


# -- trouble -------------------------------------------------------------------------------------------------------


def test_a_private_address_is_refused_and_the_setting_is_named(serve: Any) -> None:
    server = serve(plain())
    error = failure(f"{server.url}/a", HttpPool())
    assert error.code == "forbidden_address"
    assert "host 127.0.0.1" in error.sentence and "STENOPOOL_AUDIO_ALLOW_PRIVATE=true" in error.sentence
    assert server.requests == []


def test_a_server_that_says_nothing_ends_in_time(serve: Any, http: HttpPool, quick: AudioLimits) -> None:
    server: Any = serve(lambda request: server.stop.wait(20))
    assert failure(f"{server.url}/a", http, quick).code == "audio_timeout"


def test_a_server_that_only_sends_headers_ends_in_time(serve: Any, http: HttpPool, quick: AudioLimits) -> None:
    def answer(request: Request) -> None:
        headers(request, 206, Content_Length=100, Content_Range="bytes 0-99/100")
        server.stop.wait(20)

    server = serve(answer)
    assert failure(f"{server.url}/a", http, quick).code == "audio_timeout"


def test_a_server_that_drips_ends_in_time(serve: Any, http: HttpPool, quick: AudioLimits) -> None:
    def answer(request: Request) -> None:
        headers(request, 200, Content_Length=100_000)
        while not server.stop.wait(0.1):
            request.wfile.write(b"x")

    server = serve(answer)
    assert failure(f"{server.url}/a", http, quick).code == "audio_timeout"


def test_a_server_that_begins_fast_and_then_drips_ends_in_time(serve: Any, http: HttpPool, quick: AudioLimits) -> None:
    def answer(request: Request) -> None:
        headers(request, 200, Content_Length=1_000_000)
        request.wfile.write(bytes(500_000))
        for _ in range(60):
            if server.stop.wait(0.1):
                return
            request.wfile.write(b"x")
        reset(request)

    server = serve(answer)
    assert failure(f"{server.url}/a", http, quick).code == "audio_timeout"


def test_a_server_that_falls_silent_midway_is_asked_again(serve: Any, http: HttpPool, quick: AudioLimits) -> None:
    def answer(request: Request) -> None:
        begin = span(request, BODY)
        part = f"bytes {begin}-{len(BODY) - 1}/{len(BODY)}"
        headers(request, 206, Content_Length=len(BODY) - begin, Content_Range=part)
        request.wfile.write(BODY[begin : begin + 500_000])
        if begin + 500_000 < len(BODY):
            server.stop.wait(20)

    server = serve(answer)
    with source(f"{server.url}/a", http, quick) as file:
        assert drained(file) == BODY
    assert len(server.requests) == 3


def test_a_cut_is_continued_where_it_was(serve: Any, http: HttpPool) -> None:
    server = serve(cutting(100_000))
    with source(f"{server.url}/a", http) as file:
        assert drained(file) == BODY
    assert server.requests[1][1]["If-Range"] == '"1"'


def test_cuts_that_bring_next_to_nothing_come_to_an_end(serve: Any, http: HttpPool) -> None:
    server = serve(cutting(10))
    assert failure(f"{server.url}/a", http).code == "audio_interrupted"
    assert len(server.requests) == 6


def test_a_cut_without_ranges_is_worth_another_try(serve: Any, http: HttpPool) -> None:
    def answer(request: Request) -> None:
        headers(request, 200, Content_Length=100_000)
        request.wfile.write(bytes(50_000))
        reset(request)

    error = failure(f"{serve(answer).url}/a", http)
    assert (type(error), error.code) == (Unavailable, "audio_interrupted")


@pytest.mark.parametrize("then", [plain(), plain(b"", 500), plain(b"", 206, Content_Range="bytes 3-9/10")])
def test_what_is_no_longer_the_same_recording_is_not_mixed_in(serve: Any, http: HttpPool, then: Any) -> None:
    def answer(request: Request) -> None:
        (cutting(100_000) if len(server.requests) == 1 else then)(request)

    server = serve(answer)
    assert failure(f"{server.url}/a", http).code == "audio_interrupted"


def test_a_server_that_is_gone_when_asked_again(serve: Any, http: HttpPool) -> None:
    def answer(request: Request) -> None:
        if len(server.requests) == 1:
            return cutting(100_000)(request)
        reset(request)

    server = serve(answer)
    assert failure(f"{server.url}/a", http).code == "audio_interrupted"


def test_a_server_that_hangs_up_without_an_answer_is_worth_another_try(serve: Any, http: HttpPool) -> None:
    error = failure(f"{serve(reset).url}/a", http)
    assert (type(error), error.code) == (Unavailable, "audio_interrupted")


def test_a_port_where_nobody_listens_is_unreachable(http: HttpPool) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert failure(f"http://127.0.0.1:{taken.getsockname()[1]}/a", http).code == "audio_unreachable"


@pytest.mark.parametrize("host", ["nowhere.invalid", "a..b", "x" * 70])
def test_a_host_without_an_address_is_unreachable(host: str) -> None:
    def resolve(*args: object, **options: object) -> list[Any]:
        raise socket.gaierror("no such host")

    assert failure(f"http://{host}/a", HttpPool(resolve=resolve)).code == "audio_unreachable"


def test_a_host_that_takes_no_connection_ends_in_time(quick: AudioLimits) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        try:
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(full.getsockname())
            limits = AudioLimits(connect_timeout=0.3, read_timeout=0.3)
            assert (
                failure(f"http://127.0.0.1:{full.getsockname()[1]}/a", HttpPool(allow_private=True), limits).code
                == "audio_timeout"
            )
        finally:
            for one in waiting:
                one.close()


def test_an_authority_that_nobody_knows_is_a_matter_of_tls(serve: Any, http: HttpPool, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    error = failure(f"{serve(plain(), context).url}/a", http)
    assert (type(error), error.code, "SSL_CERT_FILE" in error.sentence) == (BadInput, "audio_tls", True)


def test_https_is_read_and_never_leads_down_to_http(serve: Any, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    open_air = serve(plain())
    server = serve(
        lambda r: headers(r, 302, Location=open_air.url, Content_Length=0) if "down" in r.path else plain()(r), context
    )
    pool = HttpPool(allow_private=True, context=ssl.create_default_context(cafile=str(certificate)))
    with source(f"{server.url}/a", pool) as file:
        assert drained(file) == BODY
    assert failure(f"{server.url}/down", pool).code == "forbidden_redirect"
    assert open_air.requests == []
    pool.close()


def in_parts(every: int, at_the_end: Callable[[Request], None], body: bytes = BODY) -> Callable[[Request], None]:
    """Gives parts of at most `every` bytes and never says how many there are."""

    def answer(request: Request) -> None:
        begin = span(request, body)
        part = body[begin : begin + every]
        if not part:
            return at_the_end(request)
        field = f"bytes {begin}-{begin + len(part) - 1}/*"
        headers(request, 206, Content_Length=len(part), Content_Range=field, ETag='"1"')
        request.wfile.write(part)

    return answer


def beyond(request: Request) -> None:
    headers(request, 416, Content_Length=7, Content_Range=f"bytes */{len(BODY)}")
    request.wfile.write(b"no more")


def nothing(request: Request) -> None:
    headers(request, 206, Content_Length=0, Content_Range=f"bytes {len(BODY)}-{len(BODY)}/*")


def nothing_without_a_length(request: Request) -> None:
    headers(request, 206, Content_Range=f"bytes {len(BODY)}-{len(BODY)}/*", Connection="close")
    request.close_connection = True


@pytest.mark.parametrize("every", [300_000, len(BODY) // 4, len(BODY)])
@pytest.mark.parametrize("at_the_end", [beyond, nothing, nothing_without_a_length])
def test_a_size_that_nobody_knows_is_found_part_by_part(
    serve: Any, http: HttpPool, every: int, at_the_end: Callable[[Request], None]
) -> None:
    server = serve(in_parts(every, at_the_end))
    with source(f"{server.url}/a", http) as file:
        assert (file.size, file.seekable(), drained(file)) == (None, False, BODY)
        assert (file.read(10), file.seekable()) == (b"", False)
    assert len(server.requests) == -(-len(BODY) // every) + 1
    assert server.requests[1][1]["If-Range"] == '"1"'


def test_a_part_that_is_cut_goes_on_where_it_was(serve: Any, http: HttpPool) -> None:
    def answer(request: Request) -> None:
        begin = span(request, BODY)
        if begin >= len(BODY):
            return beyond(request)
        headers(request, 206, Content_Length=len(BODY) - begin, Content_Range=f"bytes {begin}-{len(BODY) - 1}/*")
        request.wfile.write(BODY[begin : begin + 400_000])
        request.close_connection = begin + 400_000 < len(BODY)

    with source(f"{serve(answer).url}/a", http) as file:
        assert drained(file) == BODY


def test_a_size_that_is_learned_on_the_way_is_believed(serve: Any, http: HttpPool) -> None:
    def answer(request: Request) -> None:
        (in_parts(300_000, beyond) if len(server.requests) == 1 else ranged())(request)

    server = serve(answer)
    with source(f"{server.url}/a", http) as file:
        assert drained(file) == BODY
    assert len(server.requests) == 2


def test_parts_that_bring_next_to_nothing_come_to_an_end(serve: Any, http: HttpPool) -> None:
    server = serve(in_parts(10, beyond))
    assert failure(f"{server.url}/a", http).code == "audio_interrupted"
    assert len(server.requests) == 6


def test_parts_without_end_come_to_the_limit(serve: Any, http: HttpPool) -> None:
    server = serve(in_parts(50_000, beyond))
    assert failure(f"{server.url}/a", http, AudioLimits(max_bytes=220_000)).code == "audio_too_large"
    assert len(server.requests) == 5


@pytest.mark.parametrize("then", [plain(), plain(b"", 500), plain(b"abc", 206, Content_Range="bytes 0-2/*")])
def test_a_part_that_is_none_is_not_taken_for_the_end(serve: Any, http: HttpPool, then: Any) -> None:
    def answer(request: Request) -> None:
        (in_parts(100_000, beyond) if len(server.requests) == 1 else then)(request)

    server = serve(answer)
    assert failure(f"{server.url}/a", http).code == "audio_interrupted"


def test_a_pool_that_blocks_and_is_full_is_worth_another_try(serve: Any) -> None:
    server = serve(plain())
    pool = HttpPool(HttpLimits(maxsize=1, block=True), allow_private=True)
    with source(f"{server.url}/a", pool, AudioLimits(connect_timeout=0.2)):
        error = failure(f"{server.url}/a", pool, AudioLimits(connect_timeout=0.2))
    assert (type(error), error.code) == (Unavailable, "audio_pool_full")
    pool.close()


def test_a_declared_size_beyond_the_allowed_one_is_refused_before_reading(serve: Any, http: HttpPool) -> None:
    with pytest.raises(BadInput) as caught, source(f"{serve(ranged()).url}/a", http, AudioLimits(max_bytes=100)):
        raise AssertionError("opened")
    assert caught.value.code == "audio_too_large"


def test_an_authority_may_be_named_in_the_environment(
    serve: Any, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    pool = HttpPool(allow_private=True)
    with source(f"{serve(plain(), context).url}/a", pool) as file:
        assert drained(file) == BODY
    pool.close()


# -- answers that are wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "part", ["bytes 500-999/1000", "bytes 1-9/10", "nonsense", "", f"bytes 0-9/{'9' * 5000}", "bytes 0-9/²"]
)
def test_another_part_than_was_asked_for_is_not_taken_for_the_beginning(serve: Any, http: HttpPool, part: str) -> None:
    error = failure(f"{serve(plain(b'x' * 10, 206, Content_Range=part)).url}/a", http)
    assert (type(error), error.code) == (BadInput, "bad_answer")


def test_a_part_that_goes_less_far_than_the_recording_is_continued(serve: Any, http: HttpPool) -> None:
    def answer(request: Request) -> None:
        begin = span(request, BODY)
        part = BODY[begin : begin + 300_000]
        field = f"bytes {begin}-{begin + len(part) - 1}/{len(BODY)}"
        headers(request, 206, Content_Length=len(part), Content_Range=field)
        request.wfile.write(part)

    with source(f"{serve(answer).url}/a", http) as file:
        assert drained(file) == BODY


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "ten", "²"])
def test_a_length_that_is_none_is_no_length(serve: Any, http: HttpPool, length: str) -> None:
    def answer(request: Request) -> None:
        headers(request, 200, Content_Length=length, Connection="close")
        request.wfile.write(b"abc")
        request.close_connection = True

    with source(f"{serve(answer).url}/a", http) as file:
        assert (file.size, drained(file)) == (None, b"abc")


def test_a_body_longer_than_it_said_ends_where_it_said(serve: Any, http: HttpPool) -> None:
    def answer(request: Request) -> None:
        headers(request, 200, Content_Length=5)
        request.wfile.write(b"abcde" + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil" * 100)

    server = serve(answer)
    for _ in range(3):
        with source(f"{server.url}/a", http) as file:
            assert (file.size, drained(file)) == (5, b"abcde")


def test_a_recording_that_has_grown_is_another_one(serve: Any, http: HttpPool) -> None:
    def answer(request: Request) -> None:
        (cutting(100_000) if len(server.requests) == 1 else ranged(BODY + BODY))(request)

    server = serve(answer)
    assert failure(f"{server.url}/a", http).code == "audio_interrupted"


def raw(answer: bytes) -> Callable[[Request], None]:
    def send(request: Request) -> None:
        request.wfile.write(answer)
        request.close_connection = True

    return send


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x03\x00\x02\x02\x46",
        b"-ERR unknown command\r\n",
        b"HTTP/1.1 two hundred OK\r\n\r\n",
        b"HTTP/9 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000,
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
    ],
)
def test_what_is_no_http_is_said_to_be_none(serve: Any, http: HttpPool, answer: bytes) -> None:
    error = failure(f"{serve(raw(answer)).url}/a", http)
    assert (type(error), error.code) == (BadInput, "bad_answer")


def test_a_head_that_comes_letter_by_letter_ends_in_time(serve: Any, http: HttpPool, quick: AudioLimits) -> None:
    def answer(request: Request) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nA: ")
        while not server.stop.wait(0.05):
            request.wfile.write(b"b")

    server = serve(answer)
    assert failure(f"{server.url}/a", http, quick).code == "audio_timeout"


def test_a_port_that_speaks_no_tls_is_a_matter_of_tls(serve: Any, http: HttpPool) -> None:
    url = serve(plain()).url.replace("http:", "https:")
    assert failure(f"{url}/a", http).code == "audio_tls"


def packed(body: bytes) -> bytes:
    return zlib.compress(body, 9, wbits=31)


@pytest.mark.parametrize("fields", [{}, {"Connection": "close"}])
def test_what_grows_a_thousandfold_takes_no_memory_and_has_an_end(serve: Any, http: HttpPool, fields: Any) -> None:
    bomb = packed(bytes(50_000_000))
    server = serve(plain(bomb, Content_Encoding="gzip", **fields))
    limits = AudioLimits(max_bytes=3_000_000)
    taken = 0
    with pytest.raises(BadInput) as caught, source(f"{server.url}/a", http, limits) as file:
        while data := file.read(10_000):
            assert len(data) <= 10_000
            taken += len(data)
    assert (caught.value.code, taken) == ("audio_too_large", 3_000_000)


def test_what_is_packed_so_that_nothing_comes_out_has_an_end(serve: Any, http: HttpPool) -> None:
    def answer(request: Request) -> None:
        headers(request, 200, Content_Encoding="gzip", Connection="close")
        request.wfile.write(b"\x1f\x8b\x08\x08" + bytes(6))  # a name follows, and never ends
        while True:
            request.wfile.write(b"name" * 10_000)

    assert failure(f"{serve(answer).url}/a", http, AudioLimits(max_bytes=3_000_000)).code == "audio_too_large"


@pytest.mark.parametrize("part", [0.5, 0.999])
def test_a_packed_body_that_is_cut_is_worth_another_try(serve: Any, http: HttpPool, part: float) -> None:
    body = packed(b"".join(hashlib.sha256(bytes([n])).digest() for n in range(256)))
    server = serve(hanging_up(body[: int(len(body) * part)], Content_Encoding="gzip"))
    error = failure(f"{server.url}/a", http)
    assert (type(error), error.code) == (Unavailable, "audio_interrupted")


def test_an_empty_packed_body_of_unknown_length_is_empty(serve: Any, http: HttpPool) -> None:
    for body in (b"", packed(b"")):
        server = serve(hanging_up(body, Content_Encoding="gzip"))
        assert failure(f"{server.url}/a", http).code == "empty_audio"


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "hush"])
def test_a_body_packed_in_a_way_we_do_not_know_is_damaged(serve: Any, http: HttpPool, encoding: str) -> None:
    assert failure(f"{serve(plain(BODY, Content_Encoding=encoding)).url}/a", http).code == "damaged_audio"


# -- together ------------------------------------------------------------------------------------------------------


def test_a_wav_comes_over_the_network_bit_for_bit(make: Any, serve: Any, http: HttpPool) -> None:
    pcm = make.counter(400_000)
    server = serve(ranged(make.wav(pcm=pcm)))
    with open_audio(AudioReference.parse(f"{server.url}/a"), rate=16000, roots=(), http=http) as recording:
        assert b"".join(recording.blocks()) == pcm


@pytest.mark.parametrize("every", [30_000, 100_000])
def test_cuts_on_the_way_are_not_heard(make: Any, serve: Any, http: HttpPool, every: int) -> None:
    pcm = make.counter(100_000)
    server = serve(cutting(every, make.wav(pcm=pcm)))
    with open_audio(AudioReference.parse(f"{server.url}/a"), rate=16000, roots=(), http=http) as recording:
        assert b"".join(recording.blocks(1500)) == pcm[48_000:]


def test_an_mp4_with_its_index_at_the_end_is_read_by_ranges(make: Any, serve: Any, http: HttpPool) -> None:
    server = serve(ranged(make.encoded("a.mp4", "aac", 44100, 120)))
    with open_audio(AudioReference.parse(f"{server.url}/a"), rate=16000, roots=(), http=http) as recording:
        assert sum(map(len, recording.blocks())) / 32000 == pytest.approx(120, abs=0.1)
    assert len(server.requests) < 10


def test_a_cut_upload_is_found_before_anything_is_decoded(make: Any, serve: Any, http: HttpPool) -> None:
    server = serve(plain(make.wav(seconds=20)[:300_000]))
    with (
        pytest.raises(BadInput) as caught,
        open_audio(AudioReference.parse(f"{server.url}/a"), rate=16000, roots=(), http=http),
    ):
        pass
    assert caught.value.code == "truncated_audio"


def test_a_recording_in_parts_is_heard_whole(make: Any, serve: Any, http: HttpPool) -> None:
    server = serve(in_parts(100_000, beyond, make.encoded("a.mp3", "mp3", 44_100, 60)))
    with open_audio(AudioReference.parse(f"{server.url}/a"), rate=16000, roots=(), http=http) as recording:
        assert sum(map(len, recording.blocks())) / 32_000 == pytest.approx(60, abs=0.1)


def test_a_wav_whose_server_says_no_length_and_hangs_up_midway_is_cut(make: Any, serve: Any, http: HttpPool) -> None:
    server = serve(hanging_up(make.wav(seconds=10)[:160_000]))
    with open_audio(AudioReference.parse(f"{server.url}/a"), rate=16000, roots=(), http=http) as recording:
        with pytest.raises(BadInput) as caught:
            list(recording.blocks())
    assert caught.value.code == "truncated_audio"


def test_nothing_of_it_can_be_had_without_a_wait(serve: Any, http: HttpPool) -> None:
    with source(f"{serve(plain()).url}/a", http) as file:
        assert file.ready(100) == b""
        assert file.read(100)
