"""How much of a recording we are willing to take."""

from dataclasses import dataclass

__all__ = ["AudioLimits"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioLimits:
    """Bounds for one recording: sizes in bytes, times in seconds.

    `read_timeout` is for one wait; `min_bytes_per_second` ends a server that drips, counting only the time spent
    waiting for it. Of the processor's time, decoding may take `decode_seconds` more than the sound lasts.
    """

    max_bytes: int = 4 * 1024**3
    max_seconds: float = 12 * 3600.0
    decode_seconds: float = 30.0
    connect_timeout: float = 5.0
    read_timeout: float = 10.0
    min_bytes_per_second: float = 100.0
    max_redirects: int = 5

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_seconds", "decode_seconds", "connect_timeout", "read_timeout"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be more than 0")
