from typing import Any

import pytest

from worker.limits import CALM, CURES, Watch, cure, limits, most_leased


def figures(**changed: int) -> dict[str, Any]:
    return {"leased": 2, "waiting": 1, "max_size": 2, "max_leased": 2, "throttled": 0} | changed


@pytest.mark.parametrize(
    ("changed", "last_error", "strained", "found"),
    [
        ({"waiting": 0}, "", (), ()),
        ({"waiting": 0}, "ConnectFailed", (), ()),  # nobody misses what cannot be opened
        ({"waiting": 0}, "", ("quota", "cpu"), ("quota", "cpu")),
        ({"waiting": 1}, "", (), ("pool",)),
        ({"waiting": 1, "leased": 1}, "", (), ()),  # one is on its way
        ({"waiting": 1, "leased": 1, "max_leased": 1}, "", (), ("pool",)),
        ({"waiting": 1}, "", ("bandwidth",), ("bandwidth", "pool")),
        ({"waiting": 1, "leased": 0}, "ConnectFailed", ("quota",), ("quota", "service")),
        ({"waiting": 1}, "ConnectFailed", (), ("service",)),
        ({"waiting": 0, "quota_waiting": 1}, "", (), ("quota",)),
        ({"waiting": 0, "quota_waiting": 0}, "", (), ()),
        ({"waiting": 0, "quota_waiting": 1}, "", ("quota", "cpu"), ("quota", "cpu")),
        ({"waiting": 0, "quota_waiting": 2}, "", ("cpu",), ("quota", "cpu")),
        ({"waiting": 1, "quota_waiting": 1}, "", (), ("quota", "pool")),
        ({"waiting": 1, "quota_waiting": 1}, "ConnectFailed", (), ("quota", "service")),
    ],
)
def test_what_limits_a_process_is_told_from_its_figures(
    changed: dict[str, int], last_error: str, strained: tuple[str, ...], found: tuple[str, ...]
) -> None:
    assert limits(figures(**changed), last_error, strained) == found


def test_as_many_can_be_lent_as_both_bounds_allow() -> None:
    assert most_leased(figures(max_size=4, max_leased=3)) == 3
    assert most_leased(figures(max_size=4, max_leased=5)) == 4


# -- cures -------------------------------------------------------------------------------------------------------------

STRAIN = {"late_share": 0.042, "blocked_share": 0.5, "late_ms_max": 70, "blocked_ms_max": 1200.0, "throttled": 12}


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("quota", ["starts refused in 30 s: 12", "wait for it: 0", "STENOPOOL_QUOTA_STREAMS", "stenopool quota"]),
        ("bandwidth", ["50.0% of the time its streams waited", "longest 1200 ms", "bandwidth"]),
        ("cpu", ["4.2% of the audio was sent more than 50 ms late", "most 70 ms", "(-c)", "machines"]),
        ("service", ["ConnectFailed", "stenopool doctor"]),
    ],
)
def test_a_limit_is_told_with_its_measure_and_its_cure(limit: str, words: list[str]) -> None:
    said = cure(limit, figures() | STRAIN | {"last_error": "ConnectFailed"})
    assert [word for word in words if word not in said] == []


def test_the_quota_is_told_with_the_jobs_that_wait_for_it() -> None:
    said = cure("quota", figures(quota_waiting=7))
    assert "starts refused in 30 s: 0, jobs that wait for it: 7" in said


@pytest.mark.parametrize(
    ("bounds", "setting"),
    [
        ({"max_size": 2, "max_leased": 2}, "RECOGNITION_OBJECTPOOL_SIZE and DASHSCOPE_CONNECTION_POOL_SIZE"),
        ({"max_size": 3, "max_leased": 2}, "DASHSCOPE_MAXIMUM_ASYNC_REQUESTS"),
    ],
)
def test_where_jobs_wait_the_setting_that_binds_is_named(bounds: dict[str, int], setting: str) -> None:
    said = cure("pool", figures(**bounds))
    assert f"raise {setting}, or" in said and "now waiting: 1, lent: 2" in said


def test_every_limit_has_a_cure() -> None:
    assert set(CURES) == {"quota", "bandwidth", "cpu", "pool", "service"}


# -- watching ----------------------------------------------------------------------------------------------------------


def test_a_limit_is_told_once_however_often_it_is_found() -> None:
    watch = Watch()
    assert watch.look([], 0) == ([], [])
    assert watch.look(["quota"], 5) == (["quota"], [])
    assert watch.look(["quota", "cpu"], 10) == (["cpu"], [])
    assert watch.look(["quota", "cpu"], 15) == ([], [])


def test_a_limit_that_comes_and_goes_is_told_once_until_it_has_been_calm_for_long() -> None:
    watch = Watch()
    watch.look(["pool"], 0)
    assert watch.look([], 5) == ([], []) and watch.look(["pool"], 10) == ([], [])
    assert watch.look([], 10 + CALM - 1) == ([], [])
    assert watch.look([], 10 + CALM) == ([], ["pool"])
    assert watch.look([], 10 + 2 * CALM) == ([], [])
    assert watch.look(["pool"], 10 + 3 * CALM) == (["pool"], [])
