from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from cli.batch import Batch
from cli.client import Client, Job
from cli.deliver import AGAIN, deliver
from cli.output import to_stdout
from cli.references import Recording
from config.settings import settings

JOBS = [Job("j1", "https://host/a", "a"), Job("j2", "https://host/b", "b")]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is wrapped."""
    monkeypatch.setenv("COLUMNS", "500")


class Interrupted(Client):
    """Whose user presses Ctrl-C as soon as a job is looked at."""

    def view(self, job_id: str) -> Any:
        raise KeyboardInterrupt


@pytest.fixture
def steno(start_app: Callable[..., Celery], client: redis.Redis) -> Client:
    return Interrupted(start_app(), client, settings())


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[[Callable[[], None]], str]:
    """What somebody is told who interrupts this."""

    def told(act: Callable[[], None]) -> str:
        with pytest.raises(SystemExit) as end:
            act()
        assert end.value.code == 130
        return capsys.readouterr().err

    return told


Said = Callable[[Callable[[], None]], str]


def test_who_interrupts_learns_how_to_come_back(steno: Client, said: Said) -> None:
    text = said(lambda: deliver(steno, JOBS, to_stdout("txt", headed=True), total=2))
    assert text.endswith("The jobs go on. Come back with: stenopool watch j1; stenopool watch j2\n")


def test_and_how_many_were_not_sent(steno: Client, said: Said) -> None:
    text = said(lambda: deliver(steno, JOBS, to_stdout("txt", headed=True), total=2, most=1))
    assert text.endswith("The jobs go on. Not sent: 1 of 2. Come back with: stenopool watch j1\n")


def test_who_interrupts_before_anything_was_sent_learns_that(steno: Client, said: Said) -> None:
    def jobs() -> Iterator[Job]:
        raise KeyboardInterrupt
        yield

    text = said(lambda: deliver(steno, jobs(), to_stdout("txt", headed=True), total=2))
    assert text.endswith("No job is under way. Not sent: 2 of 2.\n")


def test_who_interrupts_a_batch_is_told_to_give_the_same_command(steno: Client, said: Said, tmp_path: Path) -> None:
    with closing(Batch(steno, tmp_path, ["txt"], [Recording("https://host/a", "a")], {})) as batch:
        text = said(lambda: deliver(steno, batch.jobs(), batch.write, total=1, come_back=lambda _: AGAIN))
    assert text.endswith("The jobs go on. Go on with the same command; it sends nothing twice.\n")
