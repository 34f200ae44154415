"""How a job looks in logs, events, `inspect` and Flower: its recording without the query, its options by name only."""

from typing import Any

from celery.worker.request import Request

from config.logs import redacted


class RedactedRequest(Request):
    """A request whose arguments are shown redacted, whatever the client sent as their representation."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._argsrepr = self.request_dict["argsrepr"] = repr(tuple(map(_shown, self.args)))
        self._kwargsrepr = self.request_dict["kwargsrepr"] = repr(_named(self.kwargs))

    def info(self, safe: bool = True) -> Any:
        """What `inspect active` shows; never the raw arguments."""
        return super().info(safe=True)


def _shown(argument: object) -> str:
    return redacted(argument)[:200] if isinstance(argument, str) else "…"


def _named(options: dict[str, object]) -> dict[str, str]:
    return {name: _shown(value) if name == "audio" else "…" for name, value in options.items()}
