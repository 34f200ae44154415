from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from tests.worker.quota.peers import PATIENCE, Peer, Redis, allowed
from worker.beat import impatient
from worker.quota import Ledger, Mailbox, Quota, mailbox

Quotas = Callable[..., Quota]
"""Makes an account's quota as a further process sees it."""

Peers = Callable[..., Peer]
"""Makes a further process that asks and hears by hand."""


@pytest.fixture
def inside(client: redis.Redis) -> Redis:
    return Redis(client)


@pytest.fixture
def peer(client: redis.Redis) -> Iterator[Peers]:
    made: list[Peer] = []

    def make(name: str = "p", account: str = "a", **allowance: Any) -> Peer:
        made.append(Peer(client, name, allowed(**allowance), account))
        return made[-1]

    yield make
    for one in made:
        one.go()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads of mailboxes hear at once that they are to end, and connect again at once."""
    assert (mailbox.LISTEN, mailbox.AGAIN_AFTER) == (1.0, 1.0)
    monkeypatch.setattr(mailbox, "LISTEN", 0.02)
    monkeypatch.setattr(mailbox, "AGAIN_AFTER", 0.01)


@pytest.fixture
def quota(valkey: str, client: redis.Redis, quick: None) -> Iterator[Quotas]:
    with ExitStack() as ending:

        def make(
            account: str = "a",
            *,
            url: str = valkey,
            tenants: dict[str, float] | None = None,
            patience: float = 1000.0,
            redis_patience: float = PATIENCE,
            **allowance: Any,
        ) -> Quota:
            connection = ending.enter_context(impatient(url))
            box = Mailbox(ending.enter_context(impatient(url)))
            ending.callback(end, box)
            ledger = Ledger(connection, account, allowed(**allowance))
            return Quota(ledger, box, tenants=tenants or {}, patience=patience, redis_patience=redis_patience)

        yield make


def end(box: Mailbox) -> None:
    box.close()
    for thread in box._threads.values():
        thread.join(PATIENCE)
        assert not thread.is_alive()
