"""What the streams' table says of its measurements."""

import pytest

from bench.climb import GEVENT, PREFORK, SDK, THREADS, Level, Pace
from bench.streams import COLUMNS, QUICK_SIZES, SIZES, Report, memory
from tests.bench.levels import level, window


def report(*levels: Level) -> Report:
    return Report(like=80, windows=3, levels=list(levels), noise=[0.01, 0.02])


def cell(found: Report, row: int, column: str) -> str:
    return found.rows()[row][COLUMNS.index(column)]


def test_a_level_tells_the_median_of_its_windows_and_how_far_they_lie_apart() -> None:
    found = level(THREADS, 80, window(80, 300), window(80, 200), window(80, 220))
    assert found.core_us == pytest.approx(220)
    assert found.spread == pytest.approx(100 / 220)


@pytest.mark.parametrize(("p99", "holds"), [(50, True), (51, False)])
def test_streams_are_real_time_when_the_middle_window_s_frames_come_in_time(p99: float, holds: bool) -> None:
    assert level(THREADS, 9, window(9, 300, 1), window(9, 300, p99), window(9, 300, 999)).holds is holds


@pytest.mark.parametrize(("part", "holds"), [(0.98, True), (0.96, False)])
def test_streams_that_fall_behind_are_not_real_time_however_early_their_frames(part: float, holds: bool) -> None:
    assert level(THREADS, 9, window(9, 300), window(9, 300), window(9, 300, part=part)).holds is holds


def test_streams_that_fail_are_not_real_time() -> None:
    assert not level(THREADS, 9, window(9, 300, errors=1)).holds


def test_the_ratio_is_to_the_official_sdk_at_like_load_over_the_same_scheme() -> None:
    sdk = [level(SDK, 40, window(40, 9000)), level(SDK, 80, window(80, 6000))]
    found = report(*sdk, level(THREADS, 2000, window(2000, 200)), level(THREADS, 80, scheme="wss"))
    assert [cell(found, row, "SDK/this") for row in range(4)] == ["0.7 (0.7)", "1.0 (1.0)", "30.0 (30.0)", "-"]


def test_the_machine_s_drift_is_shared_by_measuring_the_sdk_once_more_at_the_end() -> None:
    found = report(level(SDK, 80, window(80, 6000)), level(THREADS, 2000, window(2000, 200)))
    found.again.append(level(SDK, 80, window(80, 4000)))
    assert [cell(found, row, "SDK/this") for row in range(3)] == ["0.8 (0.8)", "25.0 (25.0)", "1.2 (1.2)"]
    assert [cell(found, row, "way") for row in range(3)] == ["SDK ws", "threads ws", "SDK ws"]


def test_memory_is_what_each_stream_more_takes() -> None:
    first, more = level(THREADS, 100, pss_mb=(100.0,)), level(THREADS, 1124, pss_mb=(150.0,))
    assert (memory(first, first), memory(more, first)) == ("-", "50 KB")


def test_memory_of_prefork_is_a_child_s() -> None:
    found = level(PREFORK, 2, pss_mb=(80.0, 12.0, 14.0))
    assert memory(found, found) == "13.0 MB"


def test_a_row_has_a_cell_for_each_column() -> None:
    assert [len(row) for row in report(level(GEVENT, 80)).rows()] == [len(COLUMNS)]


def test_the_notes_tell_the_largest_number_that_held_and_the_first_that_did_not() -> None:
    late = level(THREADS, 3000, window(3000, 300, 51))
    found = report(level(THREADS, 80), level(THREADS, 2500), late, level(GEVENT, 80))
    told = next(note for note in found.notes() if "Largest" in note)
    assert "threads `ws:` **2,500** (not 3,000)" in told
    assert "gevent `ws:` **80** (no more was tried" in told
    assert cell(found, 2, "p99 ms") == "51 late"


def test_the_machine_s_noise_is_told() -> None:
    assert "busy 1.0 % before and 2.0 % after" in report(level(THREADS, 80)).notes()[-1]


def test_a_pace_looks_longer_at_few_streams() -> None:
    assert Pace().of(80) > Pace().of(1000)
    assert Pace().windows >= 3


@pytest.mark.parametrize("sizes", [SIZES, QUICK_SIZES])
def test_sizes_grow_and_each_way_is_measured_at_the_load_that_the_sdk_is(
    sizes: dict[str, dict[str, tuple[int, ...]]],
) -> None:
    for ways in sizes.values():
        assert all(list(found) == sorted(set(found)) for found in ways.values())
        assert set(ways[SDK]).intersection(*(set(found) for found in ways.values()))
