import dataclasses
import math
from typing import Any

import pytest

from worker.pool.policy import Policy


def test_the_defaults_fit_an_upstream_that_hangs_up_after_a_minute_of_silence():
    policy = Policy()
    assert (policy.min_size, policy.max_size, policy.max_waiting, policy.openers) == (2, 2, 64, 2)
    assert (policy.lease_timeout, policy.max_idle, policy.max_lifetime, policy.max_lease) == (30, 50, 1800, 21600)
    assert (policy.jitter, policy.backoff_first, policy.backoff_max) == (0.05, 0.1, 30)


def test_a_policy_cannot_be_changed():
    policy: Any = Policy()
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.max_size = 3


@pytest.mark.parametrize("size", [1, 2])
def test_the_smallest_sizes_are_allowed(size):
    assert Policy(min_size=0, max_size=size, max_waiting=1, openers=1).min_size == 0
    assert Policy(min_size=size, max_size=size, max_waiting=0).max_waiting == 0


def test_limits_that_age_may_be_switched_off():
    policy = Policy(max_idle=math.inf, max_lifetime=math.inf, max_lease=math.inf)
    assert math.isinf(policy.max_idle + policy.max_lifetime + policy.max_lease)


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        ({"max_size": 0, "min_size": 0}, "max_size=0 must be at least 1"),
        ({"min_size": 3}, "min_size=3 must be between 0 and max_size=2"),
        ({"min_size": -1}, "min_size=-1 must be between 0 and max_size=2"),
        ({"max_waiting": -1}, "max_waiting=-1 must not be negative"),
        ({"max_waiting": 0, "min_size": 0}, "max_waiting=0 with min_size=0 lends nothing: raise one of them"),
        ({"openers": 0}, "openers=0 must be at least 1"),
        ({"lease_timeout": -1.0}, "lease_timeout=-1.0 must be finite and not negative"),
        ({"lease_timeout": math.inf}, "lease_timeout=inf must be finite and not negative"),
        ({"max_idle": 0.0}, "max_idle=0.0 must be above 0 (math.inf for no limit)"),
        ({"max_lifetime": math.nan}, "max_lifetime=nan must be above 0 (math.inf for no limit)"),
        ({"max_lease": -1.0}, "max_lease=-1.0 must be above 0 (math.inf for no limit)"),
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
