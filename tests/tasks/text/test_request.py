import json
from typing import Any

import pytest

from tasks.errors import BadInput
from tasks.text.request import GenerateRequest


def parsed(*args: Any, **options: Any) -> GenerateRequest:
    return GenerateRequest.parse(args, options)


def refusal(*args: Any, **options: Any) -> str:
    with pytest.raises(BadInput) as caught:
        parsed(*args, **options)
    assert caught.value.code == "bad_request"
    return caught.value.sentence


def test_a_text_is_enough() -> None:
    request = parsed("One.")
    assert (request.model, request.merge, request.part_chars, request.metadata) == ("qwen-plus", "join", 6000, {})
    assert parsed(text="One.") == request


def test_the_instruction_stands_before_each_part() -> None:
    request = parsed("One. Two.", instruction="Translate.", system="Be brief.", parameters={"seed": 7})
    body = json.loads(request.prompt("Two.").encode())
    assert body["input"]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Translate.\n\nTwo."},
    ]
    assert body["parameters"] == {"seed": 7, "result_format": "message"}
    assert parsed("One.").prompt("One.").text == "One."


def test_the_result_of_a_transcription_is_a_text() -> None:
    assert parsed({"text": "One. Two.", "sentences": [{"text": "One."}, {"text": "Two."}]}).text == "One.\nTwo."


def test_no_text_is_in_a_repr() -> None:
    assert "Alice" not in repr(parsed("Alice", instruction="Alice", system="Alice"))


@pytest.mark.parametrize(
    ("args", "options", "said"),
    [
        ((), {}, "text is missing; give it as the first argument."),
        (("a", "b"), {}, "More than one text"),
        (("a",), {"text": "b"}, "More than one text"),
        ((5,), {}, "first argument is not valid"),
        (("a",), {"modle": "x"}, "modle is not an option of this task; the options are text, instruction, system"),
        (("a",), {"merge": "sum"}, "merge is not valid"),
        (("a",), {"part_chars": 99}, "part_chars is not valid"),
        (("a",), {"part_chars": "1000"}, "part_chars is not valid"),
        (("a",), {"model": ""}, "model is not valid"),
        (("a",), {"parameters": {"n": 2}}, "parameters.n cannot be set"),
        (("a",), {"parameters": {"result_format": "text"}}, "parameters.result_format cannot be set"),
        (("a",), {"parameters": {"x": float("nan")}}, "parameters is not valid: it must be plain JSON."),
        (("a",), {"metadata": {"x": "y" * 70_000}}, "metadata is 7"),
        (("x" * 200_000,), {"part_chars": 100}, "part_chars=100 would cut the text into more than 1000 parts; give at"),
        (("half \ud800",), {}, "text is not valid: input should be a valid string"),
        (("a",), {"instruction": "\udfff"}, "instruction is not valid"),
        (("x" * 4_000_001,), {}, "text is not valid: string should have at most 4000000 characters"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(args: tuple[Any, ...], options: dict[str, Any], said: str) -> None:
    sentence = refusal(*args, **options)
    assert sentence.startswith(said) or said in sentence
    assert sentence.endswith(".") and "\n" not in sentence


def test_a_sentence_repeats_no_text() -> None:
    assert "Alice" not in refusal("Alice \ud800")
