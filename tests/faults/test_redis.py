"""What Redis, and those who write to it, can do to a worker and its jobs."""

import base64
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Site = Any
Counter = Callable[[float], Path]

# Bodies that no Celery client makes, but anybody who can reach the Redis can.
STRANGE: list[Any] = [[None, {}, {}], [[], ["x"], {}], [5, {}, {}], [[], None, {}], [None, None, {}]]


def message(body: Any, **headers: Any) -> str:
    """A message as Celery's clients write it, with any body."""
    task_id = uuid.uuid4().hex
    return json.dumps(
        {
            "body": base64.b64encode(json.dumps(body).encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"id": task_id, "task": "tasks.transcribe", "lang": "py", "retries": 0} | headers,
            "properties": {
                "delivery_info": {"exchange": "celery", "routing_key": "celery"},
                "delivery_tag": task_id,
                "body_encoding": "base64",
                "delivery_mode": 2,
                "priority": 0,
            },
        }
    )


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_strange_message_ends_neither_the_worker_nor_other_jobs(
    sites: Callable[..., Site], pool: str, counter: Counter, eventually: Callable[..., None]
) -> None:
    site = sites(pool)

    site.redis.lpush("celery", *(message(body) for body in STRANGE))

    assert site.transcribe(counter(1).as_uri(), pace=0)["text"] == "0-15999"
    eventually(lambda: not site.redis.exists("celery", "unacked"), "every message was dealt with")
    assert site.worker.running


def test_a_task_of_somebody_else_is_not_logged_whole(threads: Site, counter: Counter) -> None:
    threads.client.send_task("mail.send", args=["bob@example.com"])

    assert threads.transcribe(counter(1).as_uri(), pace=0)["text"] == "0-15999"
    assert "mail.send" in threads.worker.output and "bob@" not in threads.worker.output


def test_connections_to_redis_that_are_cut_in_mid_job_cost_no_sentence(
    threads: Site, counter: Counter, marker: str, eventually: Callable[..., None]
) -> None:
    job = threads.send(counter(4).as_uri(), parameters={"marker": marker})
    key = f"stenopool:job:{{{job.id}}}:sentences"
    eventually(lambda: threads.redis.llen(key) >= 1, "the first sentence")

    # The job's own connections; those of Celery's broker have a name, and end in other commands.
    own = [one for one in threads.redis.client_list() if one["cmd"] in {"evalsha", "exec"} and not one["name"]]
    killed = sum(threads.redis.client_kill_filter(_id=one["id"]) for one in own)
    assert killed >= 1

    result = job.get(timeout=30)
    assert result["text"] == "0-15999 16000-31999 32000-47999 48000-63999"
    assert [json.loads(one)["text"] for one in threads.redis.lrange(key, 0, -1)] == result["text"].split()
    assert (result["attempts"], len(threads.tasks(marker))) == (1, 1)
