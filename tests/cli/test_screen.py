import io
from collections.abc import Callable

import pytest
from rich.console import Console, RenderableType

from cli.screen import REDRAW, SEARCH_EVERY, Column, Name, grid, redraw, stdout


def shown(what: RenderableType, width: int) -> list[str]:
    screen = io.StringIO()
    Console(file=screen, width=width, highlight=False).print(what)
    return [line.rstrip() for line in screen.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("width", "expected"),
    [(10, "abcdefghij"), (9, "ab…efghij"), (5, "a…hij"), (2, "…j"), (1, "…")],
)
def test_of_a_long_name_the_middle_is_left_out(width: int, expected: str) -> None:
    assert shown(Name("abcdefghij"), width) == [expected]


def test_a_name_cannot_write_on_the_screen() -> None:
    assert shown(Name("a\x1b[2Jb\nc\td [bold]"), 80) == ["a_[2Jb_c_d [bold]"]


def test_words_stand_on_the_left_and_figures_on_the_right() -> None:
    columns = [Column("much", str), Column("said", str, is_words=True)]
    table = grid(["name"], columns)
    table.add_row("a", *(column.show("x") for column in columns))
    assert shown(table, 80) == ["name much said", "a       x x"]


def test_a_table_for_a_pipe_is_not_squeezed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert stdout().width >= 160
    monkeypatch.setenv("COLUMNS", "300")
    assert stdout().width == 300


class Pauses:
    """So many, and then the user interrupts."""

    def __init__(self, count: int) -> None:
        self._left = count

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt


@pytest.fixture
def screen() -> Console:
    return Console(file=io.StringIO(), width=80, force_terminal=True, highlight=False)


def test_it_is_drawn_once_a_second_and_searched_for_at_first_and_then_less_often(screen: Console) -> None:
    assert (REDRAW, SEARCH_EVERY) == (1.0, 5)
    looks: list[str] = []
    searches: list[int] = []

    def search() -> list[str]:
        searches.append(len(looks))
        return [f"found by {len(searches)}"]

    def draw(found: list[str]) -> str:
        looks.extend(found)
        return f"look {len(looks)}"

    with pytest.raises(KeyboardInterrupt):
        redraw(search, draw, screen, Pauses(11))
    assert searches == [0, 5, 10]
    assert looks == ["found by 1"] * 5 + ["found by 2"] * 5 + ["found by 3"]
    assert isinstance(screen.file, io.StringIO) and "look 11" in screen.file.getvalue()


def test_what_goes_wrong_ends_it(screen: Console) -> None:
    def draw(found: list[str]) -> str:
        raise ConnectionError

    never: Callable[[], None] = Pauses(0)
    with pytest.raises(ConnectionError):
        redraw(list, draw, screen, never)
