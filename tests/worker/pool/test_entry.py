import pytest

from worker.pool.entry import Entry, Reason, State


def test_an_entry_shows_what_it_holds_and_who_has_it():
    entry = Entry("old", born=0.0)
    assert repr(entry) == "<Entry 'old' idle, uses 0>"
    entry.state, entry.borrower, entry.uses = State.LEASED, "job 7", 1
    assert repr(entry) == "<Entry 'old' leased to 'job 7', uses 1>"


def test_an_entry_that_was_never_used_idles_since_its_birth():
    assert Entry("new", born=5.0).last_used == 5.0


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
    assert Entry("old", born=0.0, max_idle=10, max_lifetime=60).overdue(now) is reason


def test_use_puts_off_the_idle_limit_but_not_the_lifetime():
    entry = Entry("old", born=0.0, max_idle=10, max_lifetime=60)
    entry.last_used = 55.0
    assert entry.overdue(59) is None
    assert entry.overdue(60) is Reason.MAX_LIFETIME


def test_two_entries_with_the_same_resource_are_not_the_same():
    assert Entry("twin", born=0.0) != Entry("twin", born=0.0)


def test_a_planned_end_is_a_retirement_and_any_other_a_discard():
    assert [reason.value for reason in Reason if reason.word == "retired"] == ["max_idle", "max_lifetime", "closed"]
    assert {reason.word for reason in Reason} == {"retired", "discarded"}
