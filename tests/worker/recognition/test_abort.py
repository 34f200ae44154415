"""A connection that another thread ends, in plain TCP and over TLS."""

import subprocess
import sys
import textwrap
import threading
import time

import pytest

from worker.recognition.errors import ConnectionLost, RecognitionError
from worker.recognition.recognizer import Chunk, Recognizer
from worker.recognition.wire import Wire

LONG = 30.0  # more than any wait that is cut short


class Borrower(threading.Thread):
    """Uses a connection in a thread of its own; `error` is what it got for that."""

    def __init__(self, use):
        super().__init__()
        self._use = use
        self.error = None
        self.start()

    def run(self):
        try:
            self._use()
        except RecognitionError as exc:
            self.error = exc

    def ended(self):
        self.join(LONG / 3)
        return not self.is_alive()


@pytest.fixture
def held(connect_to):
    """A transport to a server that reads nothing and says nothing."""
    done = threading.Event()
    transport = connect_to(lambda peer: done.wait(LONG), write_timeout=LONG)
    yield transport
    transport.close()
    done.set()


def test_a_blocked_reader_is_woken_at_once(held, until_blocked):
    reader = Borrower(lambda: held.receive(LONG))
    until_blocked(reader)
    held.abort()
    assert reader.ended() and isinstance(reader.error, ConnectionLost)
    assert not held.is_open()


def test_a_blocked_sender_is_woken_at_once(held, until_blocked):
    sender = Borrower(lambda: held.send(b"\0" * 50_000_000))
    until_blocked(sender)
    held.abort()
    assert sender.ended() and isinstance(sender.error, ConnectionLost)
    assert not held.is_open()


def test_who_comes_later_finds_the_connection_lost(held):
    held.abort()
    assert not held.is_open()
    with pytest.raises(ConnectionLost):
        held.send("x")
    with pytest.raises(ConnectionLost):
        held.receive(LONG)


def test_abort_is_harmless_again_and_after_a_close(held):
    held.abort()
    held.abort()
    held.close()
    held.abort()
    assert not held.is_open()


def test_closing_after_an_abort_waits_for_nothing(held):
    held.abort()
    began = time.monotonic()
    held.close()
    assert time.monotonic() - began < 0.5  # and not the second that a polite close may last


def test_the_service_sees_the_end_and_not_a_word(connect_to, serve):
    seen = []

    def play(peer):
        try:
            seen.append(peer.sock.recv(100))
        except OSError:  # TLS misses its own goodbye
            seen.append(b"")

    transport = connect_to(play)
    transport.abort()
    transport.close()
    serve.finish()
    assert seen == [b""]


def test_the_descriptor_stays_until_its_owner_closes_it(held):
    wire: Wire = held._wire
    number = wire._sock.fileno()
    held.abort()
    assert wire._sock.fileno() == number >= 0


def test_a_task_is_ended_wherever_it_waits(held, until_blocked):
    recognizer = Recognizer(held)
    chunks = [Chunk(0.0, b"")]
    task = recognizer.transcribe(model="m", parameters={}, chunks=chunks, deadline=time.monotonic() + LONG)
    borrower = Borrower(lambda: list(task))
    until_blocked(borrower)
    recognizer.abort()
    assert borrower.ended() and isinstance(borrower.error, ConnectionLost)
    assert not recognizer.is_reusable()


def test_what_was_aborted_while_nothing_was_in_flight_is_not_reusable(scripted):
    recognizer = Recognizer(scripted)
    recognizer.abort()
    assert repr(recognizer) == "<Recognizer ready, not open, tasks 0>"
    assert not recognizer.is_reusable() and not recognizer.is_healthy()


GEVENT = """
    from gevent import monkey
    monkey.patch_all()
    import ssl, sys, threading
    from worker.recognition import ConnectionLost, Endpoint, WebSocketTransport

    url, trusted = sys.argv[1:]
    transport = WebSocketTransport.connect(
        Endpoint(url=url, api_key="k"), ssl.create_default_context(cafile=trusted)
    )
    greeted, lost = threading.Event(), threading.Event()

    def read():
        assert transport.receive(30) == "hello"
        greeted.set()
        try:
            transport.receive(30)
        except ConnectionLost:
            lost.set()

    threading.Thread(target=read, daemon=True).start()
    assert greeted.wait(10)  # and the reader goes on until it waits again: greenlets switch only there
    transport.abort()
    assert lost.wait(10)
    transport.abort()
    transport.close()
    transport.abort()
"""


@pytest.mark.parametrize("secure", [False, True])
def test_a_greenlet_is_woken_like_a_thread(serve, tls, certificate, secure):
    def handler(peer):
        peer.upgrade()
        peer.say(1, b"hello")
        try:
            assert peer.sock.recv(100) == b""
        except OSError:
            pass

    url = serve(handler, tls[0] if secure else None).replace("ws:", "wss:" if secure else "ws:")
    command = [sys.executable, "-c", textwrap.dedent(GEVENT), url, str(certificate)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
