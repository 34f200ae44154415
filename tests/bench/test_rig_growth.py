"""What the growth table says of its measurements."""

import pytest

from bench.growth import COLUMNS, slope_kb, table_of, thirds
from bench.window import Window
from tests.bench.levels import level

Look = tuple[Window, float]


def look(audio: float, process_us: float, pss_mb: float) -> Look:
    seconds = audio * process_us / 1e6
    figures = {"audio_seconds": audio, "events": 4 * audio}
    return Window(seconds=1.0, core_seconds=seconds, process_seconds=seconds, figures=figures), pss_mb


def test_looks_are_parted_by_audio_not_by_time() -> None:
    looks = [look(300, 100, 90), look(100, 100, 91), look(100, 200, 92), look(100, 300, 93), look(300, 400, 94)]
    start, middle, end = thirds(looks)
    assert [part.audio_seconds for part in (start, middle, end)] == [300, 300, 300]
    assert [part.process_us for part in (start, middle, end)] == [100, 200, 400]
    assert [part.pss_mb for part in (start, middle, end)] == [90, 93, 94]


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_looks_have_no_thirds(count: int) -> None:
    with pytest.raises(ValueError, match="too soon"):
        thirds([look(100, 100, 90)] * count)


def test_the_slope_is_of_the_streams_that_came_later() -> None:
    assert slope_kb([level("threads", 50, pss_mb=(100.0,)), level("threads", 1074, pss_mb=(150.0,))]) == 50


def test_the_table_tells_each_number_of_streams_and_each_third() -> None:
    long = thirds([look(100, 100, 90), look(100, 100, 90), look(100, 110, 98)])
    table = table_of([level("threads", 50), level("threads", 200)], long, hours=6.0)
    assert [row[1] for row in table.rows] == ["50", "200", "start", "middle", "end"]
    assert {len(row) for row in table.rows} == {len(COLUMNS)}
    assert any("+10 % of CPU" in note and "+1.00 MB" in note for note in table.notes)
