"""A job whose work another has done."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from tasks.errors import BadInput
from tasks.job.view import JobView
from tests.fakes import FakeRecognizer
from tests.tasks.scene import KEYS, Scene, states
from tests.tasks.spoken import final
from worker.jobs import job_key
from worker.quota import NoQuota
from worker.recognition import ServerFault


class Before:
    """The job `j` has done its work, and is now another one; what it left is there under its new name."""

    def __init__(self, scene: Scene, client: redis.Redis) -> None:
        self.scene, self.client = scene, client

    def __call__(self, **options: Any) -> dict[str, Any]:
        result: dict[str, Any] = self.scene.run(FakeRecognizer(final(0, 100, "One.")), **options)
        self.client.rename(KEYS.job, job_key("first"))
        self.client.delete(KEYS.sentences, KEYS.events)
        for key in self.client.scan_iter("stenopool:same:*"):
            self.client.set(key, "first", ex=100)
        return result


@pytest.fixture
def before(scene: Scene, client: redis.Redis) -> Before:
    return Before(scene, client)


def again(scene: Scene, **options: Any) -> dict[str, Any]:
    """A job that must not stream."""
    result: dict[str, Any] = scene.run(AssertionError("it streams"), **options)
    return result


def test_the_same_key_again_has_the_first_one_s_result_and_opens_nothing(
    scene: Scene, before: Before, view: JobView
) -> None:
    first = before(idempotency_key="k", metadata={"n": 1})
    opened = len(scene.opened)
    assert again(scene, idempotency_key="k", ref="https://h/other.mp3", metadata={"n": 2}) == first
    assert len(scene.opened) == opened and states(view) == ["running", "succeeded"]
    assert json.loads(view.fields()["result"]) == first


@pytest.mark.parametrize("other", [{"idempotency_key": "l"}, {"idempotency_key": "k", "tenant": "t"}, {}])
def test_another_key_or_tenant_or_none_is_another_job(scene: Scene, before: Before, other: dict[str, Any]) -> None:
    before(idempotency_key="k")
    assert scene.run(FakeRecognizer(final(0, 100, "Two.")), **other)["text"] == "Two."


def test_the_same_content_is_not_transcribed_twice(scene: Scene, before: Before) -> None:
    first = before(deduplicate=True, metadata={"n": 1})
    found = again(scene, deduplicate=True, ref="https://h/copy.mp3", metadata={"n": 2}, pace=3.0)
    assert found.pop("timing")["reused_connection"] is False
    assert found == {name: value for name, value in first.items() if name != "timing"} | {
        "audio": "https://h/copy.mp3",
        "metadata": {"n": 2},
        "usage": {"audio_ms": 300, "sent_ms": 0, "streams": 0},
    }


@pytest.mark.parametrize("other", [{"model": "m"}, {"tenant": "t"}, {"deduplicate": False}])
def test_the_same_content_for_others_or_otherwise_is_another_job(
    scene: Scene, before: Before, other: dict[str, Any]
) -> None:
    before(deduplicate=True)
    assert scene.run(FakeRecognizer(final(0, 100, "Two.")), **{"deduplicate": True} | other)["text"] == "Two."


def test_other_content_is_another_job(scene: Scene, before: Before) -> None:
    before(deduplicate=True)
    scene.content = "xyz"
    assert scene.run(FakeRecognizer(final(0, 100, "Two.")), deduplicate=True)["text"] == "Two."


def test_while_the_first_is_at_work_the_next_waits_in_the_queue_and_no_try_is_counted(
    scene: Scene, before: Before, client: redis.Redis, view: JobView, rules: Callable[..., Any]
) -> None:
    before(idempotency_key="k")
    client.hset(job_key("first"), "state", "running")
    for _ in range(2):
        left = scene.left(AssertionError("it streams"), idempotency_key="k")
        assert left.error is None and 2 <= left.seconds <= 5
    fields = view.fields()
    assert (fields["state"], fields["attempts"], fields["fruitless"]) == ("queued", "0", "0")
    assert states(view) == ["running", "waiting for another job"]
    client.hset(job_key("first"), "state", "succeeded")
    assert again(scene, idempotency_key="k")["text"] == "One."


def test_a_first_one_that_failed_leaves_the_work_to_the_next(scene: Scene, before: Before, client: redis.Redis) -> None:
    before(idempotency_key="k")
    client.hset(job_key("first"), "state", "failed")
    assert scene.run(FakeRecognizer(final(0, 100, "Two.")), idempotency_key="k")["text"] == "Two."
    (key,) = client.scan_iter("stenopool:same:*")
    assert client.get(key) == b"j"


# -- a recording is told from others by being read ---------------------------------------------------------------------


def test_who_waits_for_the_first_reads_the_recording_once_and_needs_it_no_more(
    scene: Scene, before: Before, client: redis.Redis
) -> None:
    before(deduplicate=True)
    client.hset(job_key("first"), "state", "running")
    scene.was_digested = 0
    for _ in range(3):
        scene.left(AssertionError("it streams"), deduplicate=True)
        scene.content = BadInput("audio_forbidden", "The address has run out.")
    client.hset(job_key("first"), "state", "succeeded")
    assert again(scene, deduplicate=True)["text"] == "One." and scene.was_digested == 1


def test_a_server_that_is_away_at_a_later_try_fails_no_job(scene: Scene, view: JobView) -> None:
    scene.left(
        FakeRecognizer(final(0, 100, "One."), ServerFault("x")), FakeRecognizer(ServerFault("x")), deduplicate=True
    )
    scene.content = BadInput("audio_unreachable", "The server is away.")
    scene.left(audio=[BadInput("audio_unreachable", "The server is away.")], deduplicate=True)
    result = scene.run(FakeRecognizer(final(0, 200, "Two.")), deduplicate=True)
    assert result["text"] == "One. Two." and view.fields()["content"] == ""


@pytest.mark.parametrize("is_same", [True, False])
def test_what_came_of_a_recording_that_changed_between_two_tries_is_nobody_else_s(
    scene: Scene, before: Before, client: redis.Redis, is_same: bool
) -> None:
    scene.places.errors = [NoQuota("default 7")]
    scene.left(deduplicate=True)
    scene.content = "abc" if is_same else "xyz"
    assert before(deduplicate=True)["text"] == "One."
    scene.content = "abc"
    other = scene.run(FakeRecognizer(final(0, 100, "Two.")), deduplicate=True)
    assert other["text"] == ("One." if is_same else "Two.")


def test_a_recording_that_is_read_for_longer_than_a_job_may_take_ends_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late() -> None:
        now = time.monotonic()
        monkeypatch.setattr("tasks.transcription.time.monotonic", lambda: now + scene.rules.deadline + 1)

    scene.at_start = too_late
    assert scene.failed(deduplicate=True).code == "deadline_passed"
