"""One thread and one epoll for all clients of the load server."""

import os
import select
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench.load.control import Control
from bench.load.figures import Figures
from bench.load.link import IN, Link
from bench.load.script import Script
from bench.load.speech import Speech

BACKLOG: Final = 8192
HOST: Final = "127.0.0.1"
ACCEPTS: Final = 64  # at one go: those already here wait meanwhile


class Server:
    """Listens from the moment it is made; works while `serve()` runs; `close()` lets go of everything."""

    def __init__(self, port: int = 0, certificate: Path | None = None, script: Script | None = None) -> None:
        self.figures = Figures()
        self._script = script or Script()
        self._tls = _context(certificate) if certificate else None
        self._listener = _listener(port)
        self._control = _listener(0)
        self._stop = os.eventfd(0, os.EFD_NONBLOCK)
        self._epoll = select.epoll()
        self._ready: dict[int, Callable[[int], None]] = {}
        self._clients: dict[int, Link | Control] = {}
        self._add(self._listener.fileno(), lambda _: self._accept(self._listener, self._link))
        self._add(self._control.fileno(), lambda _: self._accept(self._control, self._ask))
        self._epoll.register(self._stop, IN)

    def __repr__(self) -> str:
        return f"<Server {self.url} {self.figures!r}>"

    @property
    def url(self) -> str:
        scheme = "wss" if self._tls else "ws"
        return f"{scheme}://{HOST}:{self._listener.getsockname()[1]}/api-ws/v1/inference"

    @property
    def figures_url(self) -> str:
        return f"http://{HOST}:{self._control.getsockname()[1]}/figures"

    def serve(self) -> None:
        """Until `stop()`."""
        ready = self._ready
        while True:
            for fd, events in self._epoll.poll():
                if fd == self._stop:
                    return
                # Whoever was dropped a moment ago may still be among these events.
                if (act := ready.get(fd)) is not None:
                    act(events)

    def stop(self) -> None:
        """End `serve()`, from any thread or signal handler."""
        os.eventfd_write(self._stop, 1)

    def close(self) -> None:
        """After `serve()`: close all that is open."""
        for client in list(self._clients.values()):
            self._forget(client)
        self._listener.close()
        self._control.close()
        self._epoll.close()
        os.close(self._stop)

    def _accept(self, listener: socket.socket, admit: Callable[[socket.socket], Link | Control]) -> None:
        for _ in range(ACCEPTS):
            try:
                sock = listener.accept()[0]
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                client = admit(sock)
            except BlockingIOError:
                return
            except OSError:  # out of files, or gone already
                self.figures.errors += 1
                return
            self._clients[client.fd] = client
            self._add(client.fd, client.ready)

    def _link(self, sock: socket.socket) -> Link:
        if self._tls is not None:
            sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self.figures.accepted += 1
        self.figures.connections += 1
        return Link(sock, Speech(self._script, self.figures), self.figures, self._epoll.modify, self._forget)

    def _ask(self, sock: socket.socket) -> Control:
        return Control(sock, self.figures, self._forget)

    def _add(self, fd: int, act: Callable[[int], None]) -> None:
        self._ready[fd] = act
        self._epoll.register(fd, IN)

    def _forget(self, client: Link | Control) -> None:
        self._epoll.unregister(client.fd)
        del self._ready[client.fd], self._clients[client.fd]
        self.figures.connections -= isinstance(client, Link)
        client.close()


def _listener(port: int) -> socket.socket:
    listener = socket.create_server((HOST, port), backlog=BACKLOG)
    listener.setblocking(False)
    return listener


def _context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context
