"""A recording that came with its job."""

import io

__all__ = ["InlineFile"]


class InlineFile(io.BytesIO):
    """Bytes in memory as an audio file."""

    def __init__(self, data: bytes, shown: str) -> None:
        super().__init__(data)
        self.shown = shown
        self.size: int | None = len(data)

    def ready(self, size: int, /) -> bytes:
        return self.read(size)
