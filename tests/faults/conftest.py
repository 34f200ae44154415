"""Plays the drills, all at the same time, for the tests that ask for one row each."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.acts import DRILLS, Programme
from tests.faults.board import Board
from tests.faults.table import filled


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults-table", type=Path, metavar="PAGE", help="write the rows of all drills into this page")


@pytest.fixture(scope="session")
def board(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """The rows of the drills that the session has tests for; written into a page when there are all."""
    params = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    asked = {(given.get("fault"), given.get("pool")) for given in params}
    made = Board(key for key in DRILLS if key in asked)
    with Programme(made, tmp_path_factory.mktemp("drills")):
        yield made
    page: Path | None = request.config.getoption("--faults-table", None)
    if page is not None and len(rows := made.rows()) == len(DRILLS):
        page.write_text(filled(page.read_text(encoding="utf-8"), rows), encoding="utf-8")
