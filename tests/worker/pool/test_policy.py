import dataclasses
import math
from typing import Any

import pytest

from worker.pool.policy import Policy


def test_the_defaults_fit_an_upstream_that_hangs_up_after_a_minute_of_silence():
    policy = Policy()
    assert (policy.min_size, policy.max_size, policy.max_waiting, policy.openers) == (2, 2, 64, 2)
    assert (policy.lease_timeout, policy.max_lifetime, policy.max_lease) == (30, 1800, 21600)
    assert (policy.max_idle, policy.max_unused, policy.check_every) == (50, 50, 5)
    assert (policy.max_leased, policy.opens_per_second, policy.spread) == (None, 20, 0)
    assert (policy.jitter, policy.backoff_first, policy.backoff_max) == (0.05, 0.1, 30)


def test_a_policy_cannot_be_changed():
    policy: Any = Policy()
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.max_size = 3


@pytest.mark.parametrize("size", [1, 2])
def test_the_smallest_sizes_are_allowed(size):
    assert Policy(min_size=0, max_size=size, max_waiting=1, openers=1).min_size == 0
    assert Policy(min_size=size, max_size=size, max_waiting=0).max_waiting == 0


@pytest.mark.parametrize(("max_leased", "lendable"), [(None, 2), (1, 1), (2, 2), (3, 2)])
def test_no_more_can_be_lent_than_there_may_be(max_leased, lendable):
    assert Policy(max_size=2, max_leased=max_leased).lendable == lendable


@pytest.mark.parametrize(
    "limit", ["max_idle", "max_unused", "max_lifetime", "max_lease", "check_every", "opens_per_second"]
)
def test_limits_of_time_and_rate_may_be_switched_off(limit):
    without: Any = {limit: math.inf}
    assert math.isinf(getattr(Policy(**without), limit))


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        ({"max_size": 0, "min_size": 0}, "max_size=0 must be at least 1"),
        ({"min_size": 3}, "min_size=3 must be between 0 and max_size=2"),
        ({"min_size": -1}, "min_size=-1 must be between 0 and max_size=2"),
        ({"max_leased": 0}, "max_leased=0 must be at least 1"),
        ({"max_waiting": -1}, "max_waiting=-1 must not be negative"),
        ({"max_waiting": 0, "min_size": 0}, "max_waiting=0 with min_size=0 lends nothing: raise one of them"),
        ({"openers": 0}, "openers=0 must be at least 1"),
        ({"lease_timeout": -1.0}, "lease_timeout=-1.0 must be finite and not negative"),
        ({"lease_timeout": math.inf}, "lease_timeout=inf must be finite and not negative"),
        ({"max_idle": 0.0}, "max_idle=0.0 must be above 0 (math.inf for no limit)"),
        ({"max_lifetime": math.nan}, "max_lifetime=nan must be above 0 (math.inf for no limit)"),
        ({"max_lease": -1.0}, "max_lease=-1.0 must be above 0 (math.inf for no limit)"),
        ({"max_unused": 0.0}, "max_unused=0.0 must be above 0 (math.inf for no limit)"),
        ({"check_every": 0.0}, "check_every=0.0 must be above 0 (math.inf for no limit)"),
        ({"opens_per_second": 0.0}, "opens_per_second=0.0 must be above 0 (math.inf for no limit)"),
        ({"spread": -1.0}, "spread=-1.0 must be finite and not negative"),
        ({"spread": math.inf}, "spread=inf must be finite and not negative"),
        ({"jitter": 1.0}, "jitter=1.0 must be at least 0 and below 1"),
        ({"jitter": -0.1}, "jitter=-0.1 must be at least 0 and below 1"),
        ({"backoff_first": 0.0}, "backoff_first=0.0 must be finite and above 0"),
        ({"backoff_max": 0.05}, "backoff_max=0.05 must be finite and at least backoff_first=0.1"),
        ({"backoff_max": math.inf}, "backoff_max=inf must be finite and at least backoff_first=0.1"),
    ],
)
def test_a_wrong_limit_is_refused_with_its_name_its_value_and_the_rule(limits, sentence):
    with pytest.raises(ValueError) as caught:
        Policy(**limits)
    assert str(caught.value) == sentence
