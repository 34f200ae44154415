"""Keys, signed addresses and transcripts reach no log, event, Flower page, error or `inspect` answer."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

Site = Any
SECRET = "signature-4711"


@pytest.fixture
def server(counter: Callable[[float], Path]) -> Iterator[str]:
    """Serves a recording of one second to those who know the signature, and 500 to others."""
    body = counter(1).read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = SECRET in self.path and "broken" not in self.path
            self.send_response(200 if known else 403)
            self.send_header("Content-Length", str(len(body) if known else 0))
            self.end_headers()
            if known:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://user:pass-{SECRET}@127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join(10)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_signed_address_stays_secret_and_the_transcript_out_of_the_logs(
    sites: Callable[..., Site], server: str, pool: str
) -> None:
    site = sites(pool, STENOPOOL_AUDIO_ALLOW_PRIVATE="true", STENOPOOL_JOB_BACKOFF="0.1")
    events: list[dict[str, Any]] = []
    ready, done = threading.Event(), threading.Event()
    watcher = threading.Thread(target=capture, args=(site, events, ready, done))
    watcher.start()
    assert ready.wait(10)

    site.fault(kind="task_failed", value="InternalError")
    result = site.transcribe(f"{server}/call.wav?{SECRET}", pace=0, metadata={"name": SECRET})
    code, sentence = site.failure(f"{server}/broken.wav?{SECRET}")
    record = site.record(result["job_id"])
    done.set()
    watcher.join(20)

    assert result["text"] == "0-15999"
    assert result["audio"] == record["audio"] and SECRET not in record["audio"]
    assert code == "audio_forbidden" and SECRET not in sentence
    told = json.dumps(events)
    assert result["attempts"] == 2
    assert all(kind in told for kind in ("task-sent", "task-retried", "task-succeeded", "task-failed"))
    for place in (told, site.worker.output):
        assert SECRET not in place and "0-15999" not in place


def capture(site: Site, events: list[dict[str, Any]], ready: threading.Event, done: threading.Event) -> None:
    """Note every event that workers send, as Flower does, until the failed job's event came (or a bound)."""
    until = time.monotonic() + 60
    with site.client.connection_for_read() as connection:
        receiver = site.client.events.Receiver(connection, handlers={"*": events.append})
        with receiver.consumer_context() as (own, _, _):
            ready.set()
            while time.monotonic() < until:
                with contextlib.suppress(TimeoutError):
                    own.drain_events(timeout=0.1)
                if done.is_set() and any(event["type"] == "task-failed" for event in events):
                    return
