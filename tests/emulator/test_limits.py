from typing import Any

import pytest

from emulator.limits import Admission, Limits


def test_the_defaults_are_the_services_numbers():
    limits = Limits()
    assert (limits.idle_seconds, limits.no_data_seconds, limits.silence_seconds) == (60, 23, 60)
    assert (limits.first_task_seconds, limits.starts_per_second, limits.max_streams) == (None, 20, None)
    assert (limits.opens_per_second, limits.penalty_seconds, limits.close_code) == (None, None, 1000)


@pytest.mark.parametrize(
    "name",
    ["idle_seconds", "heartbeat_seconds", "penalty_seconds", "starts_per_second", "opens_per_second", "max_streams"],
)
def test_a_limit_must_be_positive(name):
    wrong: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=f"{name}=0 must be"):
        Limits(**wrong)


@pytest.mark.parametrize(
    ("model", "known"),
    [
        ("paraformer-realtime-v2", True),
        ("paraformer-realtime-8k-v2", True),
        ("fun-asr-realtime", True),
        ("gummy-realtime-v1", True),
        ("qwen-audio-3.1-asr-flash-streaming", True),
        ("qwen-audio-3", False),
        ("paraformer-realtime-", False),
        ("whisper", False),
    ],
)
def test_models_are_known_by_pattern(model, known):
    assert Limits().knows(model) is known


def test_a_model_can_be_named_exactly():
    assert Limits(models=("one",)).knows("one")
    assert not Limits(models=("one",)).knows("one-more")


@pytest.mark.parametrize("rate", [1, 2])
def test_starts_are_counted_in_a_sliding_second(rate):
    admission = Admission(Limits(starts_per_second=rate))
    assert [admission.enter("a", "m", 10.5) for _ in range(rate)] == [None] * rate
    assert admission.enter("a", "m", 11.4) == "Throttling.RateQuota"
    assert admission.enter("a", "m", 11.5) is None


def test_accounts_and_models_are_counted_apart():
    admission = Admission(Limits(starts_per_second=1))
    assert [admission.enter(*who, 0.0) for who in (("a", "m"), ("b", "m"), ("a", "n"))] == [None] * 3


def test_streams_at_once_are_counted_for_an_account():
    admission = Admission(Limits(max_streams=1, starts_per_second=None))
    assert admission.enter("a", "m", 0) is None
    assert admission.enter("a", "n", 0) == "Throttling.Concurrency"
    assert admission.enter("b", "m", 0) is None
    admission.leave("a")
    assert admission.enter("a", "n", 0) is None


def test_a_start_over_the_rate_is_followed_by_a_penalty_that_refusals_do_not_prolong():
    admission = Admission(Limits(starts_per_second=1, penalty_seconds=5))
    assert admission.enter("a", "m", 10.0) is None
    assert [admission.enter("a", "m", now) for now in (10.5, 11.0, 15.4)] == ["Throttling.RateQuota"] * 3
    assert admission.enter("a", "m", 15.5) is None
    assert admission.enter("a", "m", 16.0) == "Throttling.RateQuota"
    assert admission.enter("a", "m", 20.9) == "Throttling.RateQuota"
    assert admission.enter("a", "m", 21.0) is None


def test_a_penalty_shorter_than_the_second_leaves_the_rate_as_it_is():
    admission = Admission(Limits(starts_per_second=1, penalty_seconds=0.1))
    assert admission.enter("a", "m", 0.0) is None
    assert [admission.enter("a", "m", now) for now in (0.5, 0.8, 0.85)] == ["Throttling.RateQuota"] * 3
    assert admission.enter("a", "m", 1.0) is None


def test_a_penalty_is_for_one_account_and_model():
    admission = Admission(Limits(starts_per_second=1, opens_per_second=1, penalty_seconds=5))
    assert [admission.enter("a", "m", 0.0) for _ in range(2)] == [None, "Throttling.RateQuota"]
    assert [admission.enter(*who, 1.0) for who in (("b", "m"), ("a", "n"))] == [None] * 2
    assert admission.connect("a", 1.0)


def test_streams_over_the_cap_bring_no_penalty():
    admission = Admission(Limits(max_streams=1, starts_per_second=2, penalty_seconds=5))
    assert [admission.enter("a", "m", 0.0) for _ in range(2)] == [None, "Throttling.Concurrency"]
    admission.leave("a")
    assert admission.enter("a", "m", 0.1) is None


@pytest.mark.parametrize("rate", [1, 2])
def test_upgrades_are_counted_in_a_sliding_second(rate):
    admission = Admission(Limits(opens_per_second=rate))
    assert [admission.connect("a", 10.5) for _ in range(rate)] == [True] * rate
    assert not admission.connect("a", 11.4)
    assert admission.connect("b", 11.4)
    assert admission.connect("a", 11.5)


def test_an_upgrade_over_the_rate_is_followed_by_a_penalty_that_refusals_do_not_prolong():
    admission = Admission(Limits(opens_per_second=1, penalty_seconds=5))
    assert [admission.connect("a", now) for now in (0.0, 0.5, 5.4, 5.5)] == [True, False, False, True]
    assert [admission.connect("b", now) for now in (0.0, 1.0)] == [True, True]
    assert admission.enter("a", "m", 1.0) is None


def test_without_a_rate_all_upgrades_are_granted():
    admission = Admission(Limits(penalty_seconds=5))
    assert all(admission.connect("a", 0.0) for _ in range(100))
