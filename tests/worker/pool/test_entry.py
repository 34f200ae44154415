import pytest

from worker.pool.entry import Entry, Reason, State


def test_an_entry_shows_what_it_holds_and_who_has_it():
    entry = Entry("old", born=0.0)
    assert repr(entry) == "<Entry 'old' idle, uses 0>"
    entry.state, entry.borrower, entry.uses = State.LEASED, "job 7", 1
    assert repr(entry) == "<Entry 'old' leased to 'job 7', uses 1>"


def test_an_entry_that_was_never_used_idles_since_its_birth_and_was_healthy_then():
    entry = Entry("new", born=5.0)
    assert (entry.last_used, entry.checked) == (5.0, 5.0)


def test_without_limits_an_entry_is_never_overdue():
    assert Entry("new", born=0.0).overdue(1e9) is None


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (0, None),
        (9, None),
        (10, Reason.MAX_IDLE),
        (11, Reason.MAX_IDLE),
        (59, Reason.MAX_IDLE),
        (60, Reason.MAX_LIFETIME),
    ],
)
def test_an_entry_is_overdue_from_its_limit_on(now, reason):
    assert Entry("old", born=0.0, max_idle=10, max_lifetime=60, uses=1).overdue(now) is reason


@pytest.mark.parametrize(
    ("uses", "now", "reason"),
    [(0, 4, None), (0, 5, Reason.MAX_IDLE), (1, 5, None), (1, 10, Reason.MAX_IDLE), (2, 10, Reason.MAX_IDLE)],
)
def test_before_its_first_use_an_entry_has_an_idle_limit_of_its_own(uses, now, reason):
    entry = Entry("new", born=0.0, max_unused=5, max_idle=10, uses=uses)
    assert entry.overdue(now) is reason


def test_use_puts_off_the_idle_limit_but_not_the_lifetime():
    entry = Entry("old", born=0.0, max_idle=10, max_lifetime=60, uses=1)
    entry.last_used = 55.0
    assert entry.overdue(59) is None
    assert entry.overdue(60) is Reason.MAX_LIFETIME


def test_two_entries_with_the_same_resource_are_not_the_same():
    assert Entry("twin", born=0.0) != Entry("twin", born=0.0)


def test_a_planned_end_is_a_retirement_and_any_other_a_discard():
    words: dict[str, list[str]] = {"retired": [], "discarded": []}
    for reason in Reason:
        words[reason.word].append(reason.value)
    assert words == {
        "retired": ["max_idle", "max_lifetime", "surplus", "replaced", "closed"],
        "discarded": ["unhealthy", "not_reusable", "max_lease", "forked"],
    }
