"""python -m bench.proxy: a TCP proxy that adds a round trip, so that one machine can stand for two far apart.

Timers of the event loop are up to a millisecond late, never early.
"""

import argparse
import asyncio
import collections
import functools
import signal
import sys
from collections.abc import Callable, Sequence

from bench.delay import KINDS, Delay

BACKLOG = 1024
CONNECT_TIMEOUT = 10.0
HOST = "127.0.0.1"


class End(asyncio.Protocol):
    """One end of a link. What it hears, the other end says when it is due, in the same order."""

    other: "End"

    def __init__(
        self, due: Callable[[bytes, float], float], made: Callable[["End"], None], lost: Callable[["End"], None]
    ) -> None:
        self.transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._due_after = due
        self._made = made
        self._lost = lost
        self._due = 0.0
        self._steps: collections.deque[Callable[[], None]] = collections.deque()
        self._ended = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._made(self)

    def data_received(self, data: bytes) -> None:
        self._later(data, functools.partial(self.other.say, data))

    def eof_received(self) -> bool:
        self._later(b"", self.other.say_end)
        self._end_one_way()
        return True  # the other direction lives on

    def connection_lost(self, exc: Exception | None) -> None:
        self._later(b"", self.other.close)
        self._lost(self)

    def pause_writing(self) -> None:
        self.other.listen(False)

    def resume_writing(self) -> None:
        self.other.listen(True)

    def listen(self, is_on: bool) -> None:
        """Whether to take more, or to let the sender wait."""
        if self.transport is not None:
            (self.transport.resume_reading if is_on else self.transport.pause_reading)()

    def say(self, data: bytes) -> None:
        """Send, unless nobody is there any more."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def say_end(self) -> None:
        """Send no more."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write_eof()
            self._end_one_way()

    def close(self) -> None:
        """Hear no more; what is still to be sent is sent."""
        if self.transport is not None:
            self.transport.close()

    def _end_one_way(self) -> None:
        self._ended += 1
        if self._ended == 2:
            self.close()

    def _later(self, data: bytes, step: Callable[[], None]) -> None:
        now = self._loop.time()
        self._due = max(self._due, self._due_after(data, now))
        if self._due <= now and not self._steps:
            step()
        else:
            # Timers of the same moment may fire in any order, and it does not matter: each takes the oldest step.
            self._steps.append(step)
            self._loop.call_at(self._due, self._take_step)

    def _take_step(self) -> None:
        self._steps.popleft()()


class Proxy:
    """Links each client to a connection of its own to the target. A client's reset is passed on as an orderly end."""

    def __init__(self, host: str, port: int, delay: Callable[[], Delay]) -> None:
        self._target = host, port
        self._delay = delay
        self._ends: set[End] = set()
        self._dialling: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None

    @property
    def links(self) -> int:
        """How many ends are connected, two for each client."""
        return len(self._ends)

    async def start(self, port: int = 0) -> int:
        """Listen on this machine only; return the port."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._accept, HOST, port, backlog=BACKLOG)
        found: int = self._listener.sockets[0].getsockname()[1]
        return found

    async def stop(self) -> None:
        """Stop listening and cut what is linked."""
        if self._listener is not None:
            self._listener.close()
        for task in self._dialling:
            task.cancel()
        await asyncio.gather(*self._dialling, return_exceptions=True)
        for end in self._ends:
            end.close()

    def _accept(self) -> End:
        delay = self._delay()
        near = End(delay.up, self._near_made, self._ends.discard)
        near.other = End(delay.down, self._far_made, self._ends.discard)
        near.other.other = near
        return near

    def _near_made(self, near: End) -> None:
        self._ends.add(near)
        near.listen(False)  # what it says has nowhere to go yet
        task = asyncio.get_running_loop().create_task(self._dial(near))
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)

    def _far_made(self, far: End) -> None:
        self._ends.add(far)
        far.other.listen(True)

    async def _dial(self, near: End) -> None:
        connecting = asyncio.get_running_loop().create_connection(lambda: near.other, *self._target)
        try:
            await asyncio.wait_for(connecting, CONNECT_TIMEOUT)
        except OSError:  # TimeoutError is one
            near.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m bench.proxy", description="A TCP proxy that adds a round trip.")
    parser.add_argument("--to", type=int, required=True, metavar="PORT", help="where to, on this machine")
    parser.add_argument("--round-trip-ms", type=float, default=0.0, help="(%(default)g)")
    parser.add_argument("--on", choices=sorted(KINDS), default="line", help="what is far away (%(default)s)")
    options = parser.parse_args(argv)
    delay = functools.partial(KINDS[options.on], options.round_trip_ms / 1000)
    asyncio.run(_serve(Proxy(HOST, options.to, delay)))
    return 0


async def _serve(proxy: Proxy) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    print(f"proxy listening on {HOST}:{await proxy.start()}", file=sys.stderr, flush=True)
    await stop.wait()
    await proxy.stop()


if __name__ == "__main__":
    sys.exit(main())
