import click
import pytest

from cli.moment import moment

CONTEXT, OPTION = click.Context(click.Command("x")), click.Option(["--start"])


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("0", 0),
        ("90", 90_000),
        ("1.5", 1500),
        ("0:01", 1000),
        ("1:30", 90_000),
        ("90:00", 5_400_000),
        ("1:02:03.25", 3_723_250),
        ("100:00:00", 360_000_000),
    ],
)
def test_a_place_in_a_recording_is_milliseconds(text: str, ms: int) -> None:
    assert moment(CONTEXT, OPTION, text) == ms


def test_none_is_none() -> None:
    assert moment(CONTEXT, OPTION, None) is None


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "1:60", "1:60:00", "1:2:3:4", ":5", "1:", "1e3", "nan", "1.", "٣", "9" * 400]
)
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no place in a recording; write seconds, mm:ss or hh:mm:ss"):
        moment(CONTEXT, OPTION, text)
