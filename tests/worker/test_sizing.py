from collections.abc import Callable
from pathlib import Path

import pytest

from config.settings import Settings, SettingsError
from worker.quota.ledger import OPEN_MARGIN
from worker.sizing import JOBS_A_CORE, JOBS_A_PROCESS, cautions, jobs_at_once, policy, resized, with_spare

Given = Callable[..., Settings]


def test_the_defaults_for_a_worker_without_a_size() -> None:
    assert (JOBS_A_CORE, JOBS_A_PROCESS) == (4, 100)


@pytest.mark.parametrize("cores", [1, 2])
def test_a_forking_worker_without_a_size_has_some_children_for_each_core(given: Given, cores: int) -> None:
    assert jobs_at_once(given(RECOGNITION_OBJECTPOOL_SIZE="1"), True, cores) == JOBS_A_CORE * cores


@pytest.mark.parametrize(
    ("variables", "jobs"),
    [
        ({}, JOBS_A_PROCESS),
        ({"RECOGNITION_OBJECTPOOL_SIZE": "30"}, 30),
        ({"RECOGNITION_OBJECTPOOL_SIZE": "30", "DASHSCOPE_CONNECTION_POOL_SIZE": "40"}, 40),
        ({"DASHSCOPE_MAXIMUM_ASYNC_REQUESTS": "7"}, 7),
        ({"RECOGNITION_OBJECTPOOL_SIZE": "2000"}, JOBS_A_PROCESS),
    ],
)
def test_a_process_without_a_size_runs_no_more_jobs_than_its_settings_let_stream(
    given: Given, variables: dict[str, str], jobs: int
) -> None:
    assert jobs_at_once(given(**variables), False, 2) == jobs


@pytest.mark.parametrize(("streams", "kept"), [(1, 2), (2, 3), (9, 10), (10, 12), (100, 111)])
def test_a_process_keeps_one_for_each_job_and_a_spare(given: Given, streams: int, kept: int) -> None:
    assert with_spare(streams) == kept
    found = policy(given(), streams)
    assert (found.min_size, found.max_size, found.lendable) == (kept, kept, kept)


@pytest.mark.parametrize(
    ("variables", "streams", "sizes"),
    [
        ({"RECOGNITION_OBJECTPOOL_SIZE": "5"}, 1, (5, 5, 5)),
        ({"DASHSCOPE_CONNECTION_POOL_SIZE": "4"}, 8, (4, 4, 4)),
        ({"DASHSCOPE_CONNECTION_POOL_SIZE": "20"}, 8, (9, 20, 20)),
        ({"RECOGNITION_OBJECTPOOL_SIZE": "2", "DASHSCOPE_CONNECTION_POOL_SIZE": "6"}, 8, (2, 6, 6)),
        ({"DASHSCOPE_MAXIMUM_ASYNC_REQUESTS": "3"}, 8, (9, 9, 3)),
        ({"DASHSCOPE_MAXIMUM_ASYNC_REQUESTS": "3", "DASHSCOPE_MAXIMUM_ASYNC_REQUESTS_PER_HOST": "2"}, 8, (9, 9, 2)),
    ],
)
def test_it_keeps_opens_and_lends_what_it_is_told(
    given: Given, variables: dict[str, str], streams: int, sizes: tuple[int, int, int]
) -> None:
    found = policy(given(**variables), streams)
    assert (found.min_size, found.max_size, found.lendable) == sizes


@pytest.mark.parametrize(
    ("variables", "streams", "waiting"),
    [({}, 1, 1000), ({}, 2500, 2500), ({"STENOPOOL_POOL_WAITING": "0"}, 2500, 0)],
)
def test_all_jobs_of_a_process_may_wait_for_its_first_connection(
    given: Given, variables: dict[str, str], streams: int, waiting: int
) -> None:
    assert policy(given(**variables), streams).max_waiting == waiting


def test_no_job_waits_for_a_recogniser_beyond_its_own_deadline(given: Given) -> None:
    assert policy(given(STENOPOOL_JOB_DEADLINE="9"), streams=1).lease_timeout == 9


@pytest.mark.parametrize(
    ("variables", "unused"),
    [
        ({}, 20.0),
        ({"DASHSCOPE_CONNECTION_IDLE_TIME": "10"}, 10.0),
        ({"STENOPOOL_POOL_WARM_UP_MODEL": "fun-asr-realtime"}, 50.0),
    ],
)
def test_what_has_served_nobody_is_kept_for_less_long_unless_it_was_warmed_up(
    given: Given, variables: dict[str, str], unused: float
) -> None:
    assert policy(given(**variables), streams=1).max_unused == unused


@pytest.mark.parametrize(
    ("variables", "grace"),
    [
        ({}, 5.0),
        ({"STENOPOOL_POOL_UNUSED_TIME": "2"}, 0.5),
        ({"DASHSCOPE_CONNECTION_IDLE_TIME": "59"}, 0.5),
    ],
)
def test_an_idle_one_outlives_its_age_for_a_while_but_never_the_service_s_limit(
    given: Given, variables: dict[str, str], grace: float
) -> None:
    assert policy(given(**variables), streams=1).grace == grace


@pytest.mark.parametrize(
    ("variables", "streams", "rate"),
    [
        ({}, 1, 20.0),
        ({}, 1000, 2 * 1101 / 20),
        ({"STENOPOOL_POOL_WARM_UP_MODEL": "fun-asr-realtime"}, 1, 2.0),
        ({"STENOPOOL_POOL_OPENS_PER_SECOND": "5"}, 50, 5.0),
    ],
)
def test_it_opens_as_fast_as_told_or_as_it_takes_to_keep_all_warm(
    given: Given, variables: dict[str, str], streams: int, rate: float
) -> None:
    assert policy(given(**variables), streams).opens_per_second == rate


def test_a_rate_that_cannot_keep_them_warm_says_what_to_change(given: Given) -> None:
    found = given(STENOPOOL_POOL_OPENS_PER_SECOND="5", RECOGNITION_OBJECTPOOL_SIZE="101")
    with pytest.raises(SettingsError) as error:
        policy(found, streams=100)
    assert str(error.value) == (
        "STENOPOOL_POOL_OPENS_PER_SECOND=5 cannot keep 101 recognisers warm, of which each is replaced after "
        "20 seconds without a job; raise it to 10.1, or lower RECOGNITION_OBJECTPOOL_SIZE"
    )


@pytest.mark.parametrize(
    ("variables", "processes", "streams", "said"),
    [
        ({}, 20, 1, []),
        ({}, 21, 1, ["21 jobs can begin at once"]),
        ({}, 1, 20, []),
        ({"DASHSCOPE_MAXIMUM_ASYNC_REQUESTS": "5"}, 1, 20, ["20 jobs run at once in a process and 5 of them can"]),
        ({"RECOGNITION_OBJECTPOOL_SIZE": "19"}, 1, 20, ["20 jobs run at once in a process and 19 of them can"]),
        ({"RECOGNITION_OBJECTPOOL_SIZE": "30"}, 1, 50, ["50 jobs run at once", "30 jobs can begin at once"]),
        (
            {"RECOGNITION_OBJECTPOOL_SIZE": "500", "STENOPOOL_QUOTA_OPENS_PER_SECOND": "1000"},
            8,
            1,
            ["Each of 8 processes keeps 500 recognisers for 1 jobs"],
        ),
    ],
)
def test_sizes_that_will_make_jobs_wait_or_be_refused_are_told_at_the_start(
    given: Given, variables: dict[str, str], processes: int, streams: int, said: list[str]
) -> None:
    sentences = cautions(given(**variables), processes, streams)
    assert len(sentences) == len(said)
    assert all(sentence.startswith(begin) for sentence, begin in zip(sentences, said, strict=True))


@pytest.mark.parametrize(
    ("variables", "processes", "told"),
    [
        # Two recognisers in each process, of which each is replaced after 20 seconds.
        ({}, 173, None),
        ({}, 174, "348 recognisers that wait for jobs take 17.4 connections a second, and all workers together open"),
        ({"STENOPOOL_QUOTA_OPENS_PER_SECOND": "2.3"}, 20, None),
        ({"STENOPOOL_QUOTA_OPENS_PER_SECOND": "2.3"}, 21, "42 recognisers that wait for jobs take 2.1 connections"),
        ({"STENOPOOL_POOL_OPENS_PER_SECOND": "2"}, 18, "36 recognisers that wait for jobs take 1.8 connections"),
    ],
)
def test_more_idle_recognisers_than_an_account_s_opens_keep_warm_are_told(
    given: Given, variables: dict[str, str], processes: int, told: str | None
) -> None:
    found = given(STENOPOOL_QUOTA_STARTS_PER_SECOND="1000", **variables)
    sentences = cautions(found, processes, streams=1)
    assert len(sentences) == (told is not None)
    assert all(sentence.startswith(str(told)) for sentence in sentences)


def test_the_account_that_may_open_least_counts(given: Given, tmp_path: Path) -> None:
    path = tmp_path / "accounts.toml"
    path.write_text('[a]\napi_key = "k"\n[b]\napi_key = "k"\nopens_per_second = 1.15\n')
    found = given(STENOPOOL_ACCOUNTS_FILE=str(path))
    assert cautions(found, 10, streams=1) == []
    (said,) = cautions(found, 11, streams=1)
    assert "all workers together open 1.0 for an account" in said


def test_the_margin_is_that_of_the_quota() -> None:
    assert OPEN_MARGIN == 1.15


@pytest.mark.parametrize(("streams", "openers"), [(1, 10), (100, 10), (200, 12), (2000, 64)])
def test_half_as_many_open_at_once_as_open_in_a_second(given: Given, streams: int, openers: int) -> None:
    assert policy(given(), streams).openers == openers
    assert policy(given(STENOPOOL_POOL_OPENERS="3"), streams).openers == 3


def test_a_pool_is_resized_within_its_settings(given: Given) -> None:
    found = given(DASHSCOPE_CONNECTION_POOL_SIZE="6")
    assert resized(found, policy(found, streams=2), 5) == (5, 6)
    with pytest.raises(SettingsError, match="7 is more than DASHSCOPE_CONNECTION_POOL_SIZE=6; raise that and restart"):
        resized(found, policy(found, streams=2), 7)
