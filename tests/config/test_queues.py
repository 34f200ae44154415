import pytest

from config.queues import BULK, CLASSES, INTERACTIVE, PLAIN_QUEUE, QUEUE, QUEUES, WEIGHTS, class_of, weight


def test_each_class_has_a_queue_and_a_weight() -> None:
    assert set(CLASSES) == set(WEIGHTS) and set(CLASSES) < set(QUEUES) and len(QUEUES) == len(set(QUEUES)) == 4


def test_who_is_waited_for_weighs_most_and_nobody_weighs_nothing() -> None:
    assert weight(INTERACTIVE) > weight(QUEUE) > weight(BULK) > 0


@pytest.mark.parametrize("queue", [PLAIN_QUEUE, "", "q", "transcribe.other"])
def test_any_other_queue_s_jobs_belong_to_the_default(queue: str) -> None:
    assert class_of(queue) == QUEUE and weight(queue) == weight(QUEUE)


@pytest.mark.parametrize("queue", CLASSES)
def test_a_class_s_own_queue_belongs_to_it(queue: str) -> None:
    assert class_of(queue) == queue and weight(queue) == WEIGHTS[queue]
