import fcntl
import select
import socket
import threading
import time
from typing import Any

import pytest

from worker.recognition.wire import Wire, dial


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


def test_a_deadline_in_the_past_still_takes_what_is_there(pair):
    wire, peer = pair
    peer.send(b"ab")
    wire.read_until(0.0)
    assert wire.recv(1) == b"a"
    assert wire.recv(1) == b"b"
    with pytest.raises(TimeoutError):
        wire.recv(1)


def test_but_looks_only_once(pair):
    wire, peer = pair
    peer.send(b"a")
    wire.read_until(0.0)
    assert wire.recv(1) == b"a"
    peer.send(b"b")
    with pytest.raises(TimeoutError):
        wire.recv(1)
    wire.read_until(0.0)
    assert wire.recv(1) == b"b"


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


def test_a_send_that_follows_freely_waited_for_nothing(slow_reader):
    wire, _ = slow_reader
    for _ in range(3):
        wire.send(b"x")
        assert wire.waited == 0


def test_a_reader_that_reads_nothing_is_felt_after_some_seconds_of_audio(slow_reader):
    wire, _ = slow_reader
    wire._write_timeout = 0.05
    taken = 0
    with pytest.raises(TimeoutError):
        while taken < 30 * 32_000:
            taken += wire.send(b"\0" * 3200)
    assert wire.waited >= 0.05


def test_a_send_that_has_to_wait_says_for_how_long(pair):
    wire, peer = pair
    with pytest.raises(TimeoutError):
        wire.send(b"\0" * 100_000_000)
    assert wire.waited >= 0.19  # of the 0.2 that it may last


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
