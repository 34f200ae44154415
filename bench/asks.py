"""python -m bench.asks URL: the same requests to a text model by four ways in turn.

A process of its own, beside that of the service. Prints one line of JSON: for each way and round the seconds of each
request, how long all took, and how many connections the service saw.
"""

import argparse
import asyncio
import json
import ssl
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import aiohttp

from worker.generation import Caller, Client, Limits, Prompt, decode
from worker.generation.client import http_limits
from worker.generation.messages import PATH, Reply
from worker.generation.sync import SyncClient
from worker.http import HttpPool

PATIENCE = 60.0
PROMPT = Prompt(model="qwen-plus", text="What was said? " * 40)
CALLER = Caller(api_key="emulator")

Figures = dict[str, Any]


class Ways:
    """`at_once` requests are under way at the same time, each after the one before it."""

    def __init__(self, base_url: str, at_once: int) -> None:
        self._base_url = base_url
        self._at_once = at_once
        self._limits = Limits(requests=at_once, requests_per_host=at_once)
        self._context = ssl.create_default_context()

    def all(self) -> dict[str, Callable[[int], list[float]]]:
        """By name: each takes how many requests to send and gives the seconds of each."""
        return {
            "sync kept": self.sync_kept,
            "sync fresh": self.sync_fresh,
            "async kept": self.async_kept,
            "async fresh": self.async_fresh,
        }

    def sync_kept(self, count: int) -> list[float]:
        """As a worker asks a single thing."""
        http = HttpPool(http_limits(self._limits), allow_private=True, context=self._context)
        with closing(SyncClient(http, PATIENCE)) as client:
            return self._in_threads(count, lambda: self._post(client))

    def sync_fresh(self, count: int) -> list[float]:
        """The same, but each request makes its own connection. The TLS context, which costs far more, is shared."""

        def ask() -> None:
            http = HttpPool(http_limits(self._limits), allow_private=True, context=self._context)
            with closing(SyncClient(http, PATIENCE)) as client:
                self._post(client)

        return self._in_threads(count, ask)

    def async_kept(self, count: int) -> list[float]:
        """As a worker asks about the parts of a long text."""
        client = Client(self._base_url, self._limits, self._context)

        def ask() -> None:
            future = client.begin(PROMPT, CALLER, alone=False, patience=PATIENCE)
            assert future is not None
            decode(future.result(PATIENCE), PROMPT)

        try:
            return self._in_threads(count, ask)
        finally:
            client.close(PATIENCE)

    def async_fresh(self, count: int) -> list[float]:
        """A session of aiohttp for each request, as one finds it in many a program."""
        return asyncio.run(self._async_fresh(count))

    async def _async_fresh(self, count: int) -> list[float]:
        turns, times = asyncio.Semaphore(self._at_once), []

        async def ask() -> None:
            async with turns:
                began = time.monotonic()
                connector = aiohttp.TCPConnector(ssl=self._context)
                async with (
                    aiohttp.ClientSession(connector=connector) as session,
                    session.post(self._url, headers=CALLER.headers(), data=PROMPT.encode()) as response,
                ):
                    decode(Reply(status=response.status, body=await response.read()), PROMPT)
                times.append(time.monotonic() - began)

        await asyncio.gather(*(ask() for _ in range(count)))
        return times

    @property
    def _url(self) -> str:
        return self._base_url + PATH

    def _post(self, client: SyncClient) -> None:
        decode(client.post(self._url, CALLER.headers(), PROMPT.encode()), PROMPT)

    def _in_threads(self, count: int, ask: Callable[[], None]) -> list[float]:
        def timed(_: int) -> float:
            began = time.monotonic()
            ask()
            return time.monotonic() - began

        with ThreadPoolExecutor(self._at_once) as threads:
            return list(threads.map(timed, range(count)))


def race(base_url: str, book_url: str, count: int, at_once: int, rounds: int) -> Figures:
    """Round by round each way once, so that what disturbs the machine disturbs all; the first round is practice."""
    ways = Ways(base_url, at_once).all()
    book = HttpPool(allow_private=True)
    laps: dict[str, list[Figures]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            _logbook(book, book_url, "DELETE")
            began = time.monotonic()
            times = way(count)
            took = time.monotonic() - began
            seen = _logbook(book, book_url, "GET")["summary"]["generation_connections"]
            laps[name].append({"times": times, "seconds": took, "connections": seen})
    book.close()
    return {name: lap[1:] for name, lap in laps.items()}


def _logbook(book: HttpPool, url: str, method: str) -> Figures:
    response = book.request(method, f"{url}/logbook")
    body = response.read()
    response.release_conn()
    return dict(json.loads(body or b"{}"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the race and print its figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.asks", description="One request, four ways.")
    parser.add_argument("url", help="the base of the HTTP interface")
    parser.add_argument("--book", required=True, help="the service's own address, where its logbook is")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(argv)
    print(json.dumps(race(options.url, options.book, options.requests, options.at_once, options.rounds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
