"""Many requests at a time over one session of aiohttp, in an event loop that has a thread of its own."""

import asyncio
import ssl
import threading
from collections.abc import Mapping
from concurrent.futures import Future

import aiohttp

from worker.generation.errors import Garbled, Lost, Unanswered, Unreachable
from worker.generation.limits import Limits
from worker.generation.messages import Reply, seconds
from worker.generation.sync import BLOCK, MOST_BYTES

START_TIMEOUT = 10.0
"""Seconds for the thread to come up."""


class AsyncClient:
    """Posts from any thread; nothing is made before the first time. One that was closed is begun anew."""

    def __init__(self, limits: Limits, context: ssl.SSLContext) -> None:
        self._limits = limits
        self._context = context
        self._lock = threading.Lock()
        self._room: _Room | None = None

    def begin(self, url: str, headers: Mapping[str, str], body: bytes) -> "Future[Reply]":
        """Post it. To cancel what is returned breaks it off."""
        with self._lock:
            if self._room is None:
                self._room = _Room(self._limits, self._context)
            return self._room.begin(url, headers, body)

    def close(self, timeout: float) -> None:
        """Break off what is under way and close all connections."""
        with self._lock:
            room, self._room = self._room, None
        if room is not None:
            room.close(timeout)


class _Room:
    """A thread with its event loop and its session."""

    def __init__(self, limits: Limits, context: ssl.SSLContext) -> None:
        self._limits = limits
        self._context = context
        self._up: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="generation", daemon=True)
        self._thread.start()
        self._up.result(START_TIMEOUT)

    def begin(self, url: str, headers: Mapping[str, str], body: bytes) -> "Future[Reply]":
        return asyncio.run_coroutine_threadsafe(self._post(url, headers, body), self._loop)

    def close(self, timeout: float) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._up.done():
                raise
            self._up.set_exception(error)

    async def _serve(self) -> None:
        limits = self._limits
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        connector = aiohttp.TCPConnector(
            limit=limits.requests,
            limit_per_host=limits.requests_per_host,
            ssl=self._context,
            keepalive_timeout=limits.idle_time,
        )
        timeout = aiohttp.ClientTimeout(total=limits.timeout, sock_connect=limits.connect_timeout)
        # No cookies: whoever asks next may be another account.
        jar = aiohttp.DummyCookieJar()
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=jar) as self._session:
            self._up.set_result(None)
            await self._end.wait()
            await self._break_off()

    async def _break_off(self) -> None:
        """Before the session is closed, or it would be closed under them."""
        under_way = asyncio.all_tasks() - {asyncio.current_task()}
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        try:
            async with self._session.post(url, headers=headers, data=body, allow_redirects=False) as response:
                return Reply(
                    status=response.status,
                    body=await _read(response),
                    retry_after=seconds(response.headers.get("Retry-After")),
                )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Unreachable(type(error).__name__) from None
        except TimeoutError:
            raise Unanswered from None
        except (aiohttp.ClientError, OSError) as error:
            raise Lost(type(error).__name__) from None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for block in response.content.iter_chunked(BLOCK):
        body += block
        if len(body) > MOST_BYTES:
            raise Garbled(f"it has more than {MOST_BYTES} bytes")
    return bytes(body)
