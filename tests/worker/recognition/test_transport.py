import socket
import ssl
import threading
import time
import traceback
import uuid

import pytest

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
    return WebSocketTransport.connect(Endpoint(**{"url": url, "api_key": SECRET} | options), context)


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


def test_nothing_comes_and_the_wait_ends(connected):
    transport = connected(lambda peer: None)
    began = time.monotonic()
    assert transport.receive(0) is None
    assert transport.receive(0.05) is None
    assert 0.05 <= time.monotonic() - began < 3
    assert transport.is_open()


def test_a_flood_of_pings_does_not_hold_beyond_the_timeout(connected):
    def play(peer):
        try:
            while True:
                peer.sock.sendall(peer.frame(PONG, b"x") * 1000)
        except ConnectionError:
            pass

    transport = connected(play, close_timeout=0.1)
    began = time.monotonic()
    assert transport.receive(0.05) is None
    assert time.monotonic() - began < 3
    transport.close()
    assert time.monotonic() - began < 6


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (1000, b"", ConnectionLost),
        (1001, b"going", ConnectionLost),
        (1007, b"Invalid payload data", InvalidRequest),
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
        heard.extend(peer.hear() for _ in range(4))
        peer.say(TEXT, b"thanks")

    transport = connected(play)
    for data in ("", "你", b"\0\xff", b"a" * 300_000):
        transport.send(data)
    assert transport.receive(LONG) == "thanks"
    assert heard == [(TEXT, b""), (TEXT, "你".encode()), (BINARY, b"\0\xff"), (BINARY, b"a" * 300_000)]


def test_a_send_says_how_long_the_other_side_held_it_up(connected, until_blocked):
    size = 20_000_000  # more than two kernels take
    blocked = threading.Event()

    def play(peer):
        assert blocked.wait(LONG)
        got = 0
        while got < 14 + size:  # 14: the frame's header
            got += len(peer.sock.recv(14 + size - got))
        peer.say(TEXT, b"read")

    transport = connected(play)
    held_up = []
    sender = threading.Thread(target=lambda: held_up.append(transport.send(b"\0" * size)))
    sender.start()
    until_blocked(sender)
    blocked.set()
    sender.join(LONG)
    assert held_up[0] > 0
    assert transport.receive(LONG) == "read"
    assert transport.send("not at all") == 0


def test_a_send_that_times_out_makes_the_connection_unusable(serve):
    done = threading.Event()

    def handler(peer):
        peer.upgrade()
        assert done.wait(2 * LONG)  # reads nothing meanwhile

    transport = connect(serve(handler), write_timeout=0.2)
    began = time.monotonic()
    with pytest.raises(ConnectionLost, match="while sending"):
        for _ in range(100):
            transport.send(b"\0" * 1_000_000)
    assert time.monotonic() - began < LONG
    assert not transport.is_open()
    with pytest.raises(ConnectionLost, match="closed, broken"):
        transport.send(b"\0")
    transport.close()
    done.set()


def test_what_was_said_before_the_hangup_can_be_read_after_a_failed_send(serve):
    gone = threading.Event()

    def handler(peer):
        peer.upgrade()
        peer.say(TEXT, b"last words")
        peer.reset()
        gone.set()

    transport = connect(serve(handler))
    assert gone.wait(LONG)
    with pytest.raises(ConnectionLost):
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
