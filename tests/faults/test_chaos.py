"""Many streams in one I/O loop over a hostile network: what is not cut is exact, what is cut can be tried again."""

import os
import random
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from emulator.stack import Process
from tests.chaos import CHUNK, ENDS, Chaos, counted, sentences, small
from worker.recognition import Endpoint, Final, Limits, Loop, Recognizer, TransportError, WebSocketTransport

SIZE = 15 * CHUNK
STREAMS = 40
PATIENT, IMPATIENT = 60.0, 2.0


@pytest.fixture(scope="module", params=["plain", "TLS"])
def service(
    request: pytest.FixtureRequest, certificate: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of an emulator with sentences of 100 ms, a process of its own."""
    command = [sys.executable, "-m", "emulator", "--port", "0", "--sentence-ms", "100", "--starts-per-second", "0"]
    if request.param == "TLS":
        command += ["--certificate", str(certificate)]
    process = Process("emulator", command, dict(os.environ), tmp_path_factory.mktemp("chaos"))
    try:
        process.wait_until(lambda emulator: "listening on " in emulator.output)
        yield process.output.split("listening on ")[1].split()[0]
    finally:
        process.stop()


@dataclass
class Stream:
    """One recognition through a port of the proxy, and what came of it."""

    url: str
    end: str
    first: int
    spacing: float
    texts: list[str] = field(default_factory=list)
    error: Exception | None = None
    sent_bytes: int = 0

    def run(self, loop: Loop, context: ssl.SSLContext) -> None:
        try:
            self._transcribe(loop, context)
        except Exception as error:
            self.error = error

    def _transcribe(self, loop: Loop, context: ssl.SSLContext) -> None:
        seconds = IMPATIENT if self.end == "silence" else PATIENT
        endpoint = Endpoint(url=self.url, api_key="k", connect_timeout=seconds, write_timeout=seconds)
        transport = WebSocketTransport.connect(endpoint, context)
        with socket.socket(fileno=os.dup(transport.fileno())) as same:
            small(same)
        recognizer = Recognizer(transport, Limits(started=seconds, finished=seconds, write=seconds), loop=loop)
        try:
            events = recognizer.transcribe(
                model="paraformer-realtime-v2",
                parameters={"format": "pcm", "sample_rate": 16_000},
                chunks=counted(self.first, SIZE, spacing=self.spacing),
                deadline=time.monotonic() + 2 * PATIENT,
            )
            self.texts += (event.sentence.text for event in events if isinstance(event, Final))
        finally:
            self.sent_bytes = recognizer.sent_bytes
            recognizer.close()


@pytest.fixture
def linked(service: str) -> Iterator[Callable[..., list[Stream]]]:
    """Makes streams through the proxy, of which three in eight end before their time; all of it follows from a seed."""
    port = service.split(":")[2].split("/")[0]
    with Chaos(int(port)) as chaos:

        def streams(seed: int) -> list[Stream]:
            chance, made = random.Random(seed), []
            for number in range(STREAMS):
                end = ENDS[number // 2 % 4] if number % 2 else "none"
                # Somewhere between the handshake and the last of the audio, which all has to pass.
                through = chaos.link(f"{seed} {number}", end, chance.randrange(SIZE))
                url = service.replace(port, str(through))
                made.append(Stream(url, end, chance.randrange(65_536), chance.choice([0.0, 0.0, 0.02, 0.1])))
            return made

        yield streams


@pytest.mark.parametrize("seed", [4, 44])
def test_streams_that_are_not_cut_are_exact_and_those_that_are_can_be_tried_again(
    linked: Callable[[int], list[Stream]], certificate: Path, seed: int
) -> None:
    others = set(threading.enumerate())
    streams, loop = linked(seed), Loop()
    context = ssl.create_default_context(cafile=str(certificate))
    try:
        with ThreadPoolExecutor(STREAMS) as callers:
            list(callers.map(lambda stream: stream.run(loop, context), streams))
        for number, stream in enumerate(streams):
            exact = sentences(stream.first, SIZE)
            if stream.end == "none":
                assert (stream.error, stream.texts) == (None, exact), (seed, number)
            else:
                assert isinstance(stream.error, TransportError) and stream.error.retryable, (seed, number, stream)
                assert stream.texts == exact[: len(stream.texts)] and len(stream.texts) < len(exact), (seed, number)
        figures = loop.figures()
        assert (figures["loop_streams"], figures["loop_restarts"]) == (0, 0)
        assert figures["loop_audio_bytes"] == sum(stream.sent_bytes for stream in streams)
        assert figures["loop_messages"] >= sum(19 for stream in streams if stream.end == "none")
    finally:
        loop.close(10)
    assert not [thread for thread in set(threading.enumerate()) - others if thread.name == "io-loop"]
