import pickle

import pytest

from tasks.errors import BadInput, JobError, NotBegun, NotEnded, Refused, Unavailable, Withdrawn


@pytest.mark.parametrize("kind", [JobError, BadInput, Refused, Unavailable])
def test_an_error_is_a_code_and_a_sentence_also_after_a_trip(kind: type[JobError]) -> None:
    error = pickle.loads(pickle.dumps(kind("some_code", "Do this.")))
    assert type(error) is kind
    assert error.args == ("some_code", "Do this.") and str(error) == "Do this. [some_code]"


def test_only_what_may_get_better_is_tried_again() -> None:
    assert [kind.retryable for kind in (JobError, BadInput, Refused, Unavailable)] == [False, False, False, True]


def test_nobody_asked_for_a_wait_unless_it_is_said() -> None:
    assert Unavailable("some_code", "Do this.").retry_after is None


def test_an_error_is_the_job_s_own_unless_it_is_said() -> None:
    error = Unavailable("some_code", "Do this.")
    assert (error.is_general, error.is_cut) == (False, False)


def test_a_job_that_has_not_begun_says_where_it_stood() -> None:
    left = pickle.loads(pickle.dumps(NotBegun("default 7")))
    assert (type(left), left.place) == (NotBegun, "default 7")


def test_a_job_that_has_not_ended_says_when_it_goes_on_and_why_it_did_not_end() -> None:
    error = Unavailable("some_code", "Do this.")
    assert (NotEnded(2.5, error).seconds, NotEnded(2.5, error).error) == (2.5, error)
    left = pickle.loads(pickle.dumps(NotEnded(0)))
    assert (type(left), left.seconds, left.error) == (NotEnded, 0, None)


def test_neither_it_nor_a_cancelled_one_is_a_failure() -> None:
    assert not any(issubclass(kind, JobError) for kind in (NotBegun, NotEnded, Withdrawn))
