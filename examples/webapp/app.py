"""A web app around Stenopool: `uvicorn --factory examples.webapp.app:create`.

Upload a recording or name an address, watch the text appear, read it along with the sound, download captions. It knows
Celery and Redis, and nothing of Stenopool's own code.
"""

import asyncio
import contextlib
import mimetypes
import re
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from celery.exceptions import OperationalError
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from .asking import asked_for, options, recording
from .events import Relay
from .guard import Guard
from .jobs import ANSWER, Entry, Jobs
from .settings import Settings, from_environment
from .uploads import Uploads
from .view import ENDED, View

STATIC: Final = Path(__file__).parent / "static"

SWEEP_EVERY: Final = 600.0
"""Seconds between two looks for uploads that nobody needs."""

EVENT_ID: Final = re.compile(r"\d{1,20}(-\d{1,20})?")

AWAY: Final = "Redis cannot be reached just now. Your jobs go on; this page comes back by itself."


class App:
    """The routes, over what they need."""

    def __init__(self, settings: Settings) -> None:
        self.redis: Redis = Redis.from_url(
            settings.redis_url,
            decode_responses=True,
            # Longer than a relay waits for an event: else each wait would end as if the server were gone.
            socket_timeout=ANSWER,
            socket_connect_timeout=ANSWER,
            retry=Retry(NoBackoff(), 1),
        )
        self.jobs = Jobs(self.redis, settings.redis_url, settings.ttl)
        self.view = View(self.redis)
        self.relay = Relay(self.redis, self.view, settings.most_watchers, settings.heartbeat)
        self.uploads = Uploads(settings.uploads, settings.most_upload, settings.most_uploads)

    def routes(self) -> list[Route | Mount]:
        return [
            Route("/", page),
            Route("/jobs/{id}", page),
            Mount("/static", StaticFiles(directory=STATIC)),
            Route("/api/uploads", self.upload, methods=["POST"]),
            Route("/api/jobs", self.recent, methods=["GET"]),
            Route("/api/jobs", self.send, methods=["POST"]),
            Route("/api/jobs/{id}", self.job),
            Route("/api/jobs/{id}/cancel", self.cancel, methods=["POST"]),
            Route("/api/jobs/{id}/events", self.events),
            Route("/api/jobs/{id}/audio", self.audio),
            Route("/api/jobs/{id}/captions.{format}", self.captions),
        ]

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        sweeper = asyncio.create_task(self._sweep())
        yield
        sweeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sweeper
        self.jobs.close()
        await self.redis.aclose()

    async def upload(self, request: Request) -> Response:
        """The body is the file. It goes to disk as it comes."""
        length = request.headers.get("content-length", "")
        upload_id = await self.uploads.save(request.stream(), int(length) if length.isdecimal() else 0)
        return JSONResponse({"upload": upload_id}, 201)

    async def send(self, request: Request) -> Response:
        """Put a job on the queue: of an upload, or of an address."""
        asked = await asked_for(request)
        entry, reference = recording(asked, self.uploads)
        await self.jobs.send(entry, reference, options(asked))
        return JSONResponse({"id": entry.id}, 201)

    async def recent(self, request: Request) -> Response:
        entries = await self.jobs.recent()
        conditions = await self.view.conditions([(entry.id, entry.name) for entry in entries])
        return JSONResponse({"jobs": [_shown(*pair) for pair in zip(entries, conditions, strict=True)]})

    async def job(self, request: Request) -> Response:
        entry = await self._entry(request)
        return JSONResponse(_shown(entry, await self.view.snapshot(entry.id, entry.name)))

    async def cancel(self, request: Request) -> Response:
        entry = await self._entry(request)
        if (await self.view.condition(entry.id, entry.name))["state"] not in ENDED:
            await self.jobs.cancel(entry.id)
        return JSONResponse({"id": entry.id}, 202)

    async def events(self, request: Request) -> Response:
        entry = await self._entry(request)
        # A browser names the last event by itself when it comes back; a page that begins in the middle asks so.
        after = request.headers.get("last-event-id") or request.query_params.get("after", "0")
        if not EVENT_ID.fullmatch(after):
            raise HTTPException(400, "There is no such event.")
        if self.relay.is_full:
            raise HTTPException(503, "Too many pages follow a job just now; this one tries again.")
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # a proxy shall not collect them
        messages = self.relay.follow(entry.id, entry.name, after)
        return StreamingResponse(messages, media_type="text/event-stream", headers=headers)

    async def audio(self, request: Request) -> Response:
        """The recording, by ranges, as players ask for it. Whatever was uploaded, it is never a page of ours."""
        entry = await self._entry(request)
        if (path := self.uploads.find(entry.id)) is None:
            raise HTTPException(404, "The recording is not kept any more.")
        kind = mimetypes.guess_type(entry.name)[0] or ""
        media = kind if kind.startswith(("audio/", "video/")) else "application/octet-stream"
        return FileResponse(path, media_type=media, headers={"Content-Security-Policy": "sandbox"})

    async def captions(self, request: Request) -> Response:
        entry, format = await self._entry(request), request.path_params["format"]
        if (text := await self.view.caption(entry.id, format)) is None:
            raise HTTPException(404, f"There are no captions in the format {format[:20]}.")
        name = quote(f"{Path(entry.name).stem}.{format}", safe="")
        kind = "text/vtt" if format == "vtt" else "text/plain"
        headers = {"Content-Disposition": f"attachment; filename*=utf-8''{name}"}
        return Response(text, media_type=kind, headers=headers)

    async def _entry(self, request: Request) -> Entry:
        if (entry := await self.jobs.entry(request.path_params["id"])) is None:
            raise HTTPException(404, "There is no such job; it may be too old.")
        return entry

    async def _sweep(self) -> None:
        while True:
            with contextlib.suppress(RedisError):  # what cannot be asked for is kept
                await self.uploads.sweep(self.jobs.may_need)
            await asyncio.sleep(SWEEP_EVERY)


def _shown(entry: Entry, condition: dict[str, Any]) -> dict[str, Any]:
    return asdict(entry) | condition


async def page(request: Request) -> Response:
    """One page for all; its script shows the job that the address names."""
    return FileResponse(STATIC / "index.html")


async def refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def away(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": AWAY}, 503)


async def left(request: Request, error: Exception) -> Response:
    """The browser has gone in the middle of its request; nobody reads this."""
    return Response(status_code=400)


def create(settings: Settings | None = None) -> Starlette:
    """The app. Nothing is connected before the first request."""
    settings = settings or from_environment()
    app = App(settings)
    return Starlette(
        routes=app.routes(),
        lifespan=app.lifespan,
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(settings.hosts)), Middleware(Guard)],
        exception_handlers={HTTPException: refused, RedisError: away, OperationalError: away, ClientDisconnect: left},
    )
