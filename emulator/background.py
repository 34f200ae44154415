"""The same server in a thread, on a port of its own, for tests."""

import asyncio
import ssl
import threading
from types import TracebackType
from typing import Self

from emulator.engines import Engine
from emulator.limits import Limits
from emulator.logbook import Logbook
from emulator.server import API_PATH, INFERENCE_PATH, Server

__all__ = ["BackgroundEmulator"]

START_SECONDS = 10.0
STOP_SECONDS = 5.0


class BackgroundEmulator:
    """A running emulator as a context manager.

    `url` is the recognition endpoint, `http_url` the root for /logbook and /faults, `api_url` the base of the HTTP
    interface. `faults` and `logbook` may be used from any thread, and stay readable after the end. To play an outage,
    stop one and start another with the same `port` and `logbook`.
    """

    def __init__(
        self,
        engine: Engine | None = None,
        limits: Limits | None = None,
        api_key: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        keep_audio: bool = False,
        port: int = 0,
        logbook: Logbook | None = None,
    ) -> None:
        self._server = Server(engine, limits, api_key, ssl_context, keep_audio, logbook)
        self._secure = "s" if ssl_context else ""
        self.faults = self._server.faults
        self.logbook = self._server.logbook
        self.port = port
        self._up = threading.Event()
        self._error: OSError | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="emulator", daemon=True)

    def __repr__(self) -> str:
        return f"<BackgroundEmulator {self.url} {self.logbook!r}>"

    @property
    def url(self) -> str:
        return f"ws{self._secure}://127.0.0.1:{self.port}{INFERENCE_PATH}"

    @property
    def http_url(self) -> str:
        return f"http{self._secure}://127.0.0.1:{self.port}"

    @property
    def api_url(self) -> str:
        return self.http_url + API_PATH

    def start(self) -> None:
        """Return once it listens. Raises OSError when the port cannot be had."""
        self._thread.start()
        if not self._up.wait(START_SECONDS):
            raise RuntimeError(f"the emulator did not start within {START_SECONDS:g} s")
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """End the server and drop its connections. A second call does nothing."""
        if self._loop is not None and self._end is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(STOP_SECONDS)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    async def _main(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        try:
            self.port = await self._server.start(port=self.port)
        except OSError as exc:
            self._error = exc
            return
        finally:
            self._up.set()
        await self._end.wait()
        await self._server.stop()
