from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from worker.requests import HiddenRequest, RedactedRequest

SIGNED = "https://u:p@h/a.mp3?sig=secret"


@pytest.fixture
def request_for() -> Any:
    app = Celery("test", set_as_current=False)

    def make(args: list[Any], kwargs: dict[str, Any], kind: type[RedactedRequest] = RedactedRequest) -> RedactedRequest:
        headers = {"id": "j", "task": "tasks.transcribe", "argsrepr": repr(args), "kwargsrepr": repr(kwargs)}
        message = SimpleNamespace(
            headers=headers,
            body=b"",
            payload=(args, kwargs, {}),
            content_type="application/json",
            content_encoding="utf-8",
            delivery_info={},
            properties={},
        )
        return kind(message, app=app, task=app.tasks["celery.chord"])

    return make


def test_the_recording_is_shown_without_its_secrets(request_for: Any) -> None:
    request = request_for([SIGNED], {"live": True, "metadata": {"customer": "secret"}})
    assert request.argsrepr == "('https://h/a.mp3',)"
    assert request.kwargsrepr == "{'live': '…', 'metadata': '…'}"
    assert request.request_dict["argsrepr"] == request.argsrepr


def test_a_recording_given_by_name_is_shown_the_same_way(request_for: Any) -> None:
    assert request_for([], {"audio": SIGNED}).kwargsrepr == "{'audio': 'https://h/a.mp3'}"


def test_inspect_gets_the_redacted_form_even_when_it_asks_for_the_raw_one(request_for: Any) -> None:
    request = request_for([SIGNED], {})
    assert "secret" not in repr(request.info(safe=False)) and "secret" not in repr(request)


@pytest.mark.parametrize(
    "signed",
    ["https://h/it's%20a.mp3?X=secret", "https://h/my call.mp3?X=secret", "https://u:p'secret@h/a", "https:h?secret"],
)
def test_nobody_sees_the_secret_of_a_name_with_a_quote_or_a_space(request_for: Any, signed: str) -> None:
    request = request_for([signed], {"audio": signed})
    assert "secret" not in request.argsrepr + request.kwargsrepr + repr(request.info(safe=False)) + repr(request)


def test_the_task_itself_gets_everything(request_for: Any) -> None:
    assert request_for([SIGNED], {"live": True}).args == [SIGNED]


@pytest.mark.parametrize("argument", [7, None, ["https://h/?sig=secret"], "x" * 5000])
def test_any_argument_can_be_shown_in_little_room(request_for: Any, argument: Any) -> None:
    shown = request_for([argument], {}).argsrepr
    assert "secret" not in shown and len(shown) < 300


@pytest.mark.parametrize(("args", "kwargs"), [(None, {}), (5, {}), ([], None), ([], ["x"]), (None, None), ("x", "y")])
def test_a_message_of_any_shape_can_be_received(request_for: Any, args: Any, kwargs: Any) -> None:
    assert request_for(args, kwargs).argsrepr


def test_of_a_text_nothing_is_shown_but_that_there_is_one(request_for: Any) -> None:
    request = request_for(["secret"], {"instruction": "secret", "audio": SIGNED}, HiddenRequest)
    assert (request.argsrepr, request.kwargsrepr) == ("('…',)", "{'instruction': '…', 'audio': '…'}")
    assert "secret" not in repr(request.info(safe=False)) and "secret" not in repr(request.request_dict["argsrepr"])
    assert request.args == ["secret"]


@pytest.mark.parametrize(("args", "kwargs"), [(None, {}), (5, ["x"]), ("x", None), (["x"] * 99, {"x": 1})])
def test_nor_of_a_message_of_any_other_shape(request_for: Any, args: Any, kwargs: Any) -> None:
    request = request_for(args, kwargs, HiddenRequest)
    assert len(request.argsrepr) + len(request.kwargsrepr) < 300
