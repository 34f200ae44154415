"""Somebody who looks on, and has his way with what he sees."""

import io
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from rich.console import Console

T = TypeVar("T")


class Watcher:
    """Does one thing after each look, and then interrupts."""

    def __init__(self, *acts: Callable[[], Any]) -> None:
        self._screen = io.StringIO()
        self._acts = list(acts)

    def __call__(self) -> None:
        if not self._acts:
            raise KeyboardInterrupt
        self._screen.truncate(0)
        self._acts.pop(0)()

    def sees(self, watch: Callable[[T, Console, Callable[[], None]], None], what: T) -> str:
        """What is on the screen in the end."""
        with pytest.raises(KeyboardInterrupt):
            watch(what, Console(file=self._screen, width=100, force_terminal=True), self)
        return self._screen.getvalue()
