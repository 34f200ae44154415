"""python -m bench.bare URL STREAMS: real-time streams by the least Python that can, until it is killed.

One thread, one epoll, our frames. No pool, no queue, no audio file, no deadline, no transcript: what it costs is the
bound for a client in Python, and what ours costs more is the price of the rest.
"""

import argparse
import heapq
import math
import select
import ssl
import sys
import time
from collections.abc import Sequence

import websocket

from bench.audio import MODEL, PARAMETERS, RATE, SAMPLES
from worker.recognition.frames import BINARY, Dry, Parser, encoded
from worker.recognition.messages import Start, encode
from worker.recognition.parsing import loads

CHUNK = bytes(2 * SAMPLES)
CHUNK_SECONDS = SAMPLES / RATE
TICK = 0.01
"""Seconds. What is due waits for the next multiple, as in the worker."""

READ_SIZE = 65536


class Stream:
    """A task that has started, on a socket that does not block."""

    def __init__(self, url: str, number: int, context: ssl.SSLContext) -> None:
        header, sslopt = ["Authorization: Bearer bench"], {"context": context}
        link = websocket.create_connection(url, header=header, sslopt=sslopt, skip_utf8_validation=True)
        link.send(encode(Start(f"{number:032x}", MODEL, PARAMETERS)))
        link.recv()
        assert link.sock is not None
        self.socket = link.sock
        self.socket.setblocking(False)
        self._link = link  # closes its socket when it is collected
        self._parser = Parser(self._read)

    def send(self) -> None:
        """A tenth of a second of silence."""
        self.socket.send(encoded(CHUNK, BINARY))

    def hear(self) -> None:
        """Read what has come, as a program would."""
        try:
            while True:
                loads(self._parser.message()[1].decode())
        except Dry:
            return

    def _read(self) -> bytes:
        try:
            return bytes(self.socket.recv(READ_SIZE))
        except (BlockingIOError, ssl.SSLWantReadError):
            raise Dry from None


def run(url: str, count: int, over: float) -> None:
    """Start them one after the other, and let them stream. Raises what the first that fails raises."""
    streams: list[Stream] = []
    due: list[tuple[float, int]] = []
    poll, heard, context, began = select.epoll(), {}, ssl.create_default_context(), time.monotonic()
    while True:
        now = time.monotonic()
        while len(streams) < count and now >= began + over * len(streams) / count:
            stream = Stream(url, len(streams), context)
            now = time.monotonic()
            heapq.heappush(due, (now, len(streams)))
            streams.append(stream)
            heard[stream.socket.fileno()] = stream
            poll.register(stream.socket, select.EPOLLIN)
        while due and due[0][0] <= now:
            at, number = due[0]
            streams[number].send()
            heapq.heapreplace(due, (at + CHUNK_SECONDS, number))
        wake = math.ceil(due[0][0] / TICK) * TICK
        for descriptor, _ in poll.poll(max(0.0, wake - time.monotonic())):
            heard[descriptor].hear()


def main(argv: Sequence[str] | None = None) -> int:
    """Run until it is killed."""
    parser = argparse.ArgumentParser(prog="python -m bench.bare", description="Streams by the least Python that can.")
    parser.add_argument("url")
    parser.add_argument("streams", type=int)
    parser.add_argument("--over", type=float, default=2.0, help="seconds to start them in (%(default)g)")
    options = parser.parse_args(argv)
    run(options.url, options.streams, options.over)
    return 1  # no stream ends by itself


if __name__ == "__main__":
    sys.exit(main())
