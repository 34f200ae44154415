"""A new worker is started, the old one is told to end: what was running goes on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.sites import Launch

Site = Any


def test_a_worker_that_is_drained_by_command_hands_its_job_to_the_next(
    alone: Callable[..., Site], counter: Callable[[float], Path], eventually: Callable[..., None], marker: str
) -> None:
    old = alone("threads")
    job = old.send(counter(6).as_uri(), parameters={"marker": marker})
    key = f"stenopool:job:{{{job.id}}}"
    eventually(lambda: old.redis.llen(f"{key}:sentences") >= 1, "the first sentence")
    before = old.record(job.id)["worker"]
    new = alone("threads", None, Launch(redis_url=old.redis_url))

    ((answer,),) = [told.values() for told in old.client.control.broadcast("drain", destination=[before], reply=True)]

    assert "other workers go on" in answer["ok"]
    eventually(lambda: not old.worker.running, "the end of the old worker")
    result = job.get(timeout=30)
    assert result["text"] == "0-15999 16000-31999 32000-47999 48000-63999 64000-14463 14464-30463"
    assert (result["attempts"], result["resumes"], result["usage"]["streams"]) == (2, 1, 2)
    assert new.record(job.id)["worker"] != before
    assert "Traceback" not in old.worker.output
