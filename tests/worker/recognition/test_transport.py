import select
import socket
import ssl
import threading
import time
import traceback
import uuid

import pytest

from tests.worker.recognition.peer import Peer
from tests.worker.recognition.waiting import Waiting
from worker.recognition.endpoint import Endpoint
from worker.recognition.errors import (
    AccessDenied,
    ConnectFailed,
    ConnectionLost,
    InvalidRequest,
    RemoteProtocolError,
    ServerFault,
    Throttled,
    Unauthorized,
)
from worker.recognition.transport import WebSocketTransport, shared_context

TEXT, BINARY, CONT, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
SECRET = uuid.uuid4().hex  # not in the source, so that a traceback's own lines do not hold it
LONG = 10.0  # more than any wait that ends well


def connect(url, context=None, **options):
    return Waiting(WebSocketTransport.connect(Endpoint(**{"url": url, "api_key": SECRET} | options), context))


def until_closed(peer):
    """Hear what the client says until it has gone, with or without a close frame."""
    try:
        while peer.hear()[0] != CLOSE:
            pass
    except (EOFError, ConnectionError):
        pass


@pytest.fixture
def connected(serve):
    """A transport connected to a server that does `play(peer)` after the upgrade."""
    opened = []

    def connected(play, **options):
        def handler(peer):
            peer.upgrade()
            play(peer)
            until_closed(peer)

        opened.append(connect(serve(handler), **options))
        return opened[-1]

    yield connected
    for transport in opened:
        transport.close()


# ------------------------------------------------------------------------------------------------------- handshake


def test_the_upgrade_carries_key_agent_and_workspace_and_nothing_of_a_browser(serve):
    seen = []

    def handler(peer):
        peer.upgrade()
        seen.append(peer.request.decode())
        until_closed(peer)

    transport = connect(serve(handler) + "?a=b", workspace_id="ws-1")
    assert transport.is_open()
    assert repr(transport) == "<WebSocketTransport open>"
    transport.close()
    request, *headers = seen[0].split("\r\n")
    assert request == "GET /api-ws/v1/inference?a=b HTTP/1.1"
    assert f"Authorization: Bearer {SECRET}" in headers
    assert "User-Agent: stenopool/0.1.0" in headers
    assert "X-DashScope-WorkSpace: ws-1" in headers
    assert not any(header.startswith(("Origin", "Sec-WebSocket-Ext", "Sec-WebSocket-Prot")) for header in headers)


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY"])
def test_proxies_of_the_environment_are_not_used(serve, monkeypatch, variable):
    monkeypatch.setenv(variable, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)

    def handler(peer):
        peer.upgrade()
        until_closed(peer)

    transport = connect(serve(handler))
    assert transport.is_open()
    transport.close()


@pytest.mark.parametrize(
    ("answer", "kind", "retry_after"),
    [
        ("401 Unauthorized\r\n", Unauthorized, None),
        ("403 Forbidden\r\n", AccessDenied, None),
        ("400 Bad Request\r\n", ConnectFailed, None),
        ("200 OK\r\n", ConnectFailed, None),
        ("429 Too Many Requests\r\n", Throttled, None),
        ("429 Too Many Requests\r\nRetry-After: 7\r\n", Throttled, 7.0),
        ("429 Too Many Requests\r\nretry-after: 0\r\n", Throttled, 0.0),
        ("429 Too Many Requests\r\nRetry-After: -1\r\n", Throttled, None),
        ("429 Too Many Requests\r\nRetry-After: Fri, 31 Dec 2027 23:59:59 GMT\r\n", Throttled, None),
        ("503 Service Unavailable\r\nRetry-After: 30\r\n", ServerFault, 30.0),
        ("302 Found\r\nLocation: ws://127.0.0.1:1/\r\n", ConnectFailed, None),
        ("101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n", ConnectFailed, None),
        ("teapot\r\n", ConnectFailed, None),
        ("101 \xff\r\n", ConnectFailed, None),
    ],
)
@pytest.mark.parametrize("body", ["", f"it was {SECRET}"], ids=["", "body"])
def test_an_answer_other_than_the_upgrade(serve, answer, kind, retry_after, body):
    def handler(peer):
        peer.hear_request()
        peer.sock.sendall(f"HTTP/1.1 {answer}Content-Length: {len(body)}\r\n\r\n{body}".encode("latin-1"))

    with pytest.raises(kind) as caught:
        connect(serve(handler) + "?token=" + SECRET)
    assert getattr(caught.value, "retry_after", None) == retry_after
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_service_that_hangs_up_instead_of_answering(serve):
    with pytest.raises(ConnectFailed, match="WebSocketConnectionClosedException"):
        connect(serve(lambda peer: peer.hear_request()))


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectFailed, match=f"127.0.0.1:{port}, ConnectionRefusedError"):
        connect(f"ws://127.0.0.1:{port}/")


@pytest.mark.parametrize("host", ["does-not-exist.invalid", "a..b", "a" * 64 + ".invalid"])
def test_no_such_name(host):
    with pytest.raises(ConnectFailed):
        connect(f"ws://{host}:1/")


def elapsed_until_failure(url, context=None):
    began = time.monotonic()
    with pytest.raises(ConnectFailed):
        connect(url, context, connect_timeout=0.3)
    return time.monotonic() - began


def wait_for_hangup(peer):
    try:
        while peer.sock.recv(4096):
            pass
    except ConnectionError:
        pass


def test_a_deaf_service_ends_in_time(serve):
    assert 0.3 <= elapsed_until_failure(serve(wait_for_hangup)) < 3


def test_a_service_deaf_to_tls_ends_in_time(serve):
    url = serve(wait_for_hangup).replace("ws:", "wss:")
    assert 0.3 <= elapsed_until_failure(url) < 3


def test_a_dripping_answer_ends_in_time(serve):
    def drip(peer):
        try:
            while True:
                peer.sock.sendall(b"H")
                time.sleep(0.01)
        except ConnectionError:
            pass

    assert 0.3 <= elapsed_until_failure(serve(drip)) < 3


def test_a_flood_instead_of_an_answer_ends_in_time(serve):
    def flood(peer):
        try:
            while True:
                peer.sock.sendall(b"H" * 65536)
        except ConnectionError:
            pass

    assert 0.3 <= elapsed_until_failure(serve(flood)) < 3


# --------------------------------------------------------------------------------------------------------- receive


def test_frames_glued_to_the_upgrade_are_not_lost(serve):
    def handler(peer):
        peer.upgrade(glued=peer.frame(TEXT, b"one") + peer.frame(TEXT, b"two"))
        until_closed(peer)

    transport = connect(serve(handler))
    assert [transport.receive(LONG), transport.receive(0)] == ["one", "two"]
    transport.close()


def test_every_cut_of_a_frame(connected, golden):
    line = golden("events")[2].encode()
    looked = threading.Semaphore(0)  # tells the server that the first part was looked at

    def play(peer):
        frame = peer.frame(TEXT, line)
        for cut in range(1, len(frame)):
            peer.sock.sendall(frame[:cut])
            assert looked.acquire(timeout=LONG)
            peer.sock.sendall(frame[cut:])

    transport = connected(play)
    for _ in range(len(line) + 3):  # a header of four bytes, less one: the cuts between bytes
        assert transport.receive(0.001) is None
        looked.release()
        assert transport.receive(LONG) == line.decode()


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 300_000])
def test_messages_of_every_length_form(connected, size):
    transport = connected(lambda peer: peer.say(TEXT, b"a" * size))
    assert transport.receive(LONG) == "a" * size


def test_a_message_in_fragments_with_a_ping_between(connected):
    heard = []

    def play(peer):
        peer.say(TEXT, "你".encode()[:2], fin=False)
        peer.say(PING, b"there?")
        peer.say(CONT, "你".encode()[2:])
        heard.append(peer.hear())

    transport = connected(play)
    assert transport.receive(LONG) == "你"
    transport.close()
    assert heard == [(PONG, b"there?")]


def test_a_ping_is_answered_while_receiving_and_a_pong_is_passed_over(connected):
    heard = []

    def play(peer):
        peer.say(PONG, b"")
        peer.say(PING, b"there?")
        heard.append(peer.hear())
        peer.say(TEXT, b"after")

    transport = connected(play)
    assert transport.receive(LONG) == "after"
    assert heard == [(PONG, b"there?")]


def test_a_ping_travels_as_such_and_only_a_look_that_gives_something_has_heard(connected):
    heard = []

    def play(peer):
        heard.append(peer.hear())
        peer.say(PONG, heard[0][1])

    transport = connected(play).transport
    assert list(transport.receive()) == [] and not transport.has_heard()
    assert transport.ping()
    assert select.select([transport.fileno()], [], [], LONG)[0]
    assert list(transport.receive()) == [] and transport.has_heard()
    assert list(transport.receive()) == [] and not transport.has_heard()
    assert heard == [(PING, b"")]


def test_a_part_of_a_message_is_heard_too(prompted):
    frame = Peer.frame(TEXT, b"words")
    transport, say = prompted(frame[:3], frame[3:])
    say()
    assert list(transport.receive()) == [] and transport.has_heard()
    say()
    assert list(transport.receive()) == ["words"] and transport.has_heard()


def test_a_connection_that_is_lost_cannot_be_asked_by_a_ping(connected):
    transport = connected(lambda peer: None)
    transport.close()
    with pytest.raises(ConnectionLost):
        transport.ping()


def test_where_nothing_is_there_a_look_gives_nothing_and_does_not_wait(connected):
    transport = connected(lambda peer: None)
    began = time.monotonic()
    assert list(transport.transport.receive()) == []
    assert time.monotonic() - began < 3
    assert transport.is_open() and not transport.is_blocked()


@pytest.fixture
def prompted(connected):
    """A transport whose server says something when it is asked to: `say()` returns when it can be read."""

    def prompted(*pieces):
        prompt = threading.Semaphore(0)

        def play(peer):
            for piece in pieces:
                assert prompt.acquire(timeout=LONG)
                peer.sock.sendall(piece)

        def say():
            prompt.release()
            assert select.select([transport.fileno()], [], [], LONG)[0]

        transport = connected(play).transport
        return transport, say

    return prompted


def test_one_look_gives_all_that_one_read_gives(prompted):
    whole = b"".join(Peer.frame(TEXT, b"%d" % number) for number in range(51))
    transport, say = prompted(whole[:-3], whole[-3:])
    say()
    assert list(transport.receive()) == [str(number) for number in range(50)]
    assert list(transport.receive()) == []
    say()
    assert list(transport.receive()) == ["50"]


def test_what_came_before_an_end_is_given_before_it_is_told(prompted):
    transport, say = prompted(Peer.frame(TEXT, b"last words") + Peer.frame(CLOSE, b"\x03\xe9going"))
    say()
    look = transport.receive()
    assert next(look) == "last words"
    assert transport.is_open()
    with pytest.raises(ConnectionLost, match="close code 1001"):
        next(look)
    assert not transport.is_open()


@pytest.mark.parametrize("flood", [(PONG, b"x"), (TEXT, b"x")])
def test_a_flood_does_not_hold_a_look_nor_the_close(connected, flood):
    def play(peer):
        try:
            while True:
                peer.sock.sendall(peer.frame(*flood) * 1000)
        except ConnectionError:
            pass

    transport = connected(play, close_timeout=0.1)
    began = time.monotonic()
    while time.monotonic() - began < 0.05:
        assert all(text == "x" for text in transport.transport.receive())
    assert time.monotonic() - began < 3
    transport.close()
    assert time.monotonic() - began < 6


def test_who_floods_with_pings_and_reads_no_answers_is_given_up(connected):
    def play(peer):
        try:
            while True:
                peer.sock.sendall(peer.frame(PING, b"x" * 125) * 500)
        except ConnectionError:
            pass

    transport = connected(play)
    deadline = time.monotonic() + 3 * LONG
    while transport.is_open() and time.monotonic() < deadline:
        assert transport.receive(0.01) is None
    assert not transport.is_open()
    with pytest.raises(ConnectionLost):
        transport.send("x")


def test_the_socket_s_descriptor_is_told_until_it_is_closed(connected):
    transport = connected(lambda peer: None)
    assert transport.fileno() >= 0
    transport.close()
    assert transport.fileno() == -1


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (1000, b"", ConnectionLost),
        (1001, b"going", ConnectionLost),
        (1007, b"Invalid payload data", ConnectionLost),
        (1007, b"task can not be null", InvalidRequest),
        (1011, b"\xff", ConnectionLost),
        (4000, b"", ConnectionLost),
    ],
)
def test_a_close_frame_says_why_and_is_answered(connected, code, reason, kind):
    heard = []

    def play(peer):
        peer.say(CLOSE, code.to_bytes(2, "big") + reason)
        heard.append(peer.hear())
        peer.sock.shutdown(socket.SHUT_WR)

    transport = connected(play)
    with pytest.raises(kind, match=f"close code {code}"):
        transport.receive(LONG)
    assert not transport.is_open()
    with pytest.raises(ConnectionLost):
        transport.receive(LONG)  # and what follows is the end of the stream
    assert heard == [(CLOSE, code.to_bytes(2, "big"))]


def test_a_close_frame_without_a_code(connected):
    transport = connected(lambda peer: peer.say(CLOSE, b""))
    with pytest.raises(ConnectionLost, match="close code 1005") as caught:
        transport.receive(LONG)
    assert caught.value.close_code is None


@pytest.mark.parametrize(
    ("opcode", "payload", "fin"),
    [
        (BINARY, b"\0", True),
        (TEXT, b"\xff", True),
        (3, b"", True),
        (CONT, b"", True),
        (PING, b"", False),
        (CLOSE, b"\x03", True),
        (CLOSE, (1006).to_bytes(2, "big"), True),
    ],
)
def test_what_is_no_text_message_breaks_the_protocol(connected, opcode, payload, fin):
    transport = connected(lambda peer: peer.say(opcode, payload, fin))
    with pytest.raises(RemoteProtocolError):
        transport.receive(LONG)
    assert not transport.is_open()
    assert repr(transport) == "<WebSocketTransport not open>"


def test_the_end_of_the_stream_is_a_lost_connection(connected):
    transport = connected(lambda peer: peer.sock.shutdown(socket.SHUT_WR))
    with pytest.raises(ConnectionLost) as caught:
        transport.receive(LONG)
    assert caught.value.close_code is None
    assert not transport.is_open()


def test_a_reset_is_a_lost_connection_for_receiving_and_sending(serve):
    def handler(peer):
        peer.upgrade()
        peer.reset()

    transport = connect(serve(handler))
    with pytest.raises(ConnectionLost):
        transport.receive(LONG)
    with pytest.raises(ConnectionLost):
        transport.send("x")
    transport.close()


# ------------------------------------------------------------------------------------------------------------ send


def test_text_and_bytes_travel_as_such(connected):
    heard: list[object] = []

    def play(peer):
        heard.extend(peer.hear() for _ in range(5))
        peer.say(TEXT, b"thanks")

    transport = connected(play)
    for data in ("", "你", b"\0\xff", memoryview(b"abc")[1:], b"a" * 300_000):
        transport.send(data)
    assert transport.receive(LONG) == "thanks"
    assert heard[:2] == [(TEXT, b""), (TEXT, "你".encode())]
    assert heard[2:] == [(BINARY, b"\0\xff"), (BINARY, b"bc"), (BINARY, b"a" * 300_000)]


@pytest.fixture
def greedy(serve):
    """Connects to a server that reads nothing before `may_read` is set, and then all; (transport, may_read, got)."""
    may_read, got = threading.Event(), []

    def handler(peer):
        peer.upgrade()
        assert may_read.wait(3 * LONG)
        try:
            while (heard := peer.hear())[0] != CLOSE:
                got.append(heard)
                if heard == (TEXT, b"last"):
                    peer.say(TEXT, b"read")
        except (EOFError, ConnectionError):
            pass

    def greedy(**options):
        transport = connect(serve(handler), **options)
        opened.append(transport)
        return transport, may_read, got

    opened: list[Waiting] = []
    yield greedy
    may_read.set()
    for transport in opened:
        transport.close()


def fill(transport, piece):
    """Send until the network takes no more; how many pieces were begun."""
    for count in range(1, 1000):
        if not transport.transport.send(piece):
            return count
    raise AssertionError("the network takes everything")


def test_what_the_network_does_not_take_is_kept_and_goes_later(greedy):
    transport, may_read, got = greedy()
    piece = bytes(range(250)) * 400
    count = fill(transport, piece)
    assert transport.is_blocked() and transport.is_open()
    assert transport.flush() is False
    may_read.set()
    transport.send(b"")  # waits until all is gone
    assert not transport.is_blocked() and transport.flush() is True
    transport.send("last")
    assert transport.receive(LONG) == "read"
    assert got == [(BINARY, piece)] * count + [(BINARY, b""), (TEXT, b"last")]


def test_a_connection_with_something_unsent_is_closed_without_a_word_and_at_once(greedy):
    transport, may_read, got = greedy(close_timeout=LONG)
    fill(transport, b"\0" * 100_000)
    began = time.monotonic()
    transport.close()
    assert time.monotonic() - began < LONG / 2
    assert transport.fileno() == -1 and not transport.is_blocked()


def test_a_goodbye_that_the_network_does_not_take_ends_in_time(serve):
    done = threading.Event()

    def handler(peer):
        peer.upgrade()
        assert done.wait(2 * LONG)  # reads nothing meanwhile

    transport = connect(serve(handler), write_timeout=0.2, close_timeout=0.2)
    fill_to_the_brim(transport.transport._wire._sock)
    began = time.monotonic()
    transport.close()
    assert 0.2 <= time.monotonic() - began < LONG / 2
    done.set()


def fill_to_the_brim(sock):
    """So that not even a byte is taken, and both kernels have come to rest."""
    room = True
    while room:
        for size in (100_000, 1):
            with pytest.raises(BlockingIOError):
                while True:
                    sock.send(b"\0" * size)
        room = bool(select.select([], [sock], [], 0.1)[1])


def test_what_was_said_before_the_hangup_can_be_read_after_a_failed_send(serve):
    gone = threading.Event()

    def handler(peer):
        peer.upgrade()
        peer.say(TEXT, b"last words")
        peer.reset()
        gone.set()

    transport = connect(serve(handler))
    assert gone.wait(LONG)
    with pytest.raises(ConnectionLost, match="while sending"):
        for _ in range(100):
            transport.send(b"\0" * 1000)
    assert transport.receive(LONG) == "last words"
    transport.close()


def test_a_ping_that_cannot_be_answered_does_not_hide_what_follows(serve):
    gone = threading.Event()

    def handler(peer):
        peer.upgrade()
        peer.sock.sendall(peer.frame(PING, b"") + peer.frame(PING, b"") + peer.frame(TEXT, b"last words"))
        peer.reset()
        gone.set()

    transport = connect(serve(handler))
    assert gone.wait(LONG)
    assert transport.receive(LONG) == "last words"
    assert not transport.is_open()
    transport.close()


# ----------------------------------------------------------------------------------------------------------- close


def test_closing_is_polite_and_again_is_harmless(connected):
    heard = []

    def play(peer):
        peer.say(TEXT, b"unread")
        heard.append(peer.hear())
        peer.say(PONG, b"")
        peer.say(CLOSE, heard[0][1])

    transport = connected(play)
    transport.close()
    transport.close()
    assert heard == [(CLOSE, b"\x03\xe8bye")]
    assert not transport.is_open()
    with pytest.raises(ConnectionLost):
        transport.receive(LONG)
    with pytest.raises(ConnectionLost):
        transport.send("x")


def test_closing_waits_for_the_peer_no_longer_than_allowed(connected):
    transport = connected(lambda peer: None, close_timeout=0.1)
    began = time.monotonic()
    transport.close()
    assert time.monotonic() - began < 3


def test_closing_after_the_peer_has_gone_raises_nothing(serve):
    def handler(peer):
        peer.upgrade()
        peer.reset()

    connect(serve(handler)).close()


# ------------------------------------------------------------------------------------------------------------- TLS


def test_several_messages_in_one_tls_record_are_all_seen_at_once(serve, tls):
    def handler(peer):
        peer.upgrade()
        peer.sock.sendall(b"".join(peer.frame(TEXT, b"%d" % number) for number in range(5)))
        until_closed(peer)

    transport = connect(serve(handler, tls[0]).replace("ws:", "wss:"), tls[1])
    assert transport.receive(LONG) == "0"
    assert [transport.receive(0) for _ in range(5)] == ["1", "2", "3", "4", None]
    transport.close()


def test_a_tls_record_larger_than_one_read_is_seen_whole(serve, tls):
    def handler(peer):
        peer.upgrade()
        peer.sock.sendall(peer.frame(TEXT, b"a" * 200_000) + peer.frame(TEXT, b"b"))
        assert peer.hear() == (BINARY, b"c" * 200_000)
        until_closed(peer)

    transport = connect(serve(handler, tls[0]).replace("ws:", "wss:"), tls[1])
    assert transport.receive(LONG) == "a" * 200_000
    assert transport.receive(LONG) == "b"
    transport.send(b"c" * 200_000)
    transport.close()


def test_a_certificate_that_nobody_vouches_for_is_refused(serve, tls):
    def handler(peer):
        with pytest.raises(ssl.SSLError):
            tls[0].wrap_socket(peer.sock, server_side=True)

    with pytest.raises(ConnectFailed, match="SSLCertVerificationError"):
        connect(serve(handler).replace("ws:", "wss:"))


def test_a_certificate_for_another_host_is_refused(serve, tls):
    def handler(peer):
        with pytest.raises(ssl.SSLError):
            tls[0].wrap_socket(peer.sock, server_side=True)

    with pytest.raises(ConnectFailed, match="SSLCertVerificationError"):
        connect(serve(handler).replace("ws:", "wss:").replace("127.0.0.1", "localhost"), tls[1])


def test_one_context_serves_the_process_and_checks_certificates():
    assert shared_context() is shared_context()
    assert shared_context().verify_mode is ssl.CERT_REQUIRED
    assert shared_context().check_hostname
