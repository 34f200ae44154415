"""How a job looks in logs, events, `inspect` and Flower: its recording without the query, its options by name only."""

from typing import Any

from celery.worker.request import Request

from config.logs import hidden_arguments, shown_arguments


class RedactedRequest(Request):
    """A request whose arguments are shown redacted, whatever the client sent as their representation."""

    _shown = staticmethod(shown_arguments)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        shown = self._shown(self.args, self.kwargs)
        self._argsrepr, self._kwargsrepr = shown["argsrepr"], shown["kwargsrepr"]
        self.request_dict.update(shown)

    def info(self, safe: bool = True) -> Any:
        """What `inspect active` shows; never the raw arguments."""
        return super().info(safe=True)


class HiddenRequest(RedactedRequest):
    """A request whose arguments are not shown at all."""

    _shown = staticmethod(hidden_arguments)
