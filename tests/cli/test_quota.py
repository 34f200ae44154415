import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
from celery import Celery
from click.testing import CliRunner, Result
from rich.console import Console

from cli.main import cli
from cli.quota import NOTHING, picture, plain, view, watch
from cli.screen import SEARCH_EVERY, WIDE
from config.queues import BULK, INTERACTIVE, PLAIN_QUEUE, QUEUE, QUEUES
from tests.cli.watcher import Watcher
from worker.quota import Allowance, Ledger, Wish
from worker.quota.scripts import MAIL
from worker.quota.view import Account, Lane, Overview

MODEL = "paraformer-realtime-v2"
FAST = Allowance(streams=2, starts_per_second=1000, opens_per_second=5)
QUIET = dict.fromkeys(QUEUES, 0)

WELL = Account(
    name="default",
    opens_per_second=5.0,
    cool_down=0.0,
    slower=1.0,
    is_out=False,
    is_probing=False,
    probe_in=0.0,
)
LANE = Lane(
    account="default",
    model=MODEL,
    slots=12,
    most_slots=12,
    starts_per_second=20.0,
    started_per_second=4.0,
    cool_down=0.0,
    slower=1.0,
    refused=7,
    waiting={INTERACTIVE: 1, QUEUE: 12, BULK: 400},
)


def lane(**changed: Any) -> Overview:
    return Overview(accounts=(WELL,), lanes=(replace(LANE, **changed),), queued=QUIET)


def account(**changed: Any) -> Overview:
    return Overview(accounts=(replace(WELL, **changed),), lanes=(LANE,), queued=QUIET)


def lines(found: Overview, width: int = 120) -> list[str]:
    """The picture, line by line."""
    screen = io.StringIO()
    Console(file=screen, width=width, highlight=False).print(picture(found, width))
    return [line.rstrip() for line in screen.getvalue().splitlines()]


def rows(found: Overview, width: int = 120) -> list[list[str]]:
    """The words of what stands below the heads of the tables."""
    return [line.split() for line in lines(found, width) if line.startswith(("default", "second", "jobs"))]


def of_lane(found: Overview, width: int = 120) -> list[str]:
    return rows(found, width)[0]


def of_account(found: Overview) -> str:
    return " ".join(rows(found)[1][1:])


@pytest.fixture
def ledger(client: redis.Redis) -> Iterator[Ledger]:
    """Somebody listens for who is called m."""
    with client.pubsub() as pubsub:
        pubsub.subscribe(f"{MAIL}m")
        assert pubsub.get_message(timeout=10)
        yield Ledger(client, "default", FAST)


def ask(ledger: Ledger, ticket: str, model: str = MODEL) -> None:
    ledger.ask(f"m.{ticket}", Wish(model=model), 1.0, "wait")


def stenopool(*words: str) -> Result:
    return CliRunner().invoke(cli, ["quota", *words])


# -- the picture -------------------------------------------------------------------------------------------------------


def test_a_row_tells_of_the_streams_of_an_account_s_model() -> None:
    assert of_lane(lane()) == ["default", MODEL, "12/12", "4/20", "-", "7", "1/12/400", "about", "2", "min"]


def test_what_is_not_limited_or_not_known_is_a_dash() -> None:
    row = of_lane(lane(most_slots=None, starts_per_second=None, started_per_second=0.0))
    assert row[2:4] == ["12/-", "0/-"]
    assert of_account(account(opens_per_second=None)) == "- - -"


def test_of_a_figure_no_more_is_shown_than_can_be_known() -> None:
    assert of_lane(lane(started_per_second=18.23456, starts_per_second=99.99999))[3] == "18.2/100"
    assert of_lane(lane(started_per_second=0.12345, starts_per_second=10_000.0))[3] == "0.123/10000"
    assert of_account(account(opens_per_second=4.999999))[0] == "5"


@pytest.mark.parametrize(
    ("cool_down", "slower", "shown"),
    [(0.0, 1.0, "-"), (0.0, 1.04, "-"), (0.0, 1.5, "-/1.5×"), (0.2, 1.0, "1 s/1×"), (2.1, 32.0, "3 s/32×")],
)
def test_a_slow_down_is_told_with_the_seconds_that_are_left(cool_down: float, slower: float, shown: str) -> None:
    changed = {"cool_down": cool_down, "slower": slower}
    assert " ".join(of_lane(lane(**changed))).startswith(f"default {MODEL} 12/12 4/20 {shown} 7 ")
    assert of_account(account(**changed)) == f"5 {shown} -"


@pytest.mark.parametrize(
    ("changed", "shown"),
    [
        ({}, "-"),
        ({"is_out": True, "probe_in": 2.1}, "out, next probe in 3 s"),
        ({"is_out": True, "probe_in": 0.0}, "out, the next probe is due"),
        ({"is_out": True, "is_probing": True, "probe_in": 9.0}, "out, a probe is under way"),
    ],
)
def test_the_circuit_is_told_where_it_is_open(changed: dict[str, Any], shown: str) -> None:
    assert of_account(account(**changed)) == f"5 - {shown}"


@pytest.mark.parametrize(
    ("waiting", "shown"),
    [
        (0, "-"),
        (1, "about 1 s"),
        (4, "about 1 s"),
        (5, "about 2 s"),
        (396, "about 99 s"),
        (400, "about 2 min"),
        (4 * 99 * 60, "about 99 min"),
        (4 * 100 * 60, "about 2 h"),
        (4 * 48 * 3600, "about 2 days"),
    ],
)
def test_a_wait_is_told_roughly_and_never_as_nothing(waiting: int, shown: str) -> None:
    found = lane(waiting={INTERACTIVE: 0, QUEUE: waiting, BULK: 0})
    assert " ".join(of_lane(found)[7:]) == shown


def test_a_wait_that_nobody_can_know_is_unknown() -> None:
    assert of_lane(lane(started_per_second=0.0))[-1] == "unknown"


def test_the_jobs_in_the_queues_are_told() -> None:
    queued = {INTERACTIVE: 0, QUEUE: 7, PLAIN_QUEUE: 1, BULK: 5000}
    *_, head, row = lines(Overview(accounts=(WELL,), lanes=(), queued=queued))
    assert head.split() == ["queue", *QUEUES] and row.split() == ["jobs", "0", "7", "1", "5000"]


def test_in_80_columns_no_figure_is_lost_but_how_many_were_refused() -> None:
    full = lane(slots=200, most_slots=200, cool_down=12, slower=1.5, started_per_second=18.2)
    shown = of_lane(full, 80)
    assert shown == ["default", MODEL, "200/200", "18.2/20", "12", "s/1.5×", "1/12/400", "about", "23", "s"]
    assert of_lane(full, WIDE)[6] == "7" and max(map(len, lines(full, 80))) <= 80


def test_in_80_columns_long_names_are_shortened() -> None:
    name = "a-rather-long-name-of-an-account"
    found = Overview(accounts=(replace(WELL, name=name),), lanes=(replace(LANE, account=name),), queued=QUIET)
    (row,) = [line for line in lines(found, 80) if "12/12" in line]
    assert row.count("…") == 2 and row.endswith("about 2 min") and len(row) <= 80


def test_an_account_of_which_no_stream_was_asked_for_is_shown_alone() -> None:
    shown = lines(Overview(accounts=(WELL,), lanes=(), queued=QUIET))
    assert not any("model" in line for line in shown) and any(line.startswith("default") for line in shown)


# -- as JSON -----------------------------------------------------------------------------------------------------------


def test_as_json_there_is_all_of_it_with_the_wait_in_seconds() -> None:
    found = plain(lane())
    assert found["lanes"][0]["wait"] == 413 / 4 and found["lanes"][0]["waiting"] == LANE.waiting
    assert found["accounts"][0]["name"] == "default" and found["queued"] == QUIET
    assert plain(lane(started_per_second=0.0))["lanes"][0]["wait"] is None
    json.dumps(found)


# -- stenopool quota ---------------------------------------------------------------------------------------------------


def test_what_redis_knows_is_drawn(start_app: Callable[..., Celery], ledger: Ledger, client: redis.Redis) -> None:
    start_app()
    for ticket in ("a", "b", "c"):
        ask(ledger, ticket)
    client.rpush(BULK, "x")
    client.rpush(f"{BULK}\x06\x169", "y")

    done = stenopool()

    assert (done.exit_code, done.stderr) == (0, "")
    assert MODEL in done.stdout and "2/2" in done.stdout and "0/1/0" in done.stdout and "about" in done.stdout
    assert done.stdout.splitlines()[-1].split() == ["jobs", "0", "0", "0", "2"]


def test_as_json_it_is_one_object(start_app: Callable[..., Celery], ledger: Ledger) -> None:
    start_app()
    ask(ledger, "a", model="模型")
    done = stenopool("--json")
    (found,) = json.loads(done.stdout)["lanes"]
    assert (found["account"], found["model"], found["slots"], found["wait"]) == ("default", "模型", 1, 0.0)
    assert "模型" in done.stdout and done.stdout.count("\n") == 1


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_where_nothing_is_known_yet_it_is_a_sentence_and_an_exit_code(
    start_app: Callable[..., Celery], client: redis.Redis, words: list[str]
) -> None:
    start_app()
    done = stenopool(*words)
    assert (done.exit_code, done.stderr) == (1, f"{NOTHING}\n")
    assert not words or json.loads(done.stdout) == {"accounts": [], "lanes": [], "queued": QUIET}

    client.rpush(QUEUE, "x", "y")
    assert "(jobs in the queues: 2)" in stenopool(*words).stderr


def test_json_is_not_watched() -> None:
    done = stenopool("--json", "--watch")
    assert done.exit_code == 2 and "leave out --watch" in done.stderr


# -- watching ----------------------------------------------------------------------------------------------------------


def test_watching_shows_new_figures(client: redis.Redis, ledger: Ledger) -> None:
    ask(ledger, "a")
    assert "1/2" in Watcher().sees(watch, view(client))
    assert "2/2" in Watcher(lambda: ask(ledger, "b")).sees(watch, view(client))


def test_watching_begins_before_the_first_job_and_finds_it(client: redis.Redis, ledger: Ledger) -> None:
    assert "Nothing is known of any account's quota yet" in Watcher().sees(watch, view(client))

    def nothing() -> None: ...

    later = [nothing] * (SEARCH_EVERY - 1)
    assert "1/2" in Watcher(lambda: ask(ledger, "a"), *later).sees(watch, view(client))
