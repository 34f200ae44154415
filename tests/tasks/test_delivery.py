import json
import logging
import re
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from email.utils import formatdate
from pathlib import Path
from time import monotonic, time
from typing import Any

import pytest
import redis

from config.callback import CallbackSettings
from config.settings import Settings
from emulator.stack import free_port
from tasks import delivery
from tasks.delivery import NotTaken, pause, post, retry_after, run, signature
from tasks.errors import Unavailable
from tasks.job.callback import Callback
from tasks.job.keys import JobKeys
from tasks.job.outbox import SLOWEST, Due, Outbox
from tasks.job.record import JobRecord
from tasks.job.view import JobView
from tests.receivers import SECRET, Receiver, drips, hangs_up, slow, status
from worker.http import HttpPool

Receive = Callable[..., Receiver]
KEYS = JobKeys("j")
TOKEN = "token-4711"


@pytest.fixture
def rules(given: Callable[..., Settings]) -> Callable[..., CallbackSettings]:
    """The rules by default, but for what is given; with a secret."""
    return lambda **changed: given(STENOPOOL_CALLBACK_SECRET=SECRET, **changed).callback


@pytest.fixture
def http() -> Iterator[HttpPool]:
    pool = HttpPool(allow_private=True)
    yield pool
    pool.close()


def ended(client: redis.Redis, url: str, text: str = "it") -> Outbox:
    """The job `j` has ended, and this address is to be told."""
    client.delete(*KEYS)
    callback = Callback(url=url, metadata=b'{"case":7}', queue="transcribe")
    record = JobRecord(client, "j", ttl=100, lease=10, callback=callback)
    record.claim("https://h/a", "w@h")
    record.succeeded({"duration_ms": 1, "text": text})
    return outbox(client)


def outbox(client: redis.Redis) -> Outbox:
    return Outbox(client, "j", ttl=100)


def again(client: redis.Redis) -> Outbox:
    """The time of the next try has come."""
    client.hset(KEYS.callback, "next_at", 1)
    return outbox(client)


def due(url: str, body: bytes = b"{}", tries: int = 1) -> Due:
    return Due(url=url, body=body, delivery="d", tries=tries)


# -- it is taken -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [200, 201, 202, 204, 299])
def test_what_the_receiver_takes_is_delivered_once(
    client: redis.Redis, receive: Receive, http: HttpPool, rules: Any, view: JobView, code: int
) -> None:
    receiver = receive(code)
    assert run(ended(client, f"{receiver.url}/told?t={TOKEN}"), http, rules()) is None

    (call,) = receiver.calls
    assert call.path == f"/told?t={TOKEN}" and call.is_signed
    assert (call.told["state"], call.told["metadata"], call.told["result"]["text"]) == ("succeeded", {"case": 7}, "it")
    sent = ("Content-Type", "User-Agent", "X-Stenopool-Delivery", "Content-Length")
    assert [call.headers[name] for name in sent] == [
        "application/json",
        "stenopool",
        call.told["delivery_id"],
        str(len(call.body)),
    ]
    assert view.fields()["callback"] == "delivered" and not client.exists(KEYS.callback)

    assert run(outbox(client), http, rules()) is None
    assert len(receiver.calls) == 1


def test_the_signature_is_the_one_that_others_compute() -> None:
    # printf '{"a":1}' | openssl dgst -sha256 -hmac 'a-secret-of-the-tests-own'
    assert signature(b'{"a":1}', SECRET) == "sha256=" + OPENSSL


OPENSSL = "74f3ad01bbee96ea68ac8d98c0d7ddcb15d9b072c6f7a2fd38e370f2b938f059"


def test_one_connection_serves_many_callbacks(
    client: redis.Redis, receive: Receive, http: HttpPool, rules: Any
) -> None:
    receiver = receive(200, 204, status(200, b"thank you"), status(500, b"x" * 4096), 200)
    found = rules()
    for number in range(5):
        run(ended(client, receiver.url) if number != 4 else again(client), http, found)
    assert len(receiver.calls) == 5 and receiver.connections == 1


def test_an_answer_of_any_length_costs_a_little_of_it_and_the_connection(
    client: redis.Redis, receive: Receive, http: HttpPool, rules: Any, view: JobView
) -> None:
    receiver = receive(status(200, b"x" * 10_000_000))
    for _ in range(2):
        run(ended(client, receiver.url), http, rules())
        assert view.fields()["callback"] == "delivered"
    assert receiver.connections == 2


def test_one_that_says_ok_and_then_breaks_off_has_it(
    client: redis.Redis, receive: Receive, http: HttpPool, rules: Any, view: JobView
) -> None:
    def breaks_off(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.close_connection = True

    run(ended(client, receive(breaks_off).url), http, rules())
    assert view.fields()["callback"] == "delivered"


def test_a_large_result_arrives_whole(client: redis.Redis, receive: Receive, http: HttpPool, rules: Any) -> None:
    receiver = receive()
    run(ended(client, receiver.url, "x" * 5_000_000), http, rules())
    assert len(receiver.calls[0].told["result"]["text"]) == 5_000_000 and receiver.calls[0].is_signed


# -- a fault that passes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504, 599])
def test_a_status_that_passes_is_tried_again(
    client: redis.Redis, receive: Receive, http: HttpPool, rules: Any, view: JobView, code: int
) -> None:
    receiver = receive(code, 200)
    seconds = run(ended(client, receiver.url), http, rules())
    assert seconds is not None and 0 <= seconds <= 5
    assert (view.fields()["callback"], view.fields()["callback_error"]) == (
        "due",
        f"Its receiver answered with status {code}.",
    )
    assert run(again(client), http, rules()) is None
    first, second = receiver.calls
    assert first.body == second.body
    assert first.headers["X-Stenopool-Delivery"] == second.headers["X-Stenopool-Delivery"]


def nobody() -> str:
    return f"http://127.0.0.1:{free_port()}"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (hangs_up, "hung up without an answer"),
        (slow(3), "did not answer in time"),
        (drips, "did not answer in time"),
        (None, "takes no connection"),
    ],
)
def test_so_is_a_connection_that_fails_and_none_takes_long(
    client: redis.Redis, receive: Receive, http: HttpPool, rules: Any, view: JobView, answer: Any, why: str
) -> None:
    url, began = receive(answer).url if answer else nobody(), monotonic()
    assert run(ended(client, f"{url}/{TOKEN}"), http, rules(STENOPOOL_CALLBACK_TIMEOUT="0.3")) is not None
    assert monotonic() - began < 2
    fields = view.fields()
    assert fields["callback"] == "due" and why in fields["callback_error"]
    assert TOKEN not in str(fields) and "127.0.0.1" not in str(fields)


def test_so_is_a_host_that_nobody_knows(client: redis.Redis, rules: Any, view: JobView) -> None:
    def unknown(*_: object, **__: object) -> Any:
        raise OSError("no such name")

    run(ended(client, "https://app.example/"), HttpPool(resolve=unknown), rules())
    assert view.fields()["callback_error"] == "Its host is not known."


def test_so_is_a_certificate_that_is_not_trusted_for_it_may_be_renewed(
    client: redis.Redis, receive: Receive, http: HttpPool, rules: Any, view: JobView, certificate: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    receiver = receive(200, context=context)
    assert run(ended(client, receiver.url), http, rules()) is not None
    assert "check the certificate" in view.fields()["callback_error"]
    trusting = HttpPool(allow_private=True, context=ssl.create_default_context(cafile=str(certificate)))
    assert run(again(client), trusting, rules()) is None
    trusting.close()
    assert view.fields()["callback"] == "delivered"


def test_a_receiver_that_takes_no_more_of_the_body_is_left_in_time(
    http: HttpPool, rules: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert SLOWEST == 128 * 1024
    monkeypatch.setattr(delivery, "SLOWEST", 100 * 1024**2)
    with socket.create_server(("127.0.0.1", 0)) as listening:  # what the kernel takes for it is soon full
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        with pytest.raises(NotTaken) as error:
            post(http, due(url, b"x" * 20 * 1024**2), rules(STENOPOOL_CALLBACK_TIMEOUT="0.1"))
    assert error.value.passes and error.value.why == "Its receiver did not take the whole body in time."


def test_so_is_one_that_takes_no_connection(http: HttpPool, rules: Any) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening, ExitStack() as others:
        place = listening.getsockname()
        for _ in range(3):  # nobody takes these, so there is no room for another
            waiting = others.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(place)
        with pytest.raises(NotTaken) as error:
            post(http, due(f"http://127.0.0.1:{place[1]}/"), rules(STENOPOOL_CALLBACK_TIMEOUT="0.1"))
    assert error.value.passes and error.value.why == "Its receiver took no connection in time."


@pytest.mark.parametrize(("said", "asked"), [("7", 7.0), ("0", 0.0), (None, 0.0), ("soon", 0.0), ("-5", 0.0)])
def test_a_receiver_that_says_when_is_not_asked_before(
    client: redis.Redis, receive: Receive, http: HttpPool, rules: Any, said: str | None, asked: float
) -> None:
    receiver = receive(status(429, Retry_After=said) if said else 429)
    seconds = run(ended(client, receiver.url), http, rules(STENOPOOL_CALLBACK_BACKOFF="0.5"))
    assert seconds is not None and asked <= seconds <= asked + 0.5


def test_it_may_say_it_by_the_clock() -> None:
    assert 58 <= retry_after(formatdate(time() + 60, usegmt=True)) <= 60
    assert retry_after(formatdate(time() - 60, usegmt=True)) == 0
    assert retry_after("Mon, 99 Foo 9999999999") == 0


def test_it_cannot_ask_for_ever(rules: Any) -> None:
    assert retry_after("9" * 400) > 1e8
    found = rules(STENOPOOL_CALLBACK_BACKOFF_MAX="60", STENOPOOL_CALLBACK_BACKOFF="1")
    assert 60 <= pause(1, 1e9, found) <= 61


@pytest.mark.parametrize(("tries", "most"), [(1, 5), (2, 10), (3, 20), (11, 3600), (16, 3600)])
def test_the_waits_double_up_to_a_bound_and_are_jittered(rules: Any, tries: int, most: float) -> None:
    found = rules()
    waits = [pause(tries, 0.0, found) for _ in range(500)]
    assert 0 <= min(waits) < most / 4 and 3 * most / 4 < max(waits) <= most


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_a_receiver_that_never_comes_back_is_given_up(
    client: redis.Redis,
    receive: Receive,
    http: HttpPool,
    rules: Any,
    view: JobView,
    caplog: pytest.LogCaptureFixture,
    retries: int,
) -> None:
    receiver = receive(500)
    found = rules(STENOPOOL_CALLBACK_RETRIES=str(retries))
    box = ended(client, f"{receiver.url}/{TOKEN}")
    with caplog.at_level(logging.INFO, "worker.tasks"):
        for number in range(retries + 1):
            assert (run(box, http, found) is None) == (number == retries)
            box = again(client) if number < retries else outbox(client)
    assert run(box, http, found) is None
    assert len(receiver.calls) == retries + 1
    assert view.fields()["callback"] == "given_up"
    assert view.fields()["callback_error"] == f"Its receiver answered with status 500. (tries: {retries + 1})"
    assert not client.exists(KEYS.callback)
    given_up = [one for one in caplog.records if "given up" in one.getMessage()]
    assert len(given_up) == 1 and TOKEN not in caplog.text and "127.0.0.1" not in caplog.text


def test_one_whose_every_try_ends_with_the_worker_is_given_up_too(
    client: redis.Redis, receive: Receive, http: HttpPool, rules: Any, view: JobView
) -> None:
    receiver = receive()
    ended(client, receiver.url).take(1.0)
    again(client).take(1.0)
    assert run(again(client), http, rules(STENOPOOL_CALLBACK_RETRIES="1")) is None
    assert view.fields()["callback_error"] == "The worker was lost in each try." and receiver.calls == []


# -- a refusal ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 409, 410, 413, 422, 451])
def test_a_refusal_is_given_up_at_once(
    client: redis.Redis, receive: Receive, http: HttpPool, rules: Any, view: JobView, code: int
) -> None:
    receiver = receive(code, 200)
    assert run(ended(client, receiver.url), http, rules()) is None
    assert run(outbox(client), http, rules()) is None
    assert len(receiver.calls) == 1 and not client.exists(KEYS.callback)
    fields = view.fields()
    assert (fields["callback"], fields["callback_error"]) == (
        "given_up",
        f"Its receiver answered with status {code}.",
    )


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308, 304])
@pytest.mark.parametrize("place", ["http://127.0.0.1:{port}/other", "http://169.254.169.254/latest/meta-data/"])
def test_a_redirect_is_not_followed(
    client: redis.Redis, receive: Receive, http: HttpPool, rules: Any, view: JobView, code: int, place: str
) -> None:
    other = receive()
    receiver = receive(status(code, Location=place.format(port=other.port)))
    assert run(ended(client, receiver.url), http, rules()) is None
    assert other.calls == [] and len(receiver.calls) == 1
    fields = view.fields()
    assert fields["callback"] == "given_up" and f"redirects (status {code})" in fields["callback_error"]


@pytest.mark.parametrize(
    ("host", "private", "cure"),
    [
        ("127.0.0.1", False, True),
        ("10.0.0.1", False, True),
        ("[::1]", False, True),
        ("169.254.169.254", False, False),
        ("169.254.169.254", True, False),
        ("100.100.100.200", True, False),
    ],
)
def test_an_address_that_is_not_allowed_is_not_called(
    client: redis.Redis, rules: Any, view: JobView, host: str, private: bool, cure: bool
) -> None:
    pool = HttpPool(allow_private=private)
    assert run(ended(client, f"http://{host}:1/{TOKEN}"), pool, rules()) is None
    fields = view.fields()
    assert fields["callback"] == "given_up" and "not allowed" in fields["callback_error"]
    assert ("STENOPOOL_AUDIO_ALLOW_PRIVATE" in fields["callback_error"]) == cure
    assert pool.stats()["connections"] == 0 and TOKEN not in fields["callback_error"]


def test_a_name_that_leads_to_a_private_address_is_not_called_either(
    client: redis.Redis, receive: Receive, rules: Any, view: JobView
) -> None:
    receiver = receive()
    pool = HttpPool(resolve=lambda host, port, **_: [(2, 1, 6, "", ("127.0.0.1", port))])
    run(ended(client, f"http://app.example:{receiver.port}/"), pool, rules())
    assert view.fields()["callback"] == "given_up" and receiver.calls == []


def test_a_host_that_no_connection_can_name_is_given_up(client: redis.Redis, http: HttpPool, rules: Any) -> None:
    with pytest.raises(NotTaken) as error:
        post(http, due("http://" + "a" * 70 + ".example:1x/"), rules())
    assert not error.value.passes


# -- who tries ---------------------------------------------------------------------------------------------------------


def test_a_worker_without_the_secret_leaves_it_to_others(
    client: redis.Redis, receive: Receive, http: HttpPool, given: Any, rules: Any, view: JobView
) -> None:
    receiver = receive()
    box = ended(client, receiver.url)
    assert run(box, http, given().callback) is not None
    assert "STENOPOOL_CALLBACK_SECRET" in view.fields()["callback_error"] and receiver.calls == []
    assert run(again(client), http, rules()) is None
    assert receiver.calls[0].is_signed


def test_of_many_who_try_at_once_one_does_and_the_others_wait(
    client: redis.Redis, receive: Receive, http: HttpPool, rules: Any
) -> None:
    receiver = receive(slow(0.5))
    ended(client, receiver.url)
    found, answers = rules(STENOPOOL_CALLBACK_TIMEOUT="5"), list[float | None]()
    trying = [threading.Thread(target=lambda: answers.append(run(outbox(client), http, found))) for _ in range(5)]
    for one in trying:
        one.start()
    for one in trying:
        one.join(10)
    assert len(receiver.calls) == 1
    waits = [seconds for seconds in answers if seconds is not None]
    assert len(waits) == 4 and all(20 < seconds < 31 for seconds in waits)


def test_a_redis_that_is_away_is_told_to_the_caller(nowhere: redis.Redis, http: HttpPool, rules: Any) -> None:
    with pytest.raises(Unavailable):
        run(outbox(nowhere), http, rules())


def test_the_default_spans_hours(given: Callable[..., Settings]) -> None:
    found = given().callback
    assert (found.secret, found.timeout, found.retries, found.backoff, found.backoff_max) == (None, 15, 15, 5, 3600)
    most = sum(min(found.backoff_max, found.backoff * 2**number) for number in range(found.retries))
    assert 6 < most / 3600 < 7
    assert delivery.MOST_READ == 4096


# -- as the docs say it ------------------------------------------------------------------------------------------------

BODY = '{"text":"十"}'.encode()
SIGNATURES = [
    (signature(BODY, SECRET), True),
    (signature(BODY, SECRET + "x"), False),
    (signature(BODY + b" ", SECRET), False),
    (signature(BODY, SECRET)[:-1], False),
    ("", False),
    ("ö", False),
]


def example(language: str) -> str:
    """What the page shows in this language to check a signature."""
    page = (Path(__file__).parents[2] / "docs" / "callbacks.md").read_text(encoding="utf-8")
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
    return next(block for block in blocks if "hmac" in block.lower())


def test_the_page_s_python_knows_what_is_ours() -> None:
    made: dict[str, Any] = {}
    exec(example("python"), made)
    assert [made["is_ours"](SECRET, BODY, text) for text, _ in SIGNATURES] == [ours for _, ours in SIGNATURES]


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")
def test_so_does_its_javascript() -> None:
    texts = json.dumps([text for text, _ in SIGNATURES])
    asked = f"{texts}.map(t => isOurs({json.dumps(SECRET)}, Buffer.from({json.dumps(BODY.decode())}), t))"
    program = f"{example('js')}\nconsole.log(JSON.stringify({asked}))"
    answer = subprocess.run(["node", "-e", program], capture_output=True, text=True, check=True, timeout=30)
    assert json.loads(answer.stdout) == [ours for _, ours in SIGNATURES]
