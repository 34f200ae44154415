"""A proxy must be no more than a distance: all bytes, in order, both ways, and each end's end."""

import asyncio
import contextlib
import random
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from bench.delay import KINDS, Delay, Handshake, Line
from bench.proxy import Proxy
from emulator.stack import Process, free_port

PATIENCE = 20.0
ROUND_TRIP = 0.05
HOST = "127.0.0.1"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Server = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Visit = Callable[[Proxy, Callable[[], Awaitable[Streams]]], Awaitable[None]]

every_delay = pytest.mark.parametrize(
    "delay", [partial(KINDS[kind], seconds) for kind in sorted(KINDS) for seconds in (0.0, 0.01)], ids=str
)


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.005)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


class Scene:
    """A server behind a proxy. What is connected is closed at the end, and then the proxy must hold nothing."""

    def __init__(self, server: Server, delay: Callable[[], Delay], visit: Visit) -> None:
        self._server = server
        self._delay = delay
        self._visit = visit
        self._writers: list[asyncio.StreamWriter] = []
        self._serving = 0

    async def play(self) -> None:
        async with await asyncio.start_server(self._serve, HOST, 0) as listener:
            proxy = Proxy(HOST, listener.sockets[0].getsockname()[1], self._delay)
            port = await proxy.start()
            await self._visit(proxy, lambda: self._connect(port))
            for writer in self._writers:
                await close(writer)
            await until(lambda: proxy.links == self._serving == 0)
            await proxy.stop()

    async def _connect(self, port: int) -> Streams:
        reader, writer = await asyncio.open_connection(HOST, port)
        self._writers.append(writer)
        return reader, writer

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving += 1
        await self._server(reader, writer)
        await close(writer)
        self._serving -= 1


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def through(server: Server, delay: Callable[[], Delay], visit: Visit) -> None:
    """Let a visitor connect to a server through a proxy, in bounded time."""
    asyncio.run(asyncio.wait_for(Scene(server, delay, visit).play(), PATIENCE))


@every_delay
def test_bytes_come_whole_and_in_order_both_ways(delay: Callable[[], Delay]) -> None:
    sent = random.Random(1).randbytes(2_000_000)

    async def visit(proxy: Proxy, connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        sending = asyncio.create_task(send(writer))
        assert await reader.read(-1) == sent
        await sending

    async def send(writer: asyncio.StreamWriter) -> None:
        for at in range(0, len(sent), 7919):
            writer.write(sent[at : at + 7919])
            await writer.drain()
        writer.write_eof()

    through(echo, delay, visit)


@every_delay
def test_a_client_that_has_said_all_still_hears_the_answer(delay: Callable[[], Delay]) -> None:
    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"you said " + await reader.read(-1))

    async def visit(proxy: Proxy, connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        writer.write(b"all")
        writer.write_eof()
        assert await reader.read(-1) == b"you said all"

    through(server, delay, visit)


@every_delay
def test_a_server_that_hangs_up_ends_the_client_after_its_last_word(delay: Callable[[], Delay]) -> None:
    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")

    async def visit(proxy: Proxy, connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        assert await reader.read(-1) == b"bye"

    through(server, delay, visit)


@every_delay
def test_a_client_that_vanishes_ends_the_server(delay: Callable[[], Delay]) -> None:
    left: list[bytes] = []

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        left.append(await reader.read(-1))

    async def visit(proxy: Proxy, connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        await reader.readexactly(5)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
        writer.transport.abort()
        await until(lambda: left == [b""])

    through(server, delay, visit)


def test_a_server_that_does_not_read_holds_the_client_back_and_loses_nothing() -> None:
    sent, got = bytes(32_000_000), []
    gate = asyncio.Event()

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        got.append(await reader.read(-1))
        writer.write(b"done")

    async def visit(proxy: Proxy, connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        await until(lambda: proxy.links == 2)
        writer.write(sent)
        writer.write_eof()
        await until(lambda: not all(end.transport and end.transport.is_reading() for end in proxy._ends))
        gate.set()
        assert await reader.read(-1) == b"done"

    through(server, partial(Line, 0.0), visit)
    assert got == [sent]


def test_many_connections_do_not_mix() -> None:
    async def visit(proxy: Proxy, connect: Callable[[], Awaitable[Streams]]) -> None:
        await asyncio.gather(*(talk(connect, b"%d." % number) for number in range(100)))

    async def talk(connect: Callable[[], Awaitable[Streams]], word: bytes) -> None:
        reader, writer = await connect()
        for _ in range(5):
            writer.write(word)
            assert await reader.readexactly(len(word)) == word

    through(echo, partial(Line, 0.01), visit)


def test_a_client_of_a_target_that_is_not_there_is_hung_up_on() -> None:
    async def scene() -> None:
        proxy = Proxy(HOST, free_port(), partial(Line, 0.0))
        reader, writer = await asyncio.open_connection(HOST, await proxy.start())
        assert await reader.read(-1) == b""
        await close(writer)
        await until(lambda: proxy.links == 0)
        await proxy.stop()

    asyncio.run(asyncio.wait_for(scene(), PATIENCE))


def test_a_proxy_that_stops_hangs_up_on_both_ends() -> None:
    async def visit(proxy: Proxy, connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        assert proxy.links == 2
        await proxy.stop()
        assert await reader.read(-1) == b""

    through(echo, partial(Line, 0.0), visit)


@pytest.mark.parametrize(("kind", "turns"), [(Line, [2, 1, 1]), (Handshake, [2, 0, 0])])
def test_each_turn_takes_its_round_trips(kind: Callable[[float], Delay], turns: list[int]) -> None:
    """At least: how much later it is depends on the machine."""

    async def visit(proxy: Proxy, connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        for round_trips in turns:
            began = time.monotonic()
            writer.write(b"GET")
            assert await reader.readexactly(3) == b"GET"
            assert time.monotonic() - began >= round_trips * ROUND_TRIP

    through(echo, partial(kind, ROUND_TRIP), visit)


def test_the_command_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as listener:
        listener.settimeout(PATIENCE)
        target = str(listener.getsockname()[1])
        command = [sys.executable, "-m", "bench.proxy", "--to", target, "--round-trip-ms", "1", "--on", "handshake"]
        process = Process("proxy", command, {"PYTHONPATH": str(Path(__file__).parents[2])}, tmp_path)
        try:
            process.wait_until(lambda it: "listening on " in it.output)
            port = int(process.output.split(":")[-1])
            with socket.create_connection((HOST, port), PATIENCE) as client:
                client.sendall(b"x")
                served, _ = listener.accept()
                with served:
                    served.settimeout(PATIENCE)
                    assert served.recv(1) == b"x"
        finally:
            assert process.stop() == 0
