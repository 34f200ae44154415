import pickle

import pytest

from tasks.errors import BadInput, JobError, Refused, Unavailable


@pytest.mark.parametrize("kind", [JobError, BadInput, Refused, Unavailable])
def test_an_error_is_a_code_and_a_sentence_also_after_a_trip(kind: type[JobError]) -> None:
    error = pickle.loads(pickle.dumps(kind("some_code", "Do this.")))
    assert type(error) is kind
    assert error.args == ("some_code", "Do this.") and str(error) == "Do this. [some_code]"


def test_only_what_may_get_better_is_tried_again() -> None:
    assert [kind.retryable for kind in (JobError, BadInput, Refused, Unavailable)] == [False, False, False, True]
