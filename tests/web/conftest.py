"""The app for the tests of its HTTP side, and the option for pictures."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from examples.webapp.settings import Settings
from tests.web.serving import Web


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--web-shots", type=Path, metavar="FOLDER", help="keep pictures of the web app in this folder")


@pytest.fixture
def start(tmp_path: Path, valkey: str, client: redis.Redis) -> Iterator[Callable[..., Web]]:
    """Starts the app, with settings of the test's own."""
    with ExitStack() as ends:

        def started(**own: Any) -> Web:
            (tmp_path / "uploads").mkdir(exist_ok=True)
            usual: dict[str, Any] = {"redis_url": valkey, "uploads": tmp_path / "uploads"}
            return ends.enter_context(Web(Settings(**usual | own)))

        yield started


@pytest.fixture(scope="session")
def serving(tmp_path_factory: pytest.TempPathFactory, valkey: str) -> Iterator[Web]:
    with Web(Settings(redis_url=valkey, uploads=tmp_path_factory.mktemp("uploads"))) as running:
        yield running


@pytest.fixture
def web(serving: Web, client: redis.Redis) -> Web:
    """The app over an empty Valkey, without any worker and without any upload."""
    for path in serving.settings.uploads.iterdir():
        path.unlink()
    return serving
