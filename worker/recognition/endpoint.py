"""Where the service is and as whom we come."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

USER_AGENT: Final = "stenopool/0.1.0"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Endpoint:
    """Where and as whom to connect. Times in seconds; ValueError for a URL or key that no request can carry."""

    url: str
    api_key: str
    workspace_id: str | None = None
    connect_timeout: float = 10.0  # for all of it: TCP, TLS and upgrade
    write_timeout: float = 10.0  # for one message
    close_timeout: float = 1.0  # for the peer's close frame

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if not self.url.startswith(("ws://", "wss://")) or not parts.hostname or not _is_plain(self.url):
            raise ValueError("the URL of the service must be like wss://host/path")
        if self.port == 0 or not _is_plain(self.api_key) or not _is_plain(self.workspace_id or ""):
            raise ValueError("the port, the API key or the workspace id has characters that no request can carry")

    def __repr__(self) -> str:
        parts = urlsplit(self.url)
        return f"<Endpoint {parts.scheme}://{self.host}:{self.port}{parts.path}>"

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        given = urlsplit(self.url).port
        return given if given is not None else 443 if self.is_secure else 80

    @property
    def is_secure(self) -> bool:
        return self.url.startswith("wss:")

    def headers(self) -> list[str]:
        """The lines that the upgrade request needs beside WebSocket's own."""
        lines = [f"Authorization: Bearer {self.api_key}", f"User-Agent: {USER_AGENT}"]
        return lines + ([f"X-DashScope-WorkSpace: {self.workspace_id}"] if self.workspace_id else [])


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text
