"""A connection that another thread ends, in plain TCP and over TLS."""

import itertools
import json
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from worker.recognition.conversation import Chunk
from worker.recognition.errors import ConnectionLost, RecognitionError
from worker.recognition.recognizer import Recognizer
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


def wait_until(holds):
    deadline = time.monotonic() + LONG / 3
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.001)
    return holds()


@pytest.fixture
def held(connect_to):
    """A transport to a server that reads nothing and says nothing."""
    done = threading.Event()
    transport = connect_to(lambda peer: done.wait(LONG), write_timeout=LONG)
    yield transport
    transport.close()
    done.set()


def test_a_waiting_reader_is_woken_at_once(held, until_in):
    reader = Borrower(lambda: held.receive(LONG))
    until_in(reader, "Waiting._wait")
    held.abort()
    assert reader.ended() and isinstance(reader.error, ConnectionLost)
    assert not held.is_open()


def send_without_end(transport):
    while True:
        transport.send(b"\0" * 500_000, LONG)


def test_a_waiting_sender_is_woken_at_once(held, until_in):
    sender = Borrower(lambda: send_without_end(held))
    until_in(sender, "Waiting._wait")
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
    with pytest.raises(ConnectionLost):
        held.flush()


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


@pytest.mark.parametrize("chunks", [0, 100_000])
def test_a_task_is_ended_wherever_it_waits(connect_to, loop, until_in, chunks):
    """For its start, or for a network that takes nothing more."""
    begun, done = threading.Event(), threading.Event()

    def play(peer):
        started = json.loads(peer.hear()[1])["header"] | {"event": "task-started"}
        begun.set()
        if chunks:
            peer.say(1, json.dumps({"header": started, "payload": {}}).encode())
        assert done.wait(LONG)

    transport = connect_to(play)
    recognizer = Recognizer(transport.transport, loop=loop)
    audio = itertools.repeat(Chunk(0.0, bytes(32_000)), chunks)
    task = recognizer.transcribe(model="m", parameters={}, chunks=audio, deadline=time.monotonic() + LONG)
    borrower = Borrower(lambda: list(task))
    try:
        assert begun.wait(LONG)
        until_in(borrower, "Loop.wait")
        if chunks:
            assert wait_until(transport.is_blocked)
        recognizer.abort()
        assert borrower.ended() and isinstance(borrower.error, ConnectionLost)
        assert not recognizer.is_reusable()
        assert loop.figures()["loop_streams"] == 0
    finally:
        done.set()
        transport.close()


def test_a_task_that_begins_after_the_abort_is_lost(held, loop):
    recognizer = Recognizer(held.transport, loop=loop)
    recognizer.abort()
    with pytest.raises(ConnectionLost):
        list(recognizer.transcribe(model="m", parameters={}, chunks=[], deadline=time.monotonic() + LONG))


def test_what_was_aborted_while_nothing_was_in_flight_is_not_reusable(scripted, inline):
    recognizer = Recognizer(scripted, loop=inline)
    recognizer.abort()
    assert repr(recognizer) == "<Recognizer ready, not open, tasks 0>"
    assert not recognizer.is_reusable() and not recognizer.is_healthy()


GEVENT = """
    from gevent import monkey
    monkey.patch_all()
    import json, ssl, sys, threading, time
    from worker.recognition import ConnectionLost, Endpoint, Loop, Recognizer, Started, WebSocketTransport

    url, trusted = sys.argv[1:]
    transport = WebSocketTransport.connect(
        Endpoint(url=url, api_key="k"), ssl.create_default_context(cafile=trusted)
    )
    loop = Loop()
    recognizer = Recognizer(transport, loop=loop, new_id=lambda: "t1")
    started, lost = threading.Event(), threading.Event()

    def transcribe():
        try:
            for _ in recognizer.transcribe(model="m", parameters={}, chunks=(), deadline=time.monotonic() + 30):
                started.set()
        except ConnectionLost:
            lost.set()

    threading.Thread(target=transcribe, daemon=True).start()
    assert started.wait(10)  # and both go on until they wait again: greenlets switch only there
    recognizer.abort()
    assert lost.wait(10)
    recognizer.abort()
    recognizer.close()
    recognizer.abort()
    loop.close(5)
"""
STARTED = json.dumps({"header": {"task_id": "t1", "event": "task-started"}, "payload": {}}).encode()


@pytest.mark.parametrize("secure", [False, True])
def test_a_greenlet_is_woken_like_a_thread(serve, tls, certificate, secure):
    def handler(peer):
        peer.upgrade()
        assert b"run-task" in peer.hear()[1]
        peer.say(1, STARTED)
        try:
            while peer.sock.recv(1000):
                pass
        except OSError:  # TLS misses its goodbye
            pass

    url = serve(handler, tls[0] if secure else None).replace("ws:", "wss:" if secure else "ws:")
    command = [sys.executable, "-c", textwrap.dedent(GEVENT), url, str(certificate)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
