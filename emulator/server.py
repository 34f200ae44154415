"""The server: one port for recognition (WebSocket), text generation, faults and logbook (HTTP)."""

import asyncio
import contextlib
import hashlib
import os
import ssl
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp import web

from emulator import generation
from emulator.connection import Connection
from emulator.engines import Engine
from emulator.engines.script import ScriptEngine
from emulator.faults import CONNECTION_KINDS, HTTP_KINDS, Fault, Faults
from emulator.generation import until_gone
from emulator.limits import Admission, Limits
from emulator.link import Link
from emulator.logbook import Logbook
from emulator.task import Service

__all__ = ["API_PATH", "INFERENCE_PATH", "Server"]

INFERENCE_PATH = "/api-ws/v1/inference"
API_PATH = "/api/v1"
GENERATION_PATH = f"{API_PATH}/services/aigc/text-generation/generation"
CLOSE_SECONDS = 0.5
BACKLOG = 1024
TOO_FAST = "Request rate increased too quickly, please slow down and try again later."


class Server:
    """Everything behind one port. `start` and `stop` belong to one event loop; the rest may be read from any thread.

    A `logbook` may be handed from server to server; `keep_audio` is for the one that a server makes for itself.
    """

    def __init__(
        self,
        engine: Engine | None = None,
        limits: Limits | None = None,
        api_key: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        keep_audio: bool = False,
        logbook: Logbook | None = None,
    ) -> None:
        self.faults = Faults()
        self.logbook = logbook or Logbook(keep_audio)
        self.engine = engine or ScriptEngine()
        self.limits = limits or Limits()
        self._api_key = api_key
        self._ssl = ssl_context
        self._connections: set[Connection] = set()
        self._asked_before: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()
        self._service: Service | None = None
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen; return the port. Raises OSError when the port cannot be had."""
        loop = asyncio.get_running_loop()
        self._service = self._make_service()
        self._runner = web.AppRunner(self._make_app(), access_log=None, shutdown_timeout=CLOSE_SECONDS)
        await self._runner.setup()
        try:
            self._listener = await loop.create_server(self._accept, host, port, ssl=self._ssl, backlog=BACKLOG)
        except OSError:
            await self.stop()
            raise
        self.faults.on_now(lambda fault: _call_soon(loop, self._strike, fault))
        found: int = self._listener.sockets[0].getsockname()[1]
        return found

    async def stop(self) -> None:
        """Stop listening and drop whoever is connected, within a second or two."""
        if self._listener is not None:
            self._listener.close()
            await _turns()  # who was accepted last is connected
        for connection in list(self._connections):
            connection.abort()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._service is not None:
            self._service.executor.shutdown(wait=False, cancel_futures=True)
        await _turns()  # what was aborted last is closed

    def _make_service(self) -> Service:
        return Service(
            engine=self.engine,
            executor=ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="engine"),
            limits=self.limits,
            admission=Admission(self.limits),
            faults=self.faults,
            logbook=self.logbook,
        )

    def _make_app(self) -> web.Application:
        app = web.Application()
        for path in (INFERENCE_PATH, INFERENCE_PATH + "/"):
            app.router.add_get(path, self._recognise)
        app.router.add_post(GENERATION_PATH, self._generate)
        app.router.add_get("/logbook", self._show_logbook)
        app.router.add_delete("/logbook", self._clear_logbook)
        app.router.add_get("/faults", self._show_faults)
        app.router.add_post("/faults", self._add_faults)
        app.router.add_delete("/faults", self._clear_faults)
        return app

    def _accept(self) -> asyncio.Protocol:
        assert self._runner is not None and self._runner.server is not None
        self.logbook.tcp_opened()
        return self._runner.server()

    def _account(self, request: web.Request) -> str | None:
        """A name for the caller's account, or None if the key is not accepted. The key itself is kept nowhere."""
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key or (self._api_key is not None and key != self._api_key):
            return None
        return hashlib.sha256(key.encode()).hexdigest()

    async def _recognise(self, request: web.Request) -> web.StreamResponse:
        fault = self.faults.take(CONNECTION_KINDS)
        if fault is not None and fault.kind == "accept_never":
            await until_gone(request)
            raise ConnectionResetError("the client has gone")
        if fault is not None and fault.kind == "http_status":
            return self._reject(fault.number(503), fault.code, fault.message, fault.retry_after)
        account = self._account(request)
        if account is None:
            return self._reject(401, "InvalidApiKey", "Invalid API-key provided.")
        ws = web.WebSocketResponse(timeout=CLOSE_SECONDS, autoping=False, autoclose=False, compress=False)
        if not ws.can_prepare(request).ok or request.transport is None:
            return self._reject(400, "InvalidParameter", "This path takes WebSocket upgrades only.")
        assert self._service is not None
        if not self._service.admission.connect(account, time.monotonic()):
            return self._reject(429, "Throttling.BurstRate", TOO_FAST)
        await ws.prepare(request)
        answers_pings = fault is None
        await self._converse(Link(ws, request.transport), account, answers_pings)
        return ws

    async def _converse(self, link: Link, account: str, answers_pings: bool) -> None:
        assert self._service is not None
        number = self.logbook.connection_opened()
        connection = Connection(link, number, account, self._service, answers_pings)
        self._connections.add(connection)
        try:
            await connection.serve()
        finally:
            self._connections.discard(connection)
            self.logbook.connection_closed()

    def _reject(self, status: int, code: str, message: str, retry_after: int | None = None) -> web.Response:
        self.logbook.upgrade_rejected(status)
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        return web.json_response(generation.error_body(code, message), status=status, headers=headers)

    def _strike(self, fault: Fault) -> None:
        for connection in list(self._connections):
            if fault.kind == "abort_all":
                connection.abort()
            elif connection.is_idle:
                connection.hang_up(fault.number(1011), fault.message)

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        is_first = request.transport not in self._asked_before
        if request.transport is not None:
            self._asked_before.add(request.transport)
        self.logbook.generation_asked(is_first=is_first)
        try:
            return await self._answer(request)
        finally:
            self.logbook.generation_ended()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if self._account(request) is None:
            return web.json_response(generation.error_body("InvalidApiKey", "Invalid API-key provided."), status=401)
        fault = self.faults.take(HTTP_KINDS)
        if fault is not None:
            spoilt = await generation.spoilt(request, fault)
            if spoilt is not None:
                return spoilt
        reply = await generation.reply(request)
        self.logbook.generated()
        return reply

    async def _show_logbook(self, request: web.Request) -> web.Response:
        tasks = [task.to_wire("chunks" in request.query) for task in self.logbook.tasks]
        return web.json_response({"summary": self.logbook.summary(), "tasks": tasks})

    async def _clear_logbook(self, request: web.Request) -> web.Response:
        self.logbook.clear()
        return web.Response(status=204)

    async def _show_faults(self, request: web.Request) -> web.Response:
        return web.json_response(self._pending())

    async def _add_faults(self, request: web.Request) -> web.Response:
        try:
            wire = await request.json()
            faults = [Fault.from_wire(item) for item in (wire if isinstance(wire, list) else [wire])]
        except (TypeError, ValueError) as exc:
            return web.json_response({"error": str(exc)}, status=400)
        self.faults.add(*faults)
        return web.json_response(self._pending(), status=201)

    async def _clear_faults(self, request: web.Request) -> web.Response:
        self.faults.clear()
        return web.Response(status=204)

    def _pending(self) -> list[dict[str, Any]]:
        return [fault.to_wire() for fault in self.faults.pending]


async def _turns() -> None:
    """Let the event loop do what it has put off to its next turns."""
    for _ in range(3):
        await asyncio.sleep(0)


def _call_soon(loop: asyncio.AbstractEventLoop, act: Callable[[Fault], None], fault: Fault) -> None:
    # The loop may have ended in the meantime: then nothing is left to close.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(act, fault)
