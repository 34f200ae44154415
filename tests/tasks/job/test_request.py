from typing import Any

import pytest

from tasks.errors import BadInput
from tasks.job.request import JobRequest


def refused(*args: Any, **options: Any) -> tuple[str, str]:
    with pytest.raises(BadInput) as error:
        JobRequest.parse(args, options)
    return error.value.args


def test_the_audio_alone_is_a_request() -> None:
    request = JobRequest.parse(("https://h/a.mp3",), {})
    assert (request.audio, request.model, request.pace, request.live) == (
        "https://h/a.mp3",
        "paraformer-realtime-v2",
        1.0,
        False,
    )
    assert (request.account, request.tenant) == (None, "")
    assert JobRequest.parse((), {"audio": "https://h/a.mp3"}) == request


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"modle": "x"}, "modle is not an option"),
        ({"pace": "fast"}, "pace is not valid"),
        ({"pace": -1}, "pace is not valid"),
        ({"pace": float("nan")}, "pace is not valid"),
        ({"live": "yes"}, "live is not valid"),
        ({"language_hints": "en"}, "language_hints is not valid"),
        ({"parameters": []}, "parameters is not valid"),
        ({"channels": "three"}, "channels is not valid"),
        ({"model": ""}, "model is not valid"),
        ({"account": ""}, "account is not valid"),
        ({"account": "x" * 41}, "account is not valid"),
        ({"account": 7}, "account is not valid"),
        ({"tenant": "x" * 65}, "tenant is not valid"),
        ({"tenant": None}, "tenant is not valid"),
        ({"tenant": "\ud83d"}, "tenant is not valid"),
        ({"parameters": {"sample_rate": 8000}}, "parameters.sample_rate cannot be set"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], said: str) -> None:
    code, sentence = refused("https://h/a.mp3", **options)
    assert code == "bad_request" and sentence.startswith(said) and sentence.endswith(".")


def test_a_job_can_name_an_account_and_a_tenant_which_the_service_is_not_told() -> None:
    request = JobRequest.parse(("a",), {"account": "x" * 40, "tenant": "é" * 64})
    assert (request.account, request.tenant) == ("x" * 40, "é" * 64)
    assert request.wire_parameters() == JobRequest.parse(("a",), {}).wire_parameters()
    assert JobRequest.parse(("a",), {"account": None, "tenant": ""}) == JobRequest.parse(("a",), {})


@pytest.mark.parametrize(("args", "options"), [((), {}), (("a", "b"), {}), (("a",), {"audio": "b"}), ((7,), {})])
def test_the_audio_must_be_given_once_as_text(args: tuple[Any, ...], options: dict[str, Any]) -> None:
    assert refused(*args, **options)[0] == "bad_request"


@pytest.mark.parametrize("name", ["metadata", "parameters"])
@pytest.mark.parametrize("value", [float("nan"), b"bytes", "\ud83d", object(), "x" * 70_000])
def test_what_is_no_plain_json_or_too_much_is_refused_before_it_costs_anything(name: str, value: object) -> None:
    code, sentence = refused("https://h/a.mp3", **{name: {"it": value}})
    assert code == "bad_request" and sentence.startswith(name) and len(sentence) < 200


def test_a_strange_name_of_an_option_is_cut_and_escaped() -> None:
    sentence = refused("https://h/a.mp3", **{"\nü" + "x" * 1000: 1})[1]
    assert sentence.startswith("\\n\\xfcxxx") and len(sentence) < 400
    assert refused("https://h/a.mp3", **{"\ud83d": 1})[0] == "bad_request"


@pytest.mark.parametrize(("start", "end"), [(5, 5), (6, 5), (1, 1)])
def test_a_part_that_ends_before_it_begins_is_refused(start: int, end: int) -> None:
    code, sentence = refused("https://h/a.mp3", start_ms=start, end_ms=end)
    assert code == "bad_request" and f"end_ms={end} must be more than start_ms={start}" in sentence


@pytest.mark.parametrize("options", [{"start_ms": -1}, {"end_ms": 0}, {"idempotency_key": ""}, {"formats": ["doc"]}])
def test_what_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    assert refused("https://h/a.mp3", **options)[0] == "bad_request"


def test_requests_do_the_same_work_if_what_decides_on_the_transcript_is_the_same() -> None:
    def work(**options: Any) -> str:
        return JobRequest.parse(("https://h/a.mp3",), options).work()

    alike: dict[str, Any] = {
        "pace": 0.5,
        "live": True,
        "metadata": {"k": 1},
        "tenant": "t",
        "idempotency_key": "k",
        "deduplicate": True,
    }
    assert work(**alike) == work()
    assert work(parameters={"a": 1, "b": 2}) == work(parameters={"b": 2, "a": 1})
    others: list[dict[str, Any]] = [
        {"model": "m"},
        {"language_hints": ["en"]},
        {"vocabulary_id": "v"},
        {"phrase_id": "v"},
        {"parameters": {"x": 1}},
        {"start_ms": 1},
        {"end_ms": 1},
        {"channels": "split"},
        {"formats": ["srt"]},
    ]
    assert len({work(), *(work(**one) for one in others)}) == len(others) + 1


def test_the_value_of_a_wrong_option_is_not_repeated() -> None:
    assert "secret" not in refused("https://h/a.mp3", callback_url={"signature": "secret"})[1]


def test_the_wire_gets_our_parameters_and_the_job_s() -> None:
    request = JobRequest.parse(
        ("a",), {"language_hints": ["en"], "vocabulary_id": "v", "parameters": {"heartbeat": False, "x": 1}}
    )
    assert request.wire_parameters() == {
        "format": "pcm",
        "sample_rate": 16000,
        "heartbeat": False,
        "language_hints": ["en"],
        "vocabulary_id": "v",
        "x": 1,
    }


def test_a_telephone_model_hears_8_khz_and_a_first_model_has_its_own_hot_words() -> None:
    request = JobRequest.parse(("a",), {"model": "paraformer-realtime-8k-v1", "phrase_id": "p"})
    assert request.wire_parameters() == {"format": "pcm", "sample_rate": 8000}
    assert request.wire_resources() == ({"resource_id": "p", "resource_type": "asr_phrase"},)
    assert JobRequest.parse(("a",), {}).wire_resources() == ()
