"""Workers of every execution pool, one account, and a service that punishes who crosses its limits."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from config.queues import BULK, INTERACTIVE
from emulator import BackgroundEmulator
from emulator.stack import Stack
from tests.sites import POOLS, TIMEOUT, Launch, Site

Sites = Callable[..., Site]
Service = Callable[..., BackgroundEmulator]
Recording = Callable[[float], Path]
Eventually = Callable[..., None]

STREAMS, STARTS, PENALTY = 4, 20, 1.0
RULES: dict[str, Any] = {"max_streams": STREAMS, "starts_per_second": STARTS, "penalty_seconds": PENALTY}
ALLOWED = {"STENOPOOL_QUOTA_STREAMS": str(STREAMS)}
"""What the workers are told; twenty starts a second is what they take for granted."""


@contextmanager
def joined(stack: Stack, first: Site, *pools: str) -> Iterator[None]:
    """Further workers on the first one's queues, with its settings."""
    with ExitStack() as ends:
        for pool in pools:
            worker = stack.start_worker(pool, 4, f"{pool}-of-{first.worker.name}", **first.env)
            ends.callback(worker.stop, timeout=0.0)
        yield


def events(site: Site, job_id: str) -> list[Any]:
    """The states that those who follow a job were told of."""
    found: Any = site.redis.xrange(f"stenopool:job:{{{job_id}}}:events")
    return [fields[b"data"] for _, fields in found if fields[b"type"] == b"state"]


def test_a_fleet_of_all_pools_uses_its_quota_and_never_crosses_it(
    alone: Sites, stack: Stack, service: Service, counter: Recording
) -> None:
    emulator = service(**RULES)
    site = alone("threads", emulator, Launch(concurrency=4), **ALLOWED)
    with joined(stack, site, *(pool for pool in POOLS if pool != "threads")):
        results = site.run([counter(0.5).as_uri()] * 50)

    seen = emulator.logbook.summary()
    assert seen["refused"] == 0 and seen["streams_max"] == STREAMS and seen["starts_per_second_max"] <= STARTS
    assert [(result["text"], result["attempts"]) for result in results] == [("0-7999", 1)] * 50
    assert {task.outcome for task in emulator.logbook.tasks} == {"finished"} and seen["streams"] == 50


def test_a_service_that_goes_away_costs_no_try(
    alone: Sites, service: Service, counter: Recording, eventually: Eventually
) -> None:
    emulator = service(**RULES)
    site = alone("threads", emulator, Launch(concurrency=8), **ALLOWED, STENOPOOL_QUOTA_PATIENCE="1")
    jobs = [site.send(counter(2).as_uri()) for _ in range(10)]
    eventually(lambda: emulator.logbook.streams_open == STREAMS, "all streams")

    emulator.stop()
    eventually(lambda: any(b"waiting for quota" in state for state in events(site, jobs[0].id)), "who waits is told")
    eventually(lambda: b"1" == site.redis.hget("stenopool:quota:{default}", "is_out"), "an outage that all know of")
    back = service(port=emulator.port, **RULES)

    results = [job.get(timeout=TIMEOUT) for job in jobs]
    assert [(result["text"], result["attempts"]) for result in results] == [("0-15999 16000-31999", 1)] * 10
    assert back.logbook.summary()["refused"] == 0 and back.logbook.summary()["streams_max"] <= STREAMS


def test_who_is_waited_for_goes_before_an_archive(alone: Sites, service: Service, counter: Recording) -> None:
    site = alone("threads", service(max_streams=1), Launch(concurrency=6), STENOPOOL_QUOTA_STREAMS="1")
    reference = counter(0.3).as_uri()
    site.transcribe(reference)

    archive = [site.send(reference, celery={"queue": BULK}) for _ in range(12)]
    urgent = [site.send(reference, celery={"queue": INTERACTIVE}) for _ in range(4)]
    for job in urgent:
        job.get(timeout=TIMEOUT)

    assert sum(job.ready() for job in archive) < 6
    for job in archive:
        job.get(timeout=TIMEOUT)


def test_jobs_are_spread_over_accounts_or_go_to_the_one_that_they_name(
    alone: Sites, service: Service, counter: Recording, tmp_path: Path
) -> None:
    first, second = service(max_streams=1), service(max_streams=1)
    accounts = tmp_path / "accounts.toml"
    accounts.write_text(f'[second]\napi_key = "sk-of-the-second"\nurl = "{second.url}"\n', encoding="utf-8")
    limited = {"STENOPOOL_QUOTA_STREAMS": "1", "STENOPOOL_ACCOUNTS_FILE": str(accounts)}
    site = alone("threads", first, Launch(concurrency=4), **limited)

    site.run([counter(0.5).as_uri()] * 8)
    spread = first.logbook.streams, second.logbook.streams
    site.run([counter(0.1).as_uri()] * 3, account="second")

    assert sum(spread) == 8 and min(spread) >= 3
    assert (first.logbook.streams, second.logbook.streams) == (spread[0], spread[1] + 3)
    assert first.logbook.summary()["refused"] == second.logbook.summary()["refused"] == 0
    assert site.failure(counter(0.1).as_uri(), account="third")[0] == "bad_request"
    assert "sk-of-the-second" not in site.worker.output
