"""How much later bytes would arrive over a distance. Pure: knows no socket and no clock.

A proxy on the same machine accepts at once, so the round trip of TCP's own handshake cannot be delayed where it
happens. Either kind adds it to what the client says first.
"""

from collections.abc import Callable
from typing import Final, Protocol

TLS_HANDSHAKE: Final = b"\x16"  # a record's content type, RFC 8446, 5.1


class Delay(Protocol):
    """One connection's delays. A later byte may be given an earlier time: keeping the order is for who asks."""

    def up(self, data: bytes, now: float) -> float:
        """When these bytes of the client reach the server."""
        ...

    def down(self, data: bytes, now: float) -> float:
        """When these bytes of the server reach the client."""
        ...


class Line:
    """The real thing: all bytes travel half a round trip, for the connection's whole life."""

    def __init__(self, round_trip: float) -> None:
        self._round_trip = round_trip
        self._answered = False

    def up(self, data: bytes, now: float) -> float:
        return now + self._round_trip * (0.5 if self._answered else 1.5)

    def down(self, data: bytes, now: float) -> float:
        self._answered = True
        return now + self._round_trip * 0.5


class Handshake:
    """Only the opening is far away: after it bytes pass at once, so that what is left is what a warm connection saves.

    The opening is a number of turns, each a flight of the client and an answer: of TLS 1.3 its ClientHello, then its
    Finished together with the upgrade; without TLS the upgrade alone. The whole round trip is laid on the flight.
    """

    def __init__(self, round_trip: float) -> None:
        self._round_trip = round_trip
        self._turn = 0
        self._turns = 1
        self._is_asking = False

    def up(self, data: bytes, now: float) -> float:
        if not self._is_asking:
            self._is_asking = True
            self._turn += 1
        if self._turn == 1 and data.startswith(TLS_HANDSHAKE):
            self._turns = 2
        if self._turn > self._turns:
            return now
        return now + self._round_trip * (2 if self._turn == 1 else 1)

    def down(self, data: bytes, now: float) -> float:
        self._is_asking = False
        return now


KINDS: Final[dict[str, Callable[[float], Delay]]] = {"handshake": Handshake, "line": Line}
"""What is far away: the connection's opening, or all of it."""
