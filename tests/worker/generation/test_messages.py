import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.generation.errors import Garbled
from worker.generation.messages import Answer, Caller, Prompt, Reply, decode, seconds
from worker.recognition import (
    AccessDenied,
    AccountBlocked,
    InvalidRequest,
    MissingApiKey,
    NotFound,
    RecognitionError,
    ServerFault,
    Throttled,
    Unauthorized,
    UnknownModel,
)

PROMPT = Prompt(model="qwen-plus", text="Sum up.\n\nAlice said hello to everybody in the room.")


def reply(body: object, status: int = 200, retry_after: float | None = None) -> Reply:
    return Reply(status=status, body=json.dumps(body).encode(), retry_after=retry_after)


def said(text: object, reason: str = "stop", **usage: object) -> Reply:
    choice = {"finish_reason": reason, "message": {"role": "assistant", "content": text}}
    return reply({"output": {"choices": [choice]}, "usage": usage})


def refused(status: int, code: str = "", message: str = "", retry_after: float | None = None) -> RecognitionError:
    with pytest.raises(RecognitionError) as caught:
        decode(reply({"code": code, "message": message}, status, retry_after), PROMPT)
    return caught.value


def test_a_prompt_is_sent_as_messages() -> None:
    prompt = Prompt(model="m", text="你好", system="Be brief.", parameters={"temperature": 0.2})
    assert json.loads(prompt.encode()) == {
        "model": "m",
        "input": {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "你好"}]},
        "parameters": {"temperature": 0.2, "result_format": "message"},
    }
    assert "你好".encode() in prompt.encode()


def test_the_same_prompt_is_the_same_bytes() -> None:
    one, other = ({"a": 1, "b": 2}, {"b": 2, "a": 1})
    assert (
        Prompt(model="m", text="t", parameters=one).encode() == Prompt(model="m", text="t", parameters=other).encode()
    )


def test_texts_and_keys_are_in_no_repr() -> None:
    shown = repr((PROMPT, Caller(api_key="sk-secret"), Answer(text="Alice"), said("Alice")))
    assert not any(secret in shown for secret in ("Alice", "sk-secret"))


def test_the_caller_is_named_in_the_headers() -> None:
    assert Caller(api_key="sk-1").headers() == {
        "Authorization": "Bearer sk-1",
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": "stenopool",
    }
    assert Caller(api_key="sk-1", workspace_id="w").headers()["X-DashScope-WorkSpace"] == "w"


def test_without_a_key_nothing_is_asked() -> None:
    with pytest.raises(MissingApiKey):
        Caller(api_key="").headers()


def test_an_answer_is_its_text_and_its_tokens() -> None:
    answer = decode(said("Hello.", input_tokens=7, output_tokens=2), PROMPT)
    assert answer == Answer(text="Hello.", input_tokens=7, output_tokens=2)


def test_an_answer_that_was_cut_off_says_so() -> None:
    assert decode(said("Hel", "length"), PROMPT) == Answer(text="Hel", is_cut=True)


@pytest.mark.parametrize("usage", [None, 5, {"input_tokens": "7"}])
def test_an_answer_whose_usage_cannot_be_read_is_an_answer(usage: object) -> None:
    body = {"output": {"choices": [{"message": {"content": "x"}}]}, "usage": usage}
    assert decode(reply(body), PROMPT) == Answer(text="x")


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"output":{"choices":[]}}', b'{"output":{"choices":[{"message":{"content":5}}]}}'],
)
def test_what_is_no_answer_is_an_error_that_may_pass(body: bytes) -> None:
    with pytest.raises(Garbled) as caught:
        decode(Reply(status=200, body=body), PROMPT)
    assert caught.value.retryable


@given(st.binary(max_size=200), st.integers(200, 599))
def test_no_reply_is_a_traceback(body: bytes, status: int) -> None:
    try:
        decode(Reply(status=status, body=body), PROMPT)
    except RecognitionError as error:
        assert str(error).endswith(".")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "InvalidParameter", InvalidRequest),
        (400, "DataInspectionFailed", InvalidRequest),
        (400, "Something.New", InvalidRequest),
        (400, "InternalError.Algo.InvalidParameter", InvalidRequest),
        (400, "RequestTimeOut", InvalidRequest),
        (400, "Arrearage", AccountBlocked),
        (400, "Throttling.RateQuota", Throttled),
        (401, "InvalidApiKey", Unauthorized),
        (401, "", Unauthorized),
        (403, "AccessDenied.Unpurchased", AccessDenied),
        (403, "AllocationQuota.FreeTierOnly", AccountBlocked),
        (403, "", AccessDenied),
        (404, "ModelNotFound", UnknownModel),
        (404, "", NotFound),
        (302, "", NotFound),
        (408, "RequestTimeOut", ServerFault),
        (429, "", Throttled),
        (429, "Throttling.AllocationQuota", Throttled),
        (500, "InternalError", ServerFault),
        (500, "RequestTimeOut", ServerFault),
        (503, "", ServerFault),
        (200, "Throttling", Throttled),
        (200, "InvalidParameter", InvalidRequest),
    ],
)
def test_a_refusal_is_known_by_its_status_and_its_code(status: int, code: str, kind: type) -> None:
    error = refused(status, code)
    assert type(error) is kind
    assert error.retryable is (kind in (Throttled, ServerFault))


@pytest.mark.parametrize("status", [429, 503])
def test_a_refusal_says_when_to_come_back(status: int) -> None:
    assert getattr(refused(status, retry_after=7.0), "retry_after") == 7.0  # noqa: B009


def test_a_refusal_quotes_the_service() -> None:
    error = refused(400, "InvalidParameter", "Range of max_tokens should be [1, 8192]")
    assert "InvalidParameter: Range of max_tokens should be [1, 8192]" in str(error)


def test_but_not_where_that_quotes_the_text() -> None:
    error = refused(400, "InvalidParameter", "cannot parse 'Alice said hello to everybody' as JSON")
    assert str(error) == f"{InvalidRequest.advice} (InvalidParameter)."


def test_nor_where_the_whole_text_is_short() -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(reply({"code": "InvalidParameter", "message": "what is Zoë?"}, 400), Prompt(model="m", text="Zoë"))
    assert "Zoë" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "found"),
    [(None, None), ("", None), ("2", 2.0), ("0", 0.0), ("-1", None), ("Fri, 27 Nov", None), ("1e9", 3600)],
)
def test_how_long_to_wait_is_read_from_a_header(header: str | None, found: float | None) -> None:
    assert seconds(header) == found
