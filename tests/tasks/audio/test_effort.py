import threading
import time
from collections.abc import Iterator

import pytest

from tasks.audio.effort import Effort
from tasks.errors import BadInput


def work(seconds: float) -> None:
    """Keep the processor busy for so long."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def is_too_much(effort: Effort) -> bool:
    try:
        effort.check()
    except BadInput as error:
        assert (error.code, "https://host/call" in error.sentence) == ("audio_too_slow", True)
        return True
    return False


def test_work_may_take_what_is_allowed_and_what_the_sound_lasts() -> None:
    effort = Effort("https://host/call", 0.02)
    with effort:
        work(0.01)
        assert not is_too_much(effort)
        work(0.02)
        assert is_too_much(effort)
    assert is_too_much(effort)
    effort.heard(1.0)
    assert not is_too_much(effort)


def test_what_is_done_outside_costs_nothing() -> None:
    effort = Effort("https://host/call", 0.02)
    with effort:
        assert effort.pause()
        work(0.03)
        assert not effort.pause()
        effort.resume()
    work(0.03)
    assert not effort.pause() and not is_too_much(effort)


def test_waiting_and_the_work_of_others_cost_nothing() -> None:
    effort = Effort("https://host/call", 0.02)
    other = threading.Thread(target=work, args=(0.03,))
    with effort:
        other.start()
        other.join()
    assert not is_too_much(effort)


def test_of_steps_only_what_each_takes_is_counted() -> None:
    def steps() -> Iterator[int]:
        for number in range(3):
            work(0.01)
            yield number

    effort = Effort("https://host/call", 0.035)
    for step in effort.of(steps()):
        assert not is_too_much(effort), step
        work(0.03)
    assert not is_too_much(effort)
    with pytest.raises(StopIteration):
        next(effort.of(iter(())))
    for _ in effort.of(steps()):
        pass
    assert is_too_much(effort)
