"""The example's web app, served for real on a free port, and a client that is no browser."""

import http.client
import json
import threading
import time
from dataclasses import dataclass
from typing import Any

import redis
import uvicorn

from emulator.stack import free_port
from examples.webapp.app import create
from examples.webapp.settings import Settings

SENTENCE = {"begin_time": 0, "end_time": 900, "text": "Hello.", "channel": 0, "words": []}


@dataclass
class Answer:
    """What the app answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return str(self.json["error"])


@dataclass
class Events:
    """A connection over which Server-Sent Events come. A comment's line begins with a colon."""

    answer: http.client.HTTPResponse
    connection: http.client.HTTPConnection

    def next(self) -> dict[str, str]:
        """The next event; none when the server has ended the stream."""
        found: dict[str, str] = {}
        while line := self.answer.readline().decode():
            name, _, value = line.rstrip("\n").partition(": ")
            if name:
                found[name] = value
            elif "event" in found:
                return found
            else:  # the end of what is no event: a comment, or the time after which to come back
                found = {}
        return {}

    def comment(self) -> str:
        """The next comment."""
        while not (line := self.answer.readline().decode()).startswith(":"):
            assert line, "the server has ended the stream"
        return line[1:].strip()

    def close(self) -> None:
        self.answer.close()
        self.connection.close()

    def until(self, kind: str) -> list[dict[str, str]]:
        """All events up to the first of a kind."""
        found = [self.next()]
        while found[-1] and found[-1]["event"] != kind:
            found.append(self.next())
        return found

    def rest(self) -> list[dict[str, str]]:
        found = []
        while event := self.next():
            found.append(event)
        return found


class Web:
    """The app in a thread, and a browser without a screen."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.port = free_port()
        config = uvicorn.Config(
            create(settings), port=self.port, log_config=None, ws="none", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)

    def __enter__(self) -> "Web":
        self._thread.start()
        until = time.monotonic() + 10
        while not self._server.started:
            assert time.monotonic() < until and self._thread.is_alive()
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        assert not self._thread.is_alive()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request. `_` in the name of a header stands for `-`."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        try:
            connection.request(method, path, body if isinstance(body, bytes) else json.dumps(body), sent)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.ask("POST", path, body, **headers)

    def upload(self, body: bytes = b"RIFF") -> str:
        return str(self.post("/api/uploads", body).json["upload"])

    def send(self, **asked: Any) -> str:
        """The id of a job that was put on the queue."""
        return str(self.post("/api/jobs", {"upload": self.upload(), "name": "call.wav"} | asked).json["id"])

    def follow(self, job_id: str, query: str = "", **headers: str) -> Events:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        connection.request("GET", f"/api/jobs/{job_id}/events{query}", headers=sent)
        return Events(connection.getresponse(), connection)


class Worker:
    """Writes what a worker would."""

    def __init__(self, client: redis.Redis, job_id: str) -> None:
        self.key = f"stenopool:job:{{{job_id}}}"
        self.redis = client

    def tell(self, kind: str, data: Any) -> str:
        told: Any = self.redis.xadd(f"{self.key}:events", {"type": kind, "data": json.dumps(data)})
        return str(told.decode())

    def runs(self, **fields: Any) -> None:
        self._set(state="running", **fields)

    def says(self, text: str) -> str:
        sentence = SENTENCE | {"text": text}
        self.redis.rpush(f"{self.key}:sentences", json.dumps(sentence))
        return self.tell("final", sentence)

    def succeeds(self, **captions: str) -> None:
        result = {"sentences": [SENTENCE], "captions": captions, "timing": {"wall_ms": 5}}
        self.tell("state", {"state": "succeeded"})
        self._set(state="succeeded", result=json.dumps(result))

    def fails(self, error: str, **fields: str) -> None:
        self.tell("state", {"state": "failed"})
        self._set(state="failed", error=error, **fields)

    def _set(self, **fields: Any) -> None:
        told: dict[Any, Any] = fields
        self.redis.hset(self.key, mapping=told)
