import io
import json
from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery import Celery
from click.testing import CliRunner, Result
from rich.console import Console

from cli.main import cli
from cli.pool import NOBODY, WIDER, look, table, watch
from cli.screen import SEARCH_EVERY
from tests.cli.watcher import Watcher
from worker.report import Report, Reports

Post = Callable[..., None]


def figures(worker: str, pid: int, **changed: Any) -> Report:
    counts: Report = {"leased": 1, "idle": 1, "opening": 0, "waiting": 0, "max_size": 2, "max_leased": 2}
    events: Report = {"created": 12, "leases": 100, "reused": 97, "discarded": 3, "overflow": 4}
    times: Report = {"borrow_seconds_p95": 0.0004, "connect_seconds_p95": 0.0412}
    names: Report = {"worker": worker, "pid": pid, "pool": "threads", "limits": ""}
    return {**counts, **events, **times, **names} | changed


@pytest.fixture
def reports(client: redis.Redis) -> Reports:
    return Reports(client)


@pytest.fixture
def post(reports: Reports) -> Post:
    """Reports as a worker's process does."""

    def write(worker: str, pid: int, **changed: Any) -> None:
        reports.post(f"{worker}:{pid}", figures(worker, pid, **changed))

    return write


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def stenopool(*words: str) -> Result:
    return CliRunner().invoke(cli, ["pool", *words])


def drawn(found: dict[str, Report], width: int = 100) -> list[str]:
    """The rows of the table, without its head."""
    screen = io.StringIO()
    Console(file=screen, width=width, highlight=False).print(table(found, width))
    lines = [line.rstrip() for line in screen.getvalue().splitlines()]
    assert max(map(len, lines)) <= width
    return lines[3:]


# -- the table ---------------------------------------------------------------------------------------------------------


def test_a_row_tells_of_one_process() -> None:
    (row,) = drawn({"celery@h:7": figures("celery@h", 7, limits="quota", age=2.6)})
    assert row.split() == [
        "celery@h:7",
        "threads",
        "1/2",
        "1",
        "0",
        "0",
        "12",
        "97",
        "%",
        "3",
        "4",
        "0/41",
        "quota",
        *"3s",
    ]


def test_a_process_that_has_lent_nothing_and_is_not_limited_shows_dashes() -> None:
    (row,) = drawn({"celery@h:7": figures("celery@h", 7, leases=0, reused=0)})
    assert row.split()[7] == "-" and row.split()[-1] == "-"


def test_several_processes_are_summed_in_a_last_row() -> None:
    limited = figures("celery@b", 1, max_leased=1, connect_seconds_p95=0.9, limits="quota,cpu")
    *_, whole, _ = drawn({"celery@a:1": figures("celery@a", 1), "celery@b:1": limited})
    assert whole.split() == ["2", "processes", "2/3", "2", "0", "0", "24", "97", "%", "6", "8", "0/900", "quota"]


def test_limits_stand_below_each_other() -> None:
    first, second = drawn({"celery@h:7": figures("celery@h", 7, limits="bandwidth,pool")})
    assert first.index("bandwidth") == second.index("pool")


@pytest.mark.parametrize("width", [100, 96])
def test_in_100_columns_a_long_name_is_shortened_in_its_middle_and_no_figure_is_lost(width: int) -> None:
    name = "celery@stenopool-worker-7d4b9c6f5-x2k8p:4194304"
    full = figures("w", 4194304, leased=200, max_leased=200, max_size=220, created=1234, limits="bandwidth")
    (row,) = drawn({name: full | {"connect_seconds_p95": 0.8, "borrow_seconds_p95": 3.2, "age": 12}}, width)
    shown, *others = row.split()
    assert "…" in shown and name.startswith(shown.split("…")[0]) and name.endswith(shown.split("…")[1])
    assert shown.endswith("8p:4194304")
    assert others == [
        "threads",
        "200/200",
        "1",
        "0",
        "0",
        "1234",
        "97",
        "%",
        "3",
        "4",
        "3200/800",
        "bandwidth",
        "12",
        "s",
    ]


def test_a_narrow_screen_leaves_out_what_is_spare() -> None:
    (row,) = drawn({"celery@h:7": figures("celery@h", 7, age=0)}, width=80)
    assert row.split() == ["celery@h:7", "1/2", "1", "0", "0", "12", "97", "%", "0/41", "-", "0", "s"]


def test_a_process_of_another_version_has_a_row_too() -> None:
    (row,) = drawn({"celery@h:7": {"novelty": 1}})
    assert row.split()[:2] == ["celery@h:7", "0/0"]


def test_a_wider_screen_shows_how_many_jobs_wait_for_quota() -> None:
    found = {"celery@h:7": figures("celery@h", 7, quota_waiting=5), "celery@h:8": figures("celery@h", 8)}
    first, second, whole = (row.split() for row in drawn(found, WIDER))
    assert (first[6], second[6], whole[6]) == ("5", "0", "5")
    assert len(drawn(found, WIDER - 1)[0].split()) == len(first) - 1


# -- stenopool pool ----------------------------------------------------------------------------------------------------


def test_the_fleet_is_one_table_ordered_by_worker_and_process(
    start_app: Callable[..., Celery], post: Post, wide: None
) -> None:
    start_app()
    for worker, pid in (("celery@b", 1), ("celery@a", 10), ("celery@a", 9)):
        post(worker, pid)

    done = stenopool()

    assert (done.exit_code, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()[2:]] == [
        "process",
        "celery@a:9",
        "celery@a:10",
        "celery@b:1",
        "3",
    ]


def test_as_json_all_that_was_reported_is_given(start_app: Callable[..., Celery], post: Post) -> None:
    start_app()
    post("celery@a", 9, limits="quota")
    (found,) = json.loads(stenopool("--json").stdout)
    assert found.pop("age") >= 0
    assert found == {"process": "celery@a:9", **figures("celery@a", 9, limits="quota")}


@pytest.mark.parametrize(("words", "printed"), [([], ""), (["--json"], "[]\n")])
def test_no_worker_is_a_sentence_and_an_exit_code(
    start_app: Callable[..., Celery], words: list[str], printed: str
) -> None:
    start_app()
    done = stenopool(*words)
    assert (done.exit_code, done.stdout) == (1, printed)
    assert NOBODY in done.stderr.replace("\n", " ")


def test_json_is_not_watched() -> None:
    done = stenopool("--json", "--watch")
    assert done.exit_code == 2 and "leave out --watch" in done.stderr


# -- watching ----------------------------------------------------------------------------------------------------------


def test_watching_shows_new_figures(reports: Reports, post: Post) -> None:
    post("celery@a", 1)
    assert "2/2" in Watcher(lambda: post("celery@a", 1, leased=2)).sees(watch, reports)


def test_watching_begins_before_the_first_worker_and_finds_it(reports: Reports, post: Post) -> None:
    assert "No worker has reported" in Watcher().sees(watch, reports)

    def nothing() -> None: ...

    later = [nothing] * (SEARCH_EVERY - 1)
    assert "celery@a:1" in Watcher(lambda: post("celery@a", 1), *later).sees(watch, reports)


def test_watching_forgets_a_process_that_has_gone(reports: Reports, post: Post) -> None:
    post("celery@a", 1)
    post("celery@a", 2)
    assert "celery@a:2" not in Watcher(lambda: reports.remove("celery@a:2")).sees(watch, reports)
    assert list(look(reports)) == ["celery@a:1"]
