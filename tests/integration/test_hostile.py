"""Servers that mean harm, or are broken: each costs a job a bounded time, and nobody else anything."""

import contextlib
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.recordings import counting, written
from tests.sites import Launch, Site, ending

READ_TIMEOUT = 1.0
LONGEST = 15.0
"""Seconds in which the last of all jobs has ended, sent at once."""

Talk = Callable[[socket.socket, threading.Event], None]


def says(answer: bytes) -> Talk:
    return lambda client, _: client.sendall(answer)


def head(*lines: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


def leads_to(location: str) -> Talk:
    return says(head(f"Location: {location}", "Content-Length: 0", status="302 Found"))


def again_and_again(begin: bytes, more: bytes, pause: float = 0.0) -> Talk:
    def talk(client: socket.socket, stop: threading.Event) -> None:
        client.sendall(begin)
        while not stop.wait(pause):
            client.sendall(more)

    return talk


def cuts(client: socket.socket, stop: threading.Event) -> None:
    client.sendall(head("Content-Length: 100000") + bytes(50_000))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def waits(client: socket.socket, stop: threading.Event) -> None:
    stop.wait(60)


def bomb() -> bytes:
    packed = zlib.compress(bytes(30_000_000), 9, wbits=31)
    return head("Content-Encoding: gzip", f"Content-Length: {len(packed)}") + packed


@dataclass(frozen=True, slots=True)
class Trick:
    """What a server does, and how the job ends that falls for it."""

    talk: Talk
    code: str
    scheme: str = "http"


WAV = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\1\0\1\0\x80\x3e\0\0\0\x7d\0\0\2\0\x10\0data\xff\xff\xff\xff"
TRICKS: dict[str, Trick] = {
    "never answers": Trick(waits, "audio_timeout"),
    "a head that drips": Trick(again_and_again(b"HTTP/1.1 200 OK\r\nA: ", b"b", 0.1), "audio_timeout"),
    "a head without end": Trick(again_and_again(head("A: b")[:-2], b"A: b\r\n"), "bad_answer"),
    "a body that drips": Trick(again_and_again(head("Content-Length: 100000"), b"x", 0.1), "audio_timeout"),
    "a body without end": Trick(again_and_again(head() + WAV, bytes(10_000)), "audio_too_large"),
    "chunks that never begin": Trick(
        again_and_again(head("Transfer-Encoding: chunked") + b"5", b";", 0.1), "audio_timeout"
    ),
    "a length that is too long": Trick(says(head("Content-Length: 1000") + WAV), "audio_interrupted"),
    "a length that is too short": Trick(says(head("Content-Length: 20") + WAV + bytes(64_000)), "not_audio"),
    "a length beyond all": Trick(says(head(f"Content-Length: {10**15}")), "audio_too_large"),
    "a reset in the middle": Trick(cuts, "audio_interrupted"),
    "another part": Trick(
        says(head("Content-Range: bytes 500-999/1000", "Content-Length: 500", status="206 Partial") + bytes(500)),
        "bad_answer",
    ),
    "a bomb": Trick(says(bomb()), "not_audio"),
    "no HTTP": Trick(says(b"220 ready\r\n"), "bad_answer"),
    "no TLS": Trick(says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "audio_tls", "https"),
    "a TLS that drips": Trick(again_and_again(b"\x16\x03\x03\x3f\xff", b"\0", 0.1), "audio_timeout", "https"),
    "a circle": Trick(leads_to("/again"), "too_many_redirects"),
    "to the metadata service": Trick(leads_to("http://169.254.169.254/latest/"), "forbidden_address"),
    "to it in one number": Trick(leads_to("http://2852039166/latest/"), "forbidden_address"),
    "to it in IPv6": Trick(leads_to("http://[::ffff:a9fe:a9fe]/latest/"), "forbidden_address"),
    "to a file": Trick(leads_to("file:///etc/passwd"), "forbidden_redirect"),
    "to a store": Trick(leads_to("s3://bucket/key"), "forbidden_redirect"),
}
PRIVATE = ["127.0.0.1", "[::1]", "2130706433", "0177.0.0.1", "0x7f.1", "localhost", "[::ffff:127.0.0.1]"]


class Host:
    """A server of one trick."""

    def __init__(self, trick: Trick) -> None:
        self._trick, self._stop = trick, threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        self.url = f"{trick.scheme}://127.0.0.1:{self._listening.getsockname()[1]}/call.wav?Signature=hush"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self._threads.append(threading.Thread(target=self._talk, args=(client,)))
                self._threads[-1].start()

    def _talk(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            client.recv(4096)
            self._trick.talk(client, self._stop)

    def close(self) -> None:
        self._stop.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(10)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How all of it ended."""

    errors: dict[str, tuple[str, str]]
    good: list[str]
    seconds: float
    output: str


@pytest.fixture(scope="module")
def outcome(stack: Any, databases: list[int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    """One worker, all tricks at once, and honest jobs among them."""
    honest = written(Path(stack.folder) / "audio", counting(1)).as_uri()
    hosts = {name: Host(trick) for name, trick in TRICKS.items()}
    with ending(stack, databases) as start:
        site = start(
            "threads",
            how=Launch(concurrency=len(TRICKS) + 4),
            STENOPOOL_AUDIO_ALLOW_PRIVATE="true",
            STENOPOOL_AUDIO_CONNECT_TIMEOUT=str(READ_TIMEOUT),
            STENOPOOL_AUDIO_READ_TIMEOUT=str(READ_TIMEOUT),
            STENOPOOL_AUDIO_MAX_BYTES="20000000",
            STENOPOOL_JOB_RETRIES="0",
        )
        began = time.monotonic()
        bad = {name: site.send(host.url, pace=0) for name, host in hosts.items()}
        good = [site.send(honest, pace=0) for _ in range(8)]
        texts = [job.get(timeout=LONGEST)["text"] for job in good]
        errors = {name: ended(job) for name, job in bad.items()}
        yield Outcome(errors, texts, time.monotonic() - began, site.worker.output)
        for host in hosts.values():
            host.close()


def ended(job: Any) -> tuple[str, str]:
    error = job.get(timeout=2 * LONGEST, propagate=False)
    assert job.state == "FAILURE", error
    code, sentence = error.args
    return code, sentence


@pytest.mark.parametrize("name", TRICKS)
def test_a_trick_ends_in_a_code_and_a_sentence(outcome: Outcome, name: str) -> None:
    code, sentence = outcome.errors[name]
    assert code == TRICKS[name].code, sentence
    assert sentence.endswith(".") and "127.0.0.1" in sentence and len(sentence) < 300
    assert "hush" not in sentence


def test_other_jobs_do_not_notice(outcome: Outcome) -> None:
    assert outcome.good == ["0-15999"] * 8


def test_all_of_it_is_over_soon_and_nothing_of_it_is_in_the_log(outcome: Outcome) -> None:
    assert outcome.seconds < LONGEST
    assert "Traceback" not in outcome.output and "hush" not in outcome.output


def test_no_spelling_of_a_private_address_is_let_through(threads: Site) -> None:
    """Without leave for private networks; by a redirect it is the same guard, at the same place."""
    jobs = {host: threads.send(f"http://{host}:1/a.wav") for host in PRIVATE}
    assert {host: ended(job)[0] for host, job in jobs.items()} == dict.fromkeys(PRIVATE, "forbidden_address")
