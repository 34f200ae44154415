"""What a pool asks about what it lends: five methods."""

from typing import Protocol, TypeVar

T = TypeVar("T")


class Hooks(Protocol[T]):
    """All that a pool may ask: never while it holds its lock, and never two things at once about one resource."""

    def open(self) -> T:
        """Make a new one: slow, in a background thread. Must end by itself: give it a timeout.

        An error whose `retryable` is False says that trying again cannot help: those who wait are told at once.
        """
        ...

    def is_healthy(self, resource: T) -> bool:
        """May this one, idle until now, be lent? Cheap, no I/O."""
        ...

    def is_reusable(self, resource: T) -> bool:
        """May this one, just given back, be lent again? Ask its protocol's state, not how the borrower ended."""
        ...

    def close(self, resource: T) -> None:
        """End it: slow, may fail, should not raise. In a forked child: only let go of it, at once."""
        ...

    def abort(self, resource: T) -> None:
        """Cut it off at once while its borrower may be using it in another thread, who then gets an error.

        `close` is still called when it comes back.
        """
        ...
