import random
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery

from config.celeryconfig import celery_options
from config.settings import Settings
from worker.beat import BEAT_EVERY
from worker.consumer import Consumer


def test_jobs_are_json_acknowledged_late_and_taken_one_at_a_time(given: Callable[..., Settings]) -> None:
    options = celery_options(given())
    assert (
        options["accept_content"] == ["json"] and options["task_serializer"] == options["result_serializer"] == "json"
    )
    assert options["task_acks_late"] and options["worker_prefetch_multiplier"] == 1
    assert options["worker_send_task_events"] and options["broker_connection_max_retries"] is None


def test_our_queues_and_that_of_a_plain_client_are_served(given: Callable[..., Settings]) -> None:
    options = celery_options(given())
    names = [queue.name for queue in options["task_queues"]]
    assert sorted(names) == ["celery", "transcribe", "transcribe.bulk", "transcribe.interactive"]
    assert options["task_default_queue"] == "transcribe"


def test_no_two_queues_get_the_same_message(given: Callable[..., Settings]) -> None:
    queues = celery_options(given())["task_queues"]
    assert len({(queue.exchange.name, queue.routing_key) for queue in queues}) == len(queues)


def test_a_message_comes_back_only_after_some_beats_without_a_sign(given: Callable[..., Settings]) -> None:
    for settings in (given(), given(STENOPOOL_VISIBILITY_TIMEOUT="5")):
        transport = celery_options(settings)["broker_transport_options"]
        assert transport["visibility_timeout"] == settings.redis.visibility_timeout >= 4 * BEAT_EVERY


def test_a_lost_child_s_message_goes_back_as_it_is(given: Callable[..., Settings]) -> None:
    options = celery_options(given())
    assert options["task_reject_on_worker_lost"] and "task_retry_on_worker_lost" not in options


def test_a_lost_connection_ends_no_job_and_brings_no_more_than_there_are_slots(given: Callable[..., Settings]) -> None:
    options = celery_options(given())
    assert options["worker_cancel_long_running_tasks_on_connection_loss"] is False
    assert options["worker_disable_prefetch"] and not options["worker_enable_prefetch_count_reduction"]


def test_celery_knows_every_option_and_finds_the_consumer(given: Callable[..., Settings]) -> None:
    options = celery_options(given())
    app: Any = Celery(set_as_current=False)
    app.config_from_object(options)
    assert {name: app.conf[name] for name in options} == options
    unlisted = {"result_backend_thread_safe", "redis_backend_health_check_interval"}  # but read
    assert options.keys() - app.conf.maps[-1].keys() == unlisted
    assert app.loader.import_from_cwd(app.conf.worker_consumer.split(":")[0]).Consumer is Consumer


@pytest.mark.parametrize(("patience", "tries"), [("900", 190), ("60", 22), ("0.5", 11)])
def test_a_result_is_tried_to_be_stored_for_as_long_as_a_job_is_patient(
    given: Callable[..., Settings], patience: str, tries: int
) -> None:
    options = celery_options(given(STENOPOOL_REDIS_PATIENCE=patience))
    assert options["result_backend_always_retry"] and options["result_backend_max_retries"] == tries


def test_a_result_waits_about_a_quarter_of_an_hour_for_redis(given: Callable[..., Settings]) -> None:
    app: Any = Celery(set_as_current=False)
    app.config_from_object(celery_options(given()))
    backend, waits = app.backend, list[float]()
    backend._sleep = waits.append
    random.seed(1)
    with pytest.raises(ConnectionError):
        backend._ensure_retryable(away)
    assert 800 < sum(waits) < 1000 and max(waits) <= 10


def away() -> None:
    raise ConnectionError
