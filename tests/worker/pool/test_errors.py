import pickle

import pytest

from worker.pool.errors import LostUnused, OpenFailed, PoolClosed, PoolError, PoolFull, PoolTimeout

FIGURES = "leased 2, idle 0, opening 1, waiting 3, max 2"
EXAMPLES = {
    PoolTimeout("no upstream free", 5.0, FIGURES, "ConnectFailed"): (
        f"no upstream free after 5.0 s ({FIGURES}); last error: ConnectFailed"
    ),
    PoolTimeout("upstream not warm", 0.25, FIGURES): f"upstream not warm after 0.2 s ({FIGURES})",
    PoolFull("upstream", FIGURES): f"no upstream free and no room to wait ({FIGURES})",
    PoolClosed("upstream"): "the pool of upstream is closed",
    OpenFailed("upstream", ValueError("secret")): "no upstream can be opened: ValueError",
    LostUnused(): "",
}


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_says_in_one_line_what_happened(error):
    assert str(error) == EXAMPLES[error]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_survives_the_way_to_another_process(error):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert copy.__dict__.keys() == error.__dict__.keys()


def test_every_class_is_tried_above():
    assert {type(error) for error in EXAMPLES} == set(PoolError.__subclasses__())


def test_a_failed_open_carries_its_error_and_is_caused_by_it():
    error = ValueError("secret")
    failure = OpenFailed("upstream", error)
    assert failure.error is error
    assert failure.__cause__ is error
    assert "secret" not in str(failure)
