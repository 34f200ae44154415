"""Both ways of asking, over real sockets."""

import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import pytest

from emulator import BackgroundEmulator, Fault
from emulator.stack import free_port
from worker.generation import (
    REQUESTS,
    Answer,
    Caller,
    Client,
    Garbled,
    Limits,
    Lost,
    Prompt,
    Reply,
    Unanswered,
    Unreachable,
    decode,
)
from worker.recognition import MissingApiKey

Make = Callable[..., Client]
CALLER = Caller(api_key="sk-1", workspace_id="w")
WAYS = pytest.mark.parametrize("alone", [True, False], ids=["sync", "async"])
PATIENCE = 10.0


def prompt(number: int = 0) -> Prompt:
    return Prompt(model="qwen-plus", text=f"part {number}")


def begun(client: Client, alone: bool, number: int = 0, patience: float = PATIENCE) -> "Future[Reply]":
    future = client.begin(prompt(number), CALLER, alone=alone, patience=patience)
    assert future is not None
    return future


def asked(client: Client, alone: bool, number: int = 0) -> Answer:
    return decode(begun(client, alone, number).result(PATIENCE), prompt(number))


def test_the_limits_are_the_vendors_own() -> None:
    assert (Limits().requests, Limits().requests_per_host, Limits().timeout, REQUESTS) == (32, 32, 300.0, 32)
    assert Limits(requests=5, requests_per_host=3).at_once == 3


@WAYS
def test_an_answer_comes_and_the_connection_is_kept(make: Make, emulator: BackgroundEmulator, alone: bool) -> None:
    client = make(emulator.api_url)

    answers = [asked(client, alone, number) for number in range(5)]

    assert [answer.text for answer in answers] == [f"You said 2 words: part {number}" for number in range(5)]
    assert (answers[0].input_tokens, answers[0].output_tokens) == (2, 6)
    assert (emulator.logbook.generations, emulator.logbook.generation_connections) == (5, 1)


@WAYS
def test_no_more_are_under_way_at_once_than_are_allowed(make: Make, emulator: BackgroundEmulator, alone: bool) -> None:
    client = make(emulator.api_url, requests=3)
    emulator.faults.add(Fault(kind="generation_delay", value=20, times=12))

    futures = [begun(client, alone, number) for number in range(12)]
    texts = [decode(future.result(PATIENCE), prompt()).text for future in futures]

    assert texts == [f"You said 2 words: part {number}" for number in range(12)]
    assert (emulator.logbook.generations, emulator.logbook.generations_max) == (12, 3)
    assert emulator.logbook.generation_connections <= 3


def test_both_ways_share_what_is_allowed(make: Make, emulator: BackgroundEmulator) -> None:
    client = make(emulator.api_url, requests_per_host=2)
    emulator.faults.add(Fault(kind="generation_delay", value=200, times=2))
    futures = [begun(client, alone) for alone in (True, False)]

    assert client.begin(prompt(), CALLER, alone=True, patience=0.0) is None
    for future in futures:
        future.result(PATIENCE)
    assert asked(client, alone=True)


@WAYS
def test_a_request_that_fails_gives_its_room_back(make: Make, emulator: BackgroundEmulator, alone: bool) -> None:
    client = make(emulator.api_url, requests=1)
    emulator.faults.add(Fault(kind="generation_cut", times=3))

    for _ in range(3):
        with pytest.raises(Lost):
            asked(client, alone)
    assert asked(client, alone)


@WAYS
def test_over_tls_connections_are_kept_too(
    secured: BackgroundEmulator, make: Make, certificate: Path, alone: bool
) -> None:
    client = make(secured.api_url, ssl.create_default_context(cafile=str(certificate)))

    assert asked(client, alone) and asked(client, alone)
    assert (secured.logbook.generations, secured.logbook.generation_connections) == (2, 1)


@WAYS
def test_a_certificate_that_nobody_vouches_for_is_refused(make: Make, distrusted: str, alone: bool) -> None:
    with pytest.raises(Unreachable):
        asked(make(distrusted), alone)


@WAYS
def test_a_service_that_is_not_there_is_unreachable(make: Make, alone: bool) -> None:
    with pytest.raises(Unreachable) as caught:
        asked(make(f"http://127.0.0.1:{free_port()}/api/v1"), alone)
    assert "127.0.0.1" not in str(caught.value) and "DASHSCOPE_HTTP_BASE_URL" in str(caught.value)


def test_no_key_is_sent_to_a_metadata_service(make: Make) -> None:
    with pytest.raises(Unreachable):
        asked(make("http://169.254.169.254/api/v1"), alone=True)


@WAYS
def test_an_answer_that_does_not_come_has_a_limit(make: Make, emulator: BackgroundEmulator, alone: bool) -> None:
    client = make(emulator.api_url, timeout=0.2)
    emulator.faults.add(Fault(kind="generation_silent"))

    with pytest.raises(Unanswered) as caught:
        asked(client, alone)
    assert caught.value.retryable and "STENOPOOL_GENERATION_TIMEOUT" in str(caught.value)


@WAYS
def test_the_limit_is_for_all_of_it(make: Make, dripping: str, alone: bool) -> None:
    began = time.monotonic()
    with pytest.raises(Unanswered):
        asked(make(dripping, timeout=0.3), alone)
    assert time.monotonic() - began < 3.0


@WAYS
def test_what_is_no_json_is_garbled(make: Make, emulator: BackgroundEmulator, alone: bool) -> None:
    emulator.faults.add(Fault(kind="generation_garbage"))
    with pytest.raises(Garbled):
        asked(make(emulator.api_url), alone)


@WAYS
def test_an_endless_answer_is_not_read(make: Make, emulator: BackgroundEmulator, alone: bool) -> None:
    emulator.faults.add(Fault(kind="generation_garbage", value="x" * (9 * 1024**2)))
    with pytest.raises(Garbled) as caught:
        asked(make(emulator.api_url), alone)
    assert "bytes" in str(caught.value)


@WAYS
def test_a_refusal_is_a_reply_like_any_other(make: Make, emulator: BackgroundEmulator, alone: bool) -> None:
    emulator.faults.add(Fault(kind="generation_status", value=429, retry_after=3, code="Throttling"))
    reply = begun(make(emulator.api_url), alone).result(PATIENCE)
    assert (reply.status, reply.retry_after) == (429, 3.0)


def test_without_a_key_no_connection_is_made(make: Make, emulator: BackgroundEmulator) -> None:
    client = make(emulator.api_url, requests=1)
    for _ in range(2):
        with pytest.raises(MissingApiKey):
            client.begin(prompt(), Caller(api_key=""), alone=True, patience=0.0)
    assert emulator.logbook.tcp == 0
    assert asked(client, alone=True)


def test_a_request_that_is_cancelled_is_broken_off(make: Make, emulator: BackgroundEmulator) -> None:
    client = make(emulator.api_url, requests=1)
    emulator.faults.add(Fault(kind="generation_silent"))
    future = begun(client, alone=False)
    assert emulator.logbook.wait_until(lambda book: book.generations_open == 1)

    assert future.cancel()

    assert emulator.logbook.wait_until(lambda book: book.generations_open == 0)
    assert asked(client, alone=False)


def test_closing_breaks_off_what_is_under_way_and_a_closed_client_begins_anew(
    make: Make, emulator: BackgroundEmulator
) -> None:
    client = make(emulator.api_url)
    emulator.faults.add(Fault(kind="generation_silent"))
    future = begun(client, alone=False)
    assert emulator.logbook.wait_until(lambda book: book.generations_open == 1)

    client.close(PATIENCE)

    with pytest.raises(CancelledError):
        future.result(PATIENCE)
    assert all(asked(client, alone) for alone in (True, False))


def test_nothing_is_made_before_the_first_request(make: Make, emulator: BackgroundEmulator) -> None:
    before: Any = threading.active_count()
    assert repr(make(emulator.api_url)) == "<Client, at most 32 requests at once>"
    assert (threading.active_count(), emulator.logbook.tcp) == (before, 0)
