"""A connection in a process that inherited it by a fork: it may be closed there, and that is all."""

import os
import signal
import socket
import time

import pytest

from worker.recognition.errors import ConnectionLost
from worker.recognition.recognizer import Recognizer
from worker.recognition.transport import WebSocketTransport
from worker.recognition.wire import Wire

LONG = 10.0
TEXT = 1


def in_a_child(do):
    """Do it in a forked child, which ends without a word and in bounded time; its exit status."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10)
        try:
            do()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def use_in_every_way(recognizer, transport):
    assert not transport.is_open()
    assert not recognizer.is_reusable() and not recognizer.is_healthy()
    assert repr(transport) == "<WebSocketTransport not open>"
    for use in (lambda: transport.send("x"), transport.flush, lambda: list(transport.receive())):
        with pytest.raises(ConnectionLost, match="another process's"):
            use()
    recognizer.close()
    recognizer.close()


# From Python 3.12 on a fork beside other threads is warned of. The child of this test uses nothing that they hold.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_leaves_its_parent_s_connection_as_it_is(connect_to, loop):
    heard = []

    def play(peer):
        heard.append(peer.hear())
        peer.say(TEXT, b"for the parent")  # waits unread while the child is at it
        heard.append(peer.hear())
        peer.say(TEXT, b"thanks")
        heard.append(peer.hear())
        peer.say(*heard[-1])

    transport = connect_to(play)
    recognizer = Recognizer(transport.transport, loop=loop)
    transport.send("before")
    assert in_a_child(lambda: use_in_every_way(recognizer, transport.transport)) == 0
    assert in_a_child(recognizer.abort) == 0
    assert transport.is_open() and recognizer.is_reusable()
    assert transport.receive(LONG) == "for the parent"
    transport.send("after")
    assert transport.receive(LONG) == "thanks"
    recognizer.close()
    assert heard == [(TEXT, b"before"), (TEXT, b"after"), (8, b"\x03\xe8bye")]


class InheritedWire(Wire):
    """As a forked child sees it."""

    def is_ours(self) -> bool:
        return False


@pytest.fixture
def inherited():
    """A transport as a forked child has it, and the other side."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield WebSocketTransport(InheritedWire(ours, write_timeout=LONG), LONG), theirs


def test_what_another_process_connected_is_neither_written_nor_read_nor_ended(inherited, loop):
    transport, peer = inherited
    peer.send(b"\x81\x01x")
    use_in_every_way(Recognizer(transport, loop=loop), transport)
    peer.setblocking(False)
    with pytest.raises(ConnectionResetError):  # unread bytes, and the end: the descriptor is closed
        peer.recv(1)


def test_an_abort_leaves_what_another_process_connected_alone(inherited):
    transport, peer = inherited
    transport.abort()
    peer.setblocking(False)
    with pytest.raises(BlockingIOError):
        peer.recv(1)


def test_a_task_on_what_another_process_connected_fails_and_says_nothing(inherited, loop):
    transport, peer = inherited
    recognizer = Recognizer(transport, loop=loop)
    with pytest.raises(ConnectionLost, match="another process's"):
        list(recognizer.transcribe(model="m", parameters={}, chunks=(), deadline=time.monotonic() + LONG))
    peer.setblocking(False)
    with pytest.raises(BlockingIOError):
        peer.recv(1)
