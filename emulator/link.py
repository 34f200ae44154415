"""One accepted WebSocket: what can be done to it, politely or not."""

import asyncio
import contextlib
import select
import socket
import struct

from aiohttp import WSMessage, WSMsgType, web

__all__ = ["Link"]

STALL_CHECK_SECONDS = 0.2
CLOSE_SECONDS = 1.0
MAX_REASON = 123  # a control frame holds 125 bytes, two of them the code


class Link:
    """Sends, closes, aborts. Sending on a link that has ended raises ConnectionError."""

    def __init__(self, ws: web.WebSocketResponse, transport: asyncio.Transport) -> None:
        self._ws = ws
        self._transport = transport
        self._deadline: asyncio.TimerHandle | None = None
        self.stalled = False
        self.read_pause = 0.0

    @property
    def is_lost(self) -> bool:
        return self._transport.is_closing()

    async def receive(self) -> WSMessage:
        """The next message. A link that is stalled gives none any more, only the end when the client has gone."""
        if self.read_pause:
            await asyncio.sleep(self.read_pause)
        message: WSMessage = await self._ws.receive()
        while self.stalled:
            if self.is_lost or self._has_hung_up():
                return WSMessage(WSMsgType.CLOSED, None, None)
            await asyncio.sleep(STALL_CHECK_SECONDS)
        return message

    def _has_hung_up(self) -> bool:
        """Whether the client has gone, though what it sent before is still unread: the transport would not see it."""
        sock = self._transport.get_extra_info("socket")
        if sock is None:
            return True
        watch = select.poll()
        watch.register(sock.fileno(), getattr(select, "POLLRDHUP", select.POLLHUP))  # Linux has the first
        return bool(watch.poll(0))

    async def send(self, text: str) -> None:
        self._check()
        await self._ws.send_str(text)

    async def send_bytes(self, data: bytes) -> None:
        self._check()
        await self._ws.send_bytes(data)

    async def pong(self, payload: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            await self._ws.pong(payload)

    def close(self, code: int, reason: str = "") -> None:
        """Say goodbye. Goes on reading until the client has answered, at most a second.

        The library's own close would end TCP at once if somebody reads at the time. With the client's audio unread
        that is a reset, and the client might never see our last event and the close code.
        """
        if self._deadline is None:
            body = struct.pack(">H", code) + reason.encode()[:MAX_REASON]
            self._transport.write(bytes((0x88, len(body))) + body)
            self._deadline = asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._transport.close)

    async def end(self) -> None:
        """Reading is over: answer the client's goodbye, if it was the first to say it, and end TCP."""
        if self._deadline is None:
            await self._ws.close()
        else:
            self._deadline.cancel()
            self._transport.close()

    def _check(self) -> None:
        if self._deadline is not None:
            raise ConnectionResetError("the link is closing")

    def abort(self) -> None:
        """End the TCP connection with a reset."""
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            # Linger on with time zero: the kernel sends RST instead of FIN.
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def truncate(self) -> None:
        """Send the first half of a text frame, then end the TCP connection."""
        self._transport.write(b"\x81\x7e" + struct.pack(">H", 400) + b'{"header":{"task_id":"')
        self._transport.close()
