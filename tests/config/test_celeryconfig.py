from collections.abc import Callable

from config.celeryconfig import celery_options
from config.settings import Settings


def test_jobs_are_json_acknowledged_late_and_taken_one_at_a_time(given: Callable[..., Settings]) -> None:
    options = celery_options(given())
    assert (
        options["accept_content"] == ["json"] and options["task_serializer"] == options["result_serializer"] == "json"
    )
    assert options["task_acks_late"] and options["worker_prefetch_multiplier"] == 1
    assert options["worker_send_task_events"] and options["broker_connection_max_retries"] is None


def test_our_queue_and_that_of_a_plain_client_are_served(given: Callable[..., Settings]) -> None:
    options = celery_options(given())
    assert {queue.name for queue in options["task_queues"]} == {"transcribe", "celery"}
    assert options["task_default_queue"] == "transcribe"


def test_no_two_queues_get_the_same_message(given: Callable[..., Settings]) -> None:
    queues = celery_options(given())["task_queues"]
    assert len({(queue.exchange.name, queue.routing_key) for queue in queues}) == len(queues)


def test_a_message_comes_back_only_after_the_longest_job(given: Callable[..., Settings]) -> None:
    settings = given()
    assert celery_options(settings)["broker_transport_options"]["visibility_timeout"] > settings.job.deadline
