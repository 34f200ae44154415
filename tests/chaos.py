"""Audio that proves itself, and a TCP proxy that does to it what networks do."""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self

from worker.recognition import Chunk

CHUNK: Final = 3200
"""Bytes of a chunk, and of what the emulator takes for a sentence of 100 ms."""

SMALL: Final = 4096
"""Bytes that a socket may hold in each direction, as far as the system lets itself be told."""

ENDS: Final = ("none", "reset", "cut", "silence")
"""How a connection ends before its time: not; by RST; by FIN; it stands, and nothing comes through any more."""


def counted(first: int, size: int, *, spacing: float = 0.0) -> Iterator[Chunk]:
    """So many bytes of 16-bit samples that count up from `first`, in chunks `spacing` seconds apart."""
    samples = struct.pack(f"<{size // 2}H", *(number % 65_536 for number in range(first, first + size // 2)))
    for number, at in enumerate(range(0, size, CHUNK)):
        yield Chunk(number * spacing, samples[at : at + CHUNK])


def sentences(first: int, size: int) -> list[str]:
    """What the script engine makes of that by the 100 ms, when every sample comes once and in order."""
    samples = CHUNK // 2
    starts = range(first, first + size // 2, samples)
    return [f"{start % 65_536}-{(start + samples - 1) % 65_536}" for start in starts]


class Over(Exception):
    """So many bytes have passed that the link is to end."""


class Link:
    """One connection through the proxy: both ways in pieces and with pauses as chance will have it.

    It ends by `end` when `end_at` bytes have passed, both ways together.
    """

    def __init__(self, chance: random.Random, end: str, end_at: int) -> None:
        self._chance = chance
        self._end = end
        self._left = end_at

    async def run(self, listener: socket.socket, target: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        with listener:
            near, _ = await loop.sock_accept(listener)
        with small(near), small(socket.socket()) as far:
            await loop.sock_connect(far, target)
            try:
                async with asyncio.TaskGroup() as ways:
                    ways.create_task(self._pass(near, far))
                    ways.create_task(self._pass(far, near))
            except* OSError:
                pass  # one side has gone, so the other one loses it, too
            except* Over:
                await self._perish(near, far)

    async def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(source, SMALL):
            for piece in self._pieces(data):
                if self._end != "none" and self._left < len(piece):
                    await loop.sock_sendall(sink, piece[: self._left])
                    self._left = 0
                    raise Over
                self._left -= len(piece)
                await loop.sock_sendall(sink, piece)
                if self._chance.random() < 0.02:
                    await asyncio.sleep(self._chance.uniform(0.0, 0.05))
        sink.shutdown(socket.SHUT_WR)

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        size = self._chance.choice([1, self._chance.randint(2, 16), self._chance.randint(17, 1024), SMALL])
        few = min(len(data), 40 * size)  # a stretch of single bytes is short: each of them costs two system calls
        for at in range(0, few, size):
            yield data[at : min(at + size, few)]
        if few < len(data):
            yield data[few:]

    async def _perish(self, near: socket.socket, far: socket.socket) -> None:
        for end in (near, far):
            if self._end == "reset":
                # Linger on with time zero: the kernel sends RST instead of FIN.
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif self._end == "cut":
                end.shutdown(socket.SHUT_WR)
        if self._end == "cut":  # closed with something unread it would be a reset
            with contextlib.suppress(OSError):
                while await asyncio.get_running_loop().sock_recv(near, SMALL):
                    pass
        elif self._end == "silence":
            await asyncio.Event().wait()


class Chaos:
    """The proxy before one server, in a thread, as a context manager. Leaving it drops what is still linked."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos", daemon=True)
        self._links: list[asyncio.Task[None]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def link(self, seed: str, end: str = "none", end_at: int = 0) -> int:
        """A port for one connection, whose chances follow from the seed."""
        listener = small(socket.create_server(("127.0.0.1", 0)))
        port: int = listener.getsockname()[1]
        link = Link(random.Random(seed), end, end_at).run(listener, self._target)
        self._loop.call_soon_threadsafe(lambda: self._links.append(self._loop.create_task(link)))
        return port

    async def _stop(self) -> None:
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)


def small(sock: socket.socket) -> socket.socket:
    """The same, not blocking and with the smallest buffers."""
    sock.setblocking(False)
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, SMALL)
    return sock
