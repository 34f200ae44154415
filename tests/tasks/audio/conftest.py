"""Recordings made on the spot, and web servers of every character: real files and real sockets."""

import contextlib
import io
import ssl
import threading
import wave
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.audio.stream import AudioStream
from av.container import OutputContainer

from tasks.audio.limits import AudioLimits
from worker.http import HttpPool


class MemoryFile(io.BytesIO):
    """Bytes as an audio source, seekable or not, that fails on request."""

    def __init__(self, data: bytes, *, seekable: bool = True, size: int | None = -1) -> None:
        super().__init__(data)
        self.shown = "https://host/call"
        self.size = len(data) if size == -1 else size
        self.largest = self.taken = 0
        self.fails_at: int | None = None
        self.failure: BaseException = OSError()
        self._seekable = seekable

    def seekable(self) -> bool:
        return self._seekable

    def read(self, size: int | None = -1, /) -> bytes:
        if self.fails_at is not None and self.tell() >= self.fails_at:
            raise self.failure
        data = super().read(size)
        self.largest = max(self.largest, len(data))
        self.taken += len(data)
        return data

    def ready(self, size: int, /) -> bytes:
        """Memory is always at hand."""
        return b"" if self.fails_at is not None and self.tell() >= self.fails_at else super().read(size)


class Make:
    """Makes recordings; those that FFmpeg writes go to a folder first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def file(data: bytes, **how: Any) -> MemoryFile:
        return MemoryFile(data, **how)

    @staticmethod
    def counter(samples: int, channels: int = 1) -> bytes:
        """16-bit PCM in which every sample says where it is."""
        return np.repeat((np.arange(samples) % 60000 - 30000).astype("<i2"), channels).tobytes()

    @staticmethod
    def tone(rate: int, seconds: float, loud: int = 8000) -> np.ndarray:
        return (np.sin(2 * np.pi * 440 * np.arange(int(rate * seconds)) / rate) * loud).astype("<i2")

    def wav(self, rate: int = 16000, channels: int = 1, seconds: float = 1.0, pcm: bytes | None = None) -> bytes:
        written = io.BytesIO()
        with wave.open(written, "wb") as file:
            file.setnchannels(channels)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes(self.counter(int(rate * seconds), channels) if pcm is None else pcm)
        return written.getvalue()

    def encoded(
        self,
        name: str,
        codec: str,
        rate: int,
        seconds: float,
        layout: str = "mono",
        container: str | None = None,
        loud: int = 8000,
        **options: str,
    ) -> bytes:
        """A sine of 440 Hz with peaks of `loud` in any container, which is chosen by the name's ending if not named."""
        with av.open(str(self.folder / name), "w", container, options=options) as file:
            stream = file.add_stream(codec, rate=rate, layout=layout)
            assert isinstance(stream, AudioStream)
            if codec.startswith("wma"):
                stream.bit_rate = 64_000
            _sing(file, stream, self.tone(rate, seconds, loud), rate)
        return (self.folder / name).read_bytes()

    def video(
        self,
        name: str,
        seconds: float,
        rate: int = 48000,
        late: float = 0.0,
        sound: bool = True,
        codec: str = "aac",
        short: float = 0.0,
    ) -> bytes:
        """A small film whose sound track begins `late` seconds after the pictures and ends `short` before them."""
        with av.open(str(self.folder / name), "w") as container:
            pictures = container.add_stream("mpeg4", rate=10)
            pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
            stream = container.add_stream(codec, rate=rate, layout="mono") if sound else None
            assert stream is None or isinstance(stream, AudioStream)
            if stream is not None and codec.startswith("wma"):
                stream.bit_rate = 64_000
            for number in range(int(seconds * 10)):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number % 255, np.uint8), format="rgb24")
                frame.pts = number
                container.mux(pictures.encode(frame))
            container.mux(pictures.encode(None))
            if stream is not None:
                _sing(container, stream, self.tone(rate, seconds - late - short), rate, int(late * rate))
        return (self.folder / name).read_bytes()


@pytest.fixture
def make(tmp_path: Path) -> Make:
    folder = tmp_path / "made"
    folder.mkdir()
    return Make(folder)


def _sing(container: OutputContainer, stream: AudioStream, sound: np.ndarray, rate: int, first: int = 0) -> None:
    context = stream.codec_context
    size = context.frame_size or 1024
    fit = av.AudioResampler(format=context.format.name, layout=context.layout.name, rate=rate, frame_size=size)
    at = first
    for begin, end in pairwise([*range(0, len(sound), 1024), len(sound)]):
        frame = av.AudioFrame.from_ndarray(sound[begin:end].reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts = rate, at
        at += end - begin
        for ready in fit.resample(frame):
            container.mux(stream.encode(ready))
    for ready in fit.resample(None):
        container.mux(stream.encode(ready))
    container.mux(stream.encode(None))


class Server:
    """A web server in a thread that answers every GET with `answer`; it notes path and headers of each request."""

    def __init__(self, answer: Callable[[BaseHTTPRequestHandler], None], context: ssl.SSLContext | None = None) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.stop = threading.Event()
        noted = self.requests

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                noted.append((self.path, dict(self.headers)))
                with contextlib.suppress(OSError):
                    answer(self)

            def log_message(self, format: str, *args: object) -> None: ...

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None: ...

        self._server = Quiet(("127.0.0.1", 0), Handler)
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self.stop.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Start servers, and stop them at the end."""
    servers: list[Server] = []

    def start(answer: Callable[[BaseHTTPRequestHandler], None], context: ssl.SSLContext | None = None) -> Server:
        servers.append(Server(answer, context))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def http() -> Iterator[HttpPool]:
    pool = HttpPool(allow_private=True)
    yield pool
    pool.close()


@pytest.fixture
def quick() -> AudioLimits:
    """Patience for tests of servers that have none to expect."""
    return AudioLimits(connect_timeout=2, read_timeout=0.3)
