"""A service that says nothing in mid-stream, on real connections: one that lives goes on, one that is gone is found."""

import threading
import time
from collections.abc import Iterator

import pytest

from emulator.background import BackgroundEmulator
from emulator.engines.script import ScriptEngine
from emulator.faults import Fault
from emulator.limits import Limits as ServiceLimits
from tests.chaos import counted
from tests.worker.recognition.waiting import PATIENCE
from worker.recognition import (
    Chunk,
    Endpoint,
    Event,
    Finished,
    Limits,
    Recognizer,
    Started,
    UpstreamSilent,
    WebSocketTransport,
)

HASTY = Limits(quiet=0.3, pong=0.3)
PATIENT = Limits(quiet=0.3, pong=2.0)
SECONDS = 3.0  # of audio, longer than either would wait for an answer


@pytest.fixture(scope="module")
def emulator():
    with BackgroundEmulator(ScriptEngine(sentence_ms=100), ServiceLimits(starts_per_second=None)) as running:
        yield running
        running.faults.clear()


@pytest.fixture
def connect(loop, emulator):
    made = []

    def connect(limits=HASTY):
        made.append(Recognizer(WebSocketTransport.connect(Endpoint(url=emulator.url, api_key="k")), limits, loop=loop))
        return made[-1]

    yield connect
    for recognizer in made:
        recognizer.close()


def events(recognizer: Recognizer, chunks: Iterator[Chunk]) -> Iterator[Event]:
    parameters = {"format": "pcm", "sample_rate": 16_000}
    return recognizer.transcribe(
        model="paraformer-realtime-v2", parameters=parameters, chunks=chunks, deadline=time.monotonic() + 60
    )


def hush() -> Iterator[Chunk]:
    """Zeros, in which the service hears nothing and of which it says nothing."""
    return (Chunk(number * 0.1, bytes(3200)) for number in range(round(SECONDS * 10)))


def test_a_stream_of_pure_silence_goes_on_because_its_pings_are_answered(connect):
    recognizer = connect(PATIENT)
    assert [type(event) for event in events(recognizer, hush())] == [Started, Finished]
    assert recognizer.is_reusable()


def test_where_they_are_not_answered_it_ends(emulator, connect):
    emulator.faults.add(Fault(kind="no_pong"))
    recognizer = connect()
    told = events(recognizer, hush())
    next(told)
    began = time.monotonic()
    with pytest.raises(UpstreamSilent, match="no answer to a ping within 0.3 s"):
        list(told)
    assert 0.59 < time.monotonic() - began < SECONDS
    assert not recognizer.is_reusable()


def test_a_service_that_speaks_is_not_asked(emulator, connect):
    emulator.faults.add(Fault(kind="no_pong"))
    told = list(events(connect(PATIENT), counted(0, round(SECONDS * 32_000), spacing=0.1)))
    assert isinstance(told[-1], Finished) and len(told) > 2 * SECONDS * 10


@pytest.mark.parametrize("spacing", [0.1, 3600.0], ids=["with audio under way", "without"])
def test_a_service_that_falls_silent_in_mid_stream_is_noticed(emulator, connect, loop, spacing):
    emulator.faults.add(Fault(kind="silent", after_ms=400))
    recognizer = connect()
    chunks = list(counted(0, 600_000, spacing=0.1))
    for later, chunk in enumerate(chunks[6:]):
        chunk.due = chunks[5].due + (later + 1) * spacing
    heard = began = time.monotonic()
    with pytest.raises(UpstreamSilent, match="no answer to a ping"):
        for _ in events(recognizer, iter(chunks)):
            heard = time.monotonic()
    assert heard > began  # it had begun well
    assert 0.55 < time.monotonic() - heard < PATIENCE / 2
    assert not recognizer.is_reusable() and loop.figures()["loop_streams"] == 0


@pytest.mark.parametrize("pongs", [1, 1000])
def test_a_late_pong_on_an_idle_connection_leaves_it_healthy(connect_to, loop, pongs):
    said = threading.Event()

    def play(peer):
        peer.say(10, b"")
        peer.sock.sendall(peer.frame(10, b"") * (pongs - 1))
        said.set()
        peer.hear()

    transport = connect_to(play)
    recognizer = Recognizer(transport.transport, loop=loop)
    assert said.wait(PATIENCE)
    for _ in range(3):
        assert recognizer.is_healthy()
        time.sleep(0.01)
    assert recognizer.is_reusable()
    recognizer.close()
