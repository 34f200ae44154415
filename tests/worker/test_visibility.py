"""With real messages of a real queue; only the consumer is the few attributes that are asked of it."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery import Celery
from celery.worker import state
from celery.worker.consumer.tasks import Tasks
from celery.worker.request import Request
from kombu import Connection
from kombu.utils.limits import TokenBucket

from config.settings import Settings
from worker import beat, visibility
from worker.visibility import RENEW, Renewal, Visibility, copied, held

INDEX = "unacked_index"
LONG_AGO = 1000.0
Eventually = Callable[..., None]
sets: Any = state


def job() -> None: ...


class Holder:
    """A consumer that has taken jobs and acknowledged none."""

    def __init__(self, url: str, **transport: Any) -> None:
        self.app: Any = Celery("t", broker=url, backend=url, set_as_current=False)
        self.app.conf.broker_transport_options = transport
        self.app.task(name="t.job")(job)
        self.app.finalize()
        self.pool = SimpleNamespace(is_green=False)
        self.connection: Any = self.app.connection_for_read()
        self.conninfo = self.connection
        self.task_buckets: dict[str, TokenBucket | None] = {"t.job": None}
        self.task_consumer: Any = self.app.amqp.TaskConsumer(self.connection.default_channel)
        self._messages: list[Any] = []
        self.task_consumer.on_message = self._messages.append
        self.task_consumer.consume()

    def take(self) -> Request:
        """The request of a job that was put on the queue and taken from it."""
        self.app.send_task("t.job")
        (message,) = self.came(within=10)
        made: Any = Request
        request: Request = made(
            message,
            app=self.app,
            hostname="celery@h",
            task=self.app.tasks["t.job"],
            on_ack=message.ack_log_error,
            connection_errors=self.connection.connection_errors,
        )
        return request

    def came(self, within: float) -> list[Any]:
        """The messages that have come: one, or after so many seconds none."""
        until = time.monotonic() + within
        while not self._messages and time.monotonic() < until:
            with suppress(TimeoutError):
                self.connection.drain_events(timeout=min(within, 2.0))  # as Celery does
        came, self._messages[:] = self._messages.copy(), []
        return came

    def close(self) -> None:
        self.task_consumer.cancel()
        self.connection.close()
        self.app.close()


@pytest.fixture
def holder(valkey: str, client: redis.Redis) -> Iterator[Holder]:
    taken = Holder(valkey)
    yield taken
    sets.reset_state()
    taken.close()


@pytest.fixture
def renewal(holder: Holder) -> Renewal:
    made = Renewal(holder, timeout=30)
    made.key = INDEX
    return made


def age(client: redis.Redis, *requests: Any, key: str = INDEX) -> None:
    """Make it long ago that these were given out."""
    assert client.zadd(key, {tag(one): LONG_AGO for one in requests}, xx=True, ch=True) == len(requests)


def tag(request: Any) -> str:
    return str(request.message.delivery_tag)


def is_renewed(client: redis.Redis, request: Any, key: str = INDEX) -> bool:
    score = client.zscore(key, tag(request))
    assert isinstance(score, float)
    return abs(score - time.time()) < 60


def tell(renewal: Renewal, client: redis.Redis) -> None:
    """As a heartbeat does."""
    call = renewal.tell()
    assert call is not None
    renewal.told(call.run(client))


# -- a job that hangs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "ran", "leased", "renewed"),
    [
        ("tasks.transcribe", 100.0, False, False),
        ("tasks.transcribe", 100.0, True, True),
        ("tasks.transcribe", 10.0, False, True),  # it may still be about to claim the job
        ("tasks.diagnose", 100.0, False, True),
    ],
)
def test_a_job_that_has_run_for_long_and_lost_its_lease_is_left_to_others(
    holder: Holder, renewal: Renewal, client: redis.Redis, name: str, ran: float, leased: bool, renewed: bool
) -> None:
    request: Any = holder.take()
    request.name, request.time_start = name, time.time() - ran
    if leased:
        client.set(f"stenopool:job:{{{request.id}}}:lease", "token")
    age(client, request)
    state.active_requests.add(request)
    renewal = Renewal(holder, timeout=30, leased_after=60)
    renewal.key = INDEX
    tell(renewal, client)
    assert is_renewed(client, request) == renewed


# -- which messages ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["reserved_requests", "active_requests", "scheduled_requests"])
def test_a_message_is_renewed_while_its_job_waits_or_runs(
    holder: Holder, renewal: Renewal, client: redis.Redis, where: str
) -> None:
    request, other = holder.take(), holder.take()
    age(client, request, other)
    getattr(state, where).add(request)
    tell(renewal, client)
    assert is_renewed(client, request) and not is_renewed(client, other)


def test_a_message_is_renewed_while_its_job_waits_for_its_turn_under_a_rate_limit(
    holder: Holder, renewal: Renewal, client: redis.Redis
) -> None:
    request = holder.take()
    age(client, request)
    bucket = holder.task_buckets["t.job"] = TokenBucket(1.0)
    bucket.add((request, 1))
    tell(renewal, client)
    assert is_renewed(client, request)


def test_what_was_acknowledged_is_not_spoken_of(holder: Holder, renewal: Renewal, client: redis.Redis) -> None:
    done, running = holder.take(), holder.take()
    sets.active_requests.update({done, running})
    done.acknowledge()
    assert held(holder) == {tag(running)}
    sets.active_requests.discard(running)
    assert renewal.tell() is None


def test_what_was_acknowledged_on_the_way_does_not_come_to_life_again(
    holder: Holder, renewal: Renewal, client: redis.Redis
) -> None:
    request = holder.take()
    sets.active_requests.add(request)
    call: Any = renewal.tell()
    request.acknowledge()
    call.run(client)
    assert not client.exists(INDEX)


def test_a_message_of_a_lost_connection_is_renewed_while_its_job_runs(
    holder: Holder, renewal: Renewal, client: redis.Redis
) -> None:
    request = holder.take()
    sets.active_requests.add(request)
    holder.connection.close()  # which gives the message back
    assert not client.exists(INDEX)
    call: Any = renewal.tell()
    call.run(client)
    assert not client.exists(INDEX)
    client.zadd(INDEX, {tag(request): LONG_AGO})  # another worker has taken it, or it could not be given back
    tell(renewal, client)
    assert is_renewed(client, request)


# -- how ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2, 999, 1000, 1001, 2000, 5000])
def test_thousands_are_renewed_in_one_command(client: redis.Redis, number: int) -> None:
    tags = [f"tag-{one}" for one in range(number)]
    client.zadd(INDEX, {**dict.fromkeys(tags, LONG_AGO), "other": LONG_AGO})
    RENEW.call([INDEX], *tags, "gone").run(client)
    assert client.zcount(INDEX, LONG_AGO + 1, "+inf") == number
    assert client.zscore(INDEX, "other") == LONG_AGO and client.zcard(INDEX) == number + 1


def test_the_time_is_that_of_redis(client: redis.Redis) -> None:
    client.zadd(INDEX, {"tag": LONG_AGO})
    answer = RENEW.call([INDEX], "tag").run(client)
    told: Any = client.time()
    assert told[0] - 60 < float(answer) == client.zscore(INDEX, "tag") <= told[0]


@pytest.mark.parametrize(("ahead", "warned"), [(-1000.0, False), (0.0, False), (14.0, False), (17.0, True)])
def test_a_clock_that_takes_others_messages_is_told_of_once(
    renewal: Renewal, caplog: pytest.LogCaptureFixture, ahead: float, warned: bool
) -> None:
    for _ in range(3):
        renewal.told(str(time.time() - ahead).encode())
    sentence = "this machine's clock is 17 s ahead of Redis': messages come twice; set it right"
    assert [one.message for one in caplog.records if one.levelno == logging.WARNING] == [sentence] * warned


# -- what another thread changes ---------------------------------------------------------------------------------------


class Restless(Iterable[int]):
    """Changes while it is looked at, as often as it was told to."""

    def __init__(self, times: int) -> None:
        self._times = times
        self._numbers = {1, 2, 3}

    def __iter__(self) -> Iterator[int]:
        for number in self._numbers:
            if self._times:
                self._times -= 1
                self._numbers.add(100 + self._times)
            yield number


def test_what_changes_while_it_is_copied_is_copied_anew() -> None:
    assert set(copied(Restless(0))) == {1, 2, 3}
    assert {1, 2, 3} < set(copied(Restless(visibility.TRIES - 1)))


def test_what_never_stands_still_is_left_for_the_next_beat() -> None:
    assert copied(Restless(visibility.TRIES)) == []


def test_jobs_may_come_and_go_meanwhile(holder: Holder) -> None:
    kept = [holder.take() for _ in range(20)]
    sets.active_requests.update(kept)
    coming, stop = holder.take(), threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            sets.active_requests.add(coming)
            sets.active_requests.discard(coming)

    other = threading.Thread(target=come_and_go)
    other.start()
    try:
        expected = set(map(tag, kept))
        assert all(held(holder) - {tag(coming)} in (expected, set()) for _ in range(2000))
    finally:
        stop.set()
        other.join()


# -- in a worker -------------------------------------------------------------------------------------------------------


@pytest.fixture
def step(fresh: Callable[..., Settings], valkey: str, holder: Holder) -> Iterator[Visibility]:
    fresh(STENOPOOL_REDIS_URL=valkey)
    made = Visibility(holder)
    made.create(holder)
    yield made
    made.shutdown(holder)
    made._beat.join(10)


def test_a_worker_renews_over_lost_connections_until_it_has_ended(
    step: Visibility,
    holder: Holder,
    client: redis.Redis,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(beat, "BEAT_EVERY", 0.01)
    request = holder.take()
    sets.reserved_requests.add(request)
    for _ in range(2):
        step.start(holder)
        age(client, request)
        eventually(lambda: is_renewed(client, request), "it is renewed")
        step.stop(holder)
        age(client, request)
        eventually(lambda: is_renewed(client, request), "jobs still run")
    beating: Any = step._beat
    assert repr(beating) == "<Beat carried 1, followed 0>"
    step.shutdown(holder)
    beating.join(10)
    assert not beating._thread.is_alive()


def test_the_keys_of_all_have_the_prefix_that_was_set(
    fresh: Callable[..., Settings], valkey: str, client: redis.Redis, eventually: Eventually
) -> None:
    fresh(STENOPOOL_REDIS_URL=valkey)
    prefixed = Holder(valkey, global_keyprefix="mine:", unacked_index_key="index")
    request = prefixed.take()
    sets.reserved_requests.add(request)
    step = Visibility(prefixed)
    step.create(prefixed)
    try:
        age(client, request, key="mine:index")
        step.start(prefixed)
        eventually(lambda: is_renewed(client, request, key="mine:index"), "it is renewed")
    finally:
        step.shutdown(prefixed)
        step._beat.join(10)
        sets.reset_state()
        prefixed.close()


@pytest.mark.parametrize("is_green", [True, False])
def test_under_a_green_pool_the_messages_of_the_dead_are_taken_back(
    fresh: Callable[..., Settings], valkey: str, holder: Holder, client: redis.Redis, is_green: bool
) -> None:
    of_the_dead = holder.take()
    age(client, of_the_dead)
    fresh(STENOPOOL_REDIS_URL=valkey)
    alive = Holder(valkey, unacked_restore_interval=0.1, unacked_restore_throttle=1)
    alive.pool.is_green = is_green
    step = Visibility(alive)
    step.create(alive)
    try:
        step.start(alive)
        came = [message.delivery_tag for message in alive.came(within=10 if is_green else 2)]
        assert came == [tag(of_the_dead)] * is_green  # else it is Celery's loop that does it
    finally:
        step.shutdown(alive)
        alive.close()


@pytest.mark.parametrize(("every", "swept"), [(0.0, 3), (1000.0, 1)])
def test_messages_are_taken_back_before_a_wait_but_not_before_each(every: float, swept: int) -> None:
    done: list[str] = []
    drain = visibility.sweeping(lambda **options: done.append(str(options)), lambda: done.append("swept"), every)
    for _ in range(3):
        drain(timeout=2.0)
    assert done.count("swept") == swept and done[0] == "swept"
    assert done.count("{'timeout': 2.0}") == 3 and done[-1] != "swept"


def test_making_the_step_starts_nothing(step: Visibility) -> None:
    assert step._beat._thread is None


def test_the_step_is_for_redis_alone(valkey: str) -> None:
    for url, wanted in ((valkey, True), ("memory://", False), ("amqp://", False)):
        assert Visibility(None).include_if(SimpleNamespace(conninfo=Connection(url))) is wanted


def test_it_starts_when_there_is_a_channel() -> None:
    assert Visibility.requires == (f"{Tasks.__module__}:{Tasks.__name__}",)
