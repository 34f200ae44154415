import fcntl
import select
import socket
import ssl
import struct
import threading
import time
from typing import Any

import pytest

from worker.recognition import wire as wire_module
from worker.recognition.wire import READ_SIZE, Wire, dial


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    theirs.settimeout(10)
    yield Wire(ours, write_timeout=0.2), theirs
    ours.close()
    theirs.close()


def soon(seconds=5.0):
    return time.monotonic() + seconds


def test_what_came_at_once_is_read_piece_by_piece(pair):
    wire, peer = pair
    peer.send(b"abcdef")
    wire.read_until(soon())
    assert [wire.recv(2), wire.recv(3), wire.recv(99)] == [b"ab", b"cde", b"f"]


def test_after_the_deadline_only_what_was_read_before_is_given(pair):
    wire, peer = pair
    peer.send(b"ab")
    wire.read_until(soon())
    assert wire.recv(1) == b"a"
    peer.send(b"c")
    wire.read_until(0.0)
    assert wire.recv(1) == b"b"
    with pytest.raises(TimeoutError):
        wire.recv(1)
    wire.read_until(soon())
    assert wire.recv(1) == b"c"


def test_a_wait_for_what_does_not_come_ends_at_the_deadline(pair):
    wire, _ = pair
    began = time.monotonic()
    wire.read_until(soon(0.05))
    with pytest.raises(TimeoutError):
        wire.recv(1)
    assert 0.05 <= time.monotonic() - began < 3


def test_before_any_deadline_is_set_nothing_is_read(pair):
    wire, peer = pair
    peer.send(b"a")
    with pytest.raises(TimeoutError):
        wire.recv(1)


def test_the_end_of_the_stream_is_no_bytes(pair):
    wire, peer = pair
    peer.close()
    wire.read_until(soon())
    assert wire.recv(1) == b""


def test_sending_nothing_is_nothing(pair):
    wire, _ = pair
    assert wire.send(b"") == 0


def test_a_peer_that_reads_slowly_gets_all_within_the_write_timeout():
    ours, theirs = socket.socketpair()
    data = bytes(range(256)) * 20_000
    got = bytearray()

    def read():
        while len(got) < len(data):
            got.extend(theirs.recv(65536))

    with ours, theirs:
        reader = threading.Thread(target=read)
        reader.start()
        assert Wire(ours, write_timeout=10.0).send(data) == len(data)
        reader.join(10)
    assert bytes(got) == data


def test_the_write_timeout_bounds_the_whole_and_not_each_part(pair):
    wire, peer = pair
    leave = threading.Event()

    def sip():  # reads a little again and again: each send makes progress, the whole never ends
        while not leave.wait(0.01):
            peer.recv(4096)

    reader = threading.Thread(target=sip)
    reader.start()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        wire.send(b"\0" * 100_000_000)
    assert 0.2 <= time.monotonic() - began < 3
    leave.set()
    reader.join(10)


@pytest.fixture
def slow_reader():
    """A wire over TCP, and the other side, whose kernel takes little for a reader that does not read."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        ours = dial("127.0.0.1", listener.getsockname()[1], soon())
        theirs, _ = listener.accept()
        with ours, theirs:
            theirs.settimeout(10)
            yield Wire(ours, write_timeout=10.0), theirs


def test_a_reader_that_reads_nothing_is_felt_after_some_seconds_of_audio(slow_reader):
    wire, _ = slow_reader
    taken = 0
    while wire.put(b"\0" * 3200):
        taken += 3200
        assert taken < 30 * 32_000
    assert wire.is_blocked and 0 < wire.unsent <= 3200


# ---------------------------------------------------------------------------------------------- for who never waits


def test_what_goes_at_once_leaves_nothing(pair):
    wire, peer = pair
    assert wire.put(b"abc") is True and wire.put(b"") is True
    assert (wire.is_blocked, wire.unsent) == (False, 0)
    assert peer.recv(9) == b"abc"


def test_what_does_not_go_is_kept_in_order_until_it_goes(pair):
    wire, peer = pair
    pieces = [bytes([number]) * 300_000 for number in range(5)]
    assert [wire.put(piece) for piece in pieces][-1] is False
    assert 1_500_000 > wire.unsent > 0
    got = bytearray()
    while len(got) < 1_500_000:
        got += peer.recv(65536)
        wire.put(b"")
    assert wire.put(b"") is True
    assert (wire.is_blocked, wire.unsent) == (False, 0)
    assert bytes(got) == b"".join(pieces)


def test_who_takes_gets_nothing_what_is_there_or_the_end(pair):
    wire, peer = pair
    assert wire.take() is None
    peer.send(b"ab")
    peer.send(b"cd")
    assert wire.take() == b"abcd"
    assert wire.take() is None
    peer.send(b"e")
    peer.close()
    assert [wire.take(), wire.take(), wire.take()] == [b"e", b"", b""]


def test_one_take_is_one_read(pair):
    wire, peer = pair
    peer.send(b"a" * (READ_SIZE + 1))
    assert len(wire.take()) == READ_SIZE
    assert wire.take() == b"a"


def test_what_came_with_the_handshake_s_answer_is_taken_first(pair):
    wire, peer = pair
    peer.send(b"answer and more")
    wire.read_until(soon())
    assert wire.recv(6) == b"answer"
    peer.send(b"later")
    assert [wire.take(), wire.take(), wire.take()] == [b" and more", b"later", None]


def test_a_reset_is_raised_for_who_puts_and_who_takes(slow_reader):
    wire, peer = slow_reader
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    with pytest.raises(ConnectionResetError):
        wire.take()
    with pytest.raises(OSError):
        for _ in range(2):
            wire.put(b"x")


@pytest.mark.parametrize("use", [lambda wire: wire.put(b"x"), lambda wire: wire.take()])
def test_what_is_closed_can_neither_be_given_nor_asked(pair, use):
    wire, _ = pair
    wire.close()
    assert wire.fileno() == -1
    with pytest.raises(OSError):
        use(wire)


def test_closing_forgets_what_was_not_sent(pair):
    wire, _ = pair
    while wire.put(b"\0" * 300_000):
        pass
    wire.close()
    assert (wire.is_blocked, wire.unsent) == (False, 0)


class Moody(socket.socket):
    """Answers as TLS may: to a read, that it has to write first, and the reverse."""

    mood: type[ssl.SSLError] | None = None

    def recv(self, *args):
        return self._answer() or super().recv(*args)

    def send(self, *args):
        return self._answer() or super().send(*args)

    def _answer(self):
        if self.mood:
            raise self.mood


@pytest.fixture
def moody():
    """(the wire on a moody socket, that socket, the other side)."""
    ours, theirs = socket.socketpair()
    with Moody(fileno=ours.detach()) as sock, theirs:
        yield Wire(sock, write_timeout=0.2), sock, theirs


@pytest.mark.parametrize(("mood", "blocked"), [(ssl.SSLWantReadError, False), (ssl.SSLWantWriteError, True)])
def test_a_read_that_has_to_write_first_waits_for_room(moody, mood, blocked):
    wire, sock, peer = moody
    peer.send(b"abc")
    sock.mood = mood
    assert wire.take() is None
    assert (wire.is_blocked, wire.unsent) == (blocked, 0)
    sock.mood = None
    assert wire.take() == b"abc"
    assert not wire.is_blocked


@pytest.mark.parametrize(("mood", "blocked"), [(ssl.SSLWantReadError, False), (ssl.SSLWantWriteError, True)])
def test_a_write_that_tls_puts_off_is_kept(moody, mood, blocked):
    wire, sock, peer = moody
    sock.mood = mood
    assert wire.put(b"abc") is False
    assert (wire.is_blocked, wire.unsent) == (blocked, 3)
    sock.mood = None
    assert wire.put(b"de") is True
    assert peer.recv(9) == b"abcde"


# ----------------------------------------------------------------------------------------------------------- dialling


def test_descriptors_beyond_the_reach_of_select_work(pair):
    wire, peer = pair
    high = socket.socket(fileno=dup_above(1024, peer))
    with high:
        high_wire = Wire(high, write_timeout=0.2)
        with pytest.raises(ValueError):
            select.select([high], [], [], 0)
        high_wire.read_until(soon(0.02))
        with pytest.raises(TimeoutError):
            high_wire.recv(1)


def dup_above(lowest, sock):
    try:
        return fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, lowest)
    except OSError:
        pytest.skip("no descriptors above 1023 allowed here")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_dialling_goes_on_to_the_next_address(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        listener = socket.create_server((address, 0), family=family)
    except OSError:
        pytest.skip(f"no {address} here")
    with listener:
        port = listener.getsockname()[1]
        nowhere: Any = None  # no name: every loopback address that there is
        with dial(nowhere, port, soon()) as sock:
            assert sock.getpeername()[0] == address


def test_dialling_ends_with_the_last_failure():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        dial("127.0.0.1", port, soon())


def test_the_connection_is_made_for_frames_and_for_dead_peers():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with dial("127.0.0.1", listener.getsockname()[1], soon()) as sock:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000


def test_closing_forgets_what_was_not_read(pair):
    wire, peer = pair
    peer.send(b"ab")
    wire.read_until(soon())
    wire.recv(1)
    wire.close()
    wire.close()
    with pytest.raises(OSError):
        wire.recv(1)


def test_a_fork_makes_the_connections_of_before_somebody_else_s(pair, monkeypatch):
    wire, *_ = pair
    monkeypatch.setattr(wire_module, "_forks", wire_module._forks)
    assert wire.is_ours()
    wire_module._count_fork()  # as in a forked child
    assert not wire.is_ours()
