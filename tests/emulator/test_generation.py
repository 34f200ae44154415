import http.client
import json
import time
import urllib.request
from http.client import IncompleteRead

import pytest

from emulator import Fault
from emulator.generation import Question, answer
from tests.emulator.test_server import ask

PATH = "/services/aigc/text-generation/generation"
MESSAGES = {"model": "qwen-plus", "input": {"messages": [{"role": "user", "content": "one two three"}]}}
SAID = "You said 3 words: one two three"


def test_the_answer_repeats_a_dozen_words():
    assert answer(" ".join(str(number) for number in range(20))).endswith(": 0 1 2 3 4 5 6 7 8 9 10 11")


def test_messages_are_answered_with_a_message(emulator):
    body = MESSAGES | {"parameters": {"result_format": "message"}}
    status, reply = ask("POST", emulator.api_url + PATH, body, Authorization="Bearer k")
    assert status == 200
    message = {"role": "assistant", "content": SAID}
    assert reply["output"] == {"choices": [{"finish_reason": "stop", "message": message}]}
    assert reply["usage"] == {"input_tokens": 3, "output_tokens": 7, "total_tokens": 10}
    assert emulator.logbook.generations == 1


def test_a_prompt_is_answered_with_text(emulator):
    body = {"model": "qwen-plus", "input": {"prompt": "one two three"}}
    _, reply = ask("POST", emulator.api_url + PATH, body, Authorization="Bearer k")
    assert reply["output"] == {"text": SAID, "finish_reason": "stop"}


@pytest.mark.parametrize("body", [{}, [], {"model": "m"}, {"model": "m", "input": {"messages": []}}])
def test_a_body_without_model_or_prompt_is_refused(emulator, body):
    status, reply = ask("POST", emulator.api_url + PATH, body, Authorization="Bearer k")
    assert (status, reply["code"]) == (400, "InvalidParameter")


def test_without_a_key_there_is_no_answer(emulator):
    assert ask("POST", emulator.api_url + PATH, MESSAGES)[0] == 401


@pytest.mark.parametrize("retry_after", [None, 3])
def test_a_fault_strikes_once(emulator, retry_after):
    emulator.faults.add(Fault(kind="generation_status", value=429, retry_after=retry_after))
    url = emulator.api_url + PATH
    assert [ask("POST", url, MESSAGES, Authorization="Bearer k")[0] for _ in range(2)] == [429, 200]


@pytest.mark.parametrize("incremental", [False, True])
def test_events_come_piece_by_piece(emulator, incremental):
    body = json.dumps(MESSAGES | {"parameters": {"incremental_output": incremental}}).encode()
    headers = {"Authorization": "Bearer k", "X-DashScope-SSE": "enable"}
    with urllib.request.urlopen(urllib.request.Request(emulator.api_url + PATH, body, headers), timeout=5) as response:
        frames = response.read().decode().strip().split("\n\n")
    pieces = [json.loads(frame.split("\ndata:")[1])["output"] for frame in frames]
    assert frames[0].startswith("id:1\nevent:result\n:HTTP_STATUS/200\ndata:")
    assert [piece["finish_reason"] for piece in pieces] == ["null"] * 6 + ["stop"]
    texts = [piece["text"] for piece in pieces]
    assert (texts[-1], "".join(texts) == SAID) == ((" three", True) if incremental else (SAID, False))


def test_a_question_reads_the_last_message():
    messages = [{"content": "old"}, {"content": "new"}]
    assert Question.from_wire({"model": "m", "input": {"messages": messages}}).prompt == "new"


AUTHORIZED = {"Authorization": "Bearer k"}


def test_a_refusal_has_the_code_that_was_ordered(emulator):
    emulator.faults.add(Fault(kind="generation_status", value=400, code="DataInspectionFailed", message="Too rude."))
    status, reply = ask("POST", emulator.api_url + PATH, MESSAGES, **AUTHORIZED)
    assert (status, reply["code"], reply["message"]) == (400, "DataInspectionFailed", "Too rude.")


def test_garbage_is_what_was_ordered_or_no_json(emulator):
    for value, body in ((None, b"<html>Bad Gateway</html>"), ("{}", b"{}")):
        emulator.faults.add(Fault(kind="generation_garbage", value=value))
        request = urllib.request.Request(emulator.api_url + PATH, json.dumps(MESSAGES).encode(), AUTHORIZED)
        with urllib.request.urlopen(request, timeout=5) as response:
            assert (response.status, response.read()) == (200, body)


def test_a_cut_ends_the_connection_in_the_midst_of_the_answer(emulator):
    emulator.faults.add(Fault(kind="generation_cut"))
    request = urllib.request.Request(emulator.api_url + PATH, json.dumps(MESSAGES).encode(), AUTHORIZED)
    with urllib.request.urlopen(request, timeout=5) as response, pytest.raises(IncompleteRead):
        response.read()
    assert emulator.logbook.generations == 0


def test_a_delay_comes_before_the_answer(emulator):
    emulator.faults.add(Fault(kind="generation_delay", value=50))
    began = time.monotonic()
    assert ask("POST", emulator.api_url + PATH, MESSAGES, **AUTHORIZED)[0] == 200
    assert time.monotonic() - began >= 0.05


def test_silence_lasts_until_the_client_has_gone(emulator):
    emulator.faults.add(Fault(kind="generation_silent"))
    with pytest.raises(TimeoutError):
        urllib.request.urlopen(
            urllib.request.Request(emulator.api_url + PATH, json.dumps(MESSAGES).encode(), AUTHORIZED), timeout=0.1
        )
    assert emulator.logbook.wait_until(lambda book: book.generations_open == 0)
    assert (emulator.logbook.generations_asked, emulator.logbook.generations) == (1, 0)


def test_the_logbook_counts_the_connections_of_requests(emulator):
    kept = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=5)
    for _ in range(2):
        kept.request("POST", "/api/v1" + PATH, json.dumps(MESSAGES), AUTHORIZED)
        kept.getresponse().read()
    kept.close()
    ask("POST", emulator.api_url + PATH, MESSAGES, **AUTHORIZED)
    summary = emulator.logbook.summary()
    assert (summary["generations"], summary["generations_asked"], summary["generation_connections"]) == (3, 3, 2)
    assert summary["generations_max"] == 1
