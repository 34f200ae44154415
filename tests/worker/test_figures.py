import pytest

from worker.figures import Figures, merged, number


def test_a_figure_that_another_version_does_not_report_is_0() -> None:
    assert number({}, "leased") == 0 and number({"leased": "many"}, "leased") == 0
    assert number({"leased": 2}, "leased") == 2


@pytest.mark.parametrize("name", ["connect_seconds_max", "borrow_seconds_p50", "borrow_seconds_p95", "late_share"])
def test_of_times_and_shares_the_worst_counts_and_the_rest_is_summed(name: str) -> None:
    parts: list[Figures] = [{"leased": 2, name: 0.5}, {"leased": 3, name: 0.25}, {"worker": "celery@a"}]
    assert merged(parts, ["leased", name]) == {"leased": 5, name: 0.5}
