"""A recording comes from anywhere: out of a store, or with its job. From elsewhere: test_tls and test_contract."""

import base64
import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.tasks.audio.signatures import SECRET, oss_takes, s3_takes

Site = Any
Counter = Callable[[float], Path]


@pytest.fixture
def store(counter: Counter) -> Iterator[str]:
    """A store of both kinds, which looks at each signature and has one recording under any key."""
    body = counter(1).read_bytes()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            of_aws = "X-Amz-Signature=" in self.path
            host = self.headers["Host"]
            taken = s3_takes(self.path, host) if of_aws else oss_takes(self.path, "calls")
            found = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])
            begin = int(found[1]) if found else 0
            self.send_response(206 if taken else 403)
            part = body[begin:] if taken else b""
            self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(part)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(10)


@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_a_recording_comes_out_of_a_store_or_with_its_job(
    alone: Callable[..., Site], store: str, counter: Counter, tmp_path: Path, pool: str
) -> None:
    nowhere = str(tmp_path / "none")
    site = alone(
        pool,
        STENOPOOL_AUDIO_ALLOW_PRIVATE="true",
        AWS_ENDPOINT_URL_S3=store,
        AWS_ACCESS_KEY_ID="AK",
        AWS_SECRET_ACCESS_KEY=SECRET,
        AWS_CONFIG_FILE=nowhere,
        AWS_SHARED_CREDENTIALS_FILE=nowhere,
        STENOPOOL_OSS_ENDPOINT=store,
        STENOPOOL_OSS_REGION="cn-hangzhou",
        OSS_ACCESS_KEY_ID="AK",
        OSS_ACCESS_KEY_SECRET=SECRET,
    )
    inline = "data:audio/wav;base64," + base64.b64encode(counter(1).read_bytes()).decode()
    given = ["s3://calls/2026/a b.wav", "oss://calls/語音.wav", inline, "s3://calls/c.wav"]

    results = site.run(given, pace=0)

    assert [result["text"] for result in results] == ["0-15999"] * 4
    assert [result["audio"] for result in results] == [*given[:2], "data:audio/wav,…", given[3]]
    told = site.worker.output
    assert all(secret not in told for secret in (SECRET, "Signature", "signature", inline[-100:], "Traceback"))
