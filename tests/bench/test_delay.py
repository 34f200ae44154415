"""Each byte's travel, by the clock of a test."""

import pytest

from bench.delay import KINDS, Delay, Handshake, Line

HELLO = b"\x16\x03\x01"


def travel(delay: Delay, *messages: str | bytes) -> list[float]:
    """How long each message takes; "<" stands for the server's."""
    return [delay.down(b"x", 100.0) - 100 if it == "<" else delay.up(_bytes(it), 100.0) - 100 for it in messages]


def _bytes(message: str | bytes) -> bytes:
    return message if isinstance(message, bytes) else message.encode()


def test_on_a_line_all_bytes_take_half_a_round_trip_and_the_first_flight_the_handshake_of_tcp_too() -> None:
    assert travel(Line(2.0), "GET", "more", "<", "<", "run-task", "<") == [3, 3, 1, 1, 1, 1]


def test_a_plain_opening_is_tcp_and_one_turn() -> None:
    assert travel(Handshake(2.0), "GET", "more of it", "<", "run-task", "<", "audio", "audio") == [4, 4, 0, 0, 0, 0, 0]


def test_a_secured_opening_is_tcp_and_two_turns() -> None:
    seen = travel(Handshake(2.0), HELLO, "<", "<", "Finished", "GET", "<", "run-task", "<")
    assert seen == [4, 0, 0, 2, 2, 0, 0, 0]


def test_what_looks_like_tls_later_on_is_not_taken_for_it() -> None:
    assert travel(Handshake(2.0), "GET", "<", HELLO, "<", HELLO) == [4, 0, 0, 0, 0]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_no_distance_takes_no_time(kind: str) -> None:
    assert set(travel(KINDS[kind](0.0), HELLO, "<", "GET", "<", "run-task")) == {0.0}
