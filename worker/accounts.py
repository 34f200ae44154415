"""The accounts of a process: each with its quota, its pool of recognisers, and the gate to more of them."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from config.quota import AccountSettings
from worker.figures import merged
from worker.pool import Pool
from worker.quota import Gate, NoQuota, Quota, Slot, Wish
from worker.recognition import Recognizer, RecognizerHooks
from worker.stops import Stop

LOOK_EVERY = 1.0
"""Seconds between two looks whether a process that was cut off can connect again."""


class NoSuchAccount(Exception):
    """Raised for a name that no account has, or a model that none offers. The text is a sentence for the user."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """One account as a process uses it."""

    settings: AccountSettings
    quota: Quota
    gate: Gate
    hooks: RecognizerHooks
    pool: Pool[Recognizer]

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def is_cut_off(self) -> bool:
        """Whether this process cannot connect, and has nothing left: it must take no slot from those that can."""
        return self.pool.is_cut_off


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stream may run: a slot of an account, and where its recognisers are borrowed."""

    slot: Slot
    recognizers: Pool[Recognizer]
    patience: float
    """Seconds for which a job may wait for one, while they are busy."""


class Accounts:
    """All of a process. A job names one, or gets the one with the most free quota."""

    def __init__(self, accounts: Sequence[Account]) -> None:
        self.all = tuple(accounts)

    def __repr__(self) -> str:
        return f"<Accounts {', '.join(account.name for account in self.all)}>"

    @property
    def last_error(self) -> str:
        """The type of the error with which the last open of a pool failed, by name; empty if all succeeded."""
        return next(filter(None, (account.pool.last_error for account in self.all)), "")

    def warm(self) -> None:
        """Begin to warm all pools, in the background."""
        for account in self.all:
            account.pool.open()

    def close(self, timeout: float) -> None:
        """Close all pools. Each takes up to so many seconds."""
        for account in self.all:
            account.gate.close()
        for account in self.all:
            account.pool.close(timeout)

    def stats(self) -> dict[str, int | float]:
        """Flat figures of all pools and quotas: sums, and of times the longest."""
        each = [account.pool.stats() | account.quota.figures() for account in self.all]
        return merged(each, each[0])

    @contextmanager
    def place(self, wish: Wish, stop: Stop, told: Callable[[], None]) -> Iterator[Place]:
        """A place for a stream, for the length of the block. Where several accounts will do, the first that has quota;
        if none has, the job waits for that with the shortest line.

        Raises NoSuchAccount, and as `Quota.slot`.
        """
        with ExitStack() as stack:
            for account, kept, wait in self._tries(wish):
                if account.is_cut_off and not (wait and _connects(account, stop, told)):
                    if wait:
                        raise NoQuota(wish.place)
                    continue
                try:
                    slot = stack.enter_context(account.quota.slot(replace(wish, place=kept), stop, told, wait=wait))
                except NoQuota as error:
                    if wait:
                        raise NoQuota(f"{account.name} {error.place}") from None
                    continue
                yield Place(slot, account.pool, account.pool.policy.lease_timeout)
                return

    def _tries(self, wish: Wish) -> Iterator[tuple[Account, str, bool]]:
        """Which accounts to ask, one after the other: each with the place that is kept there, and whether to wait."""
        able = sorted(self._able(wish), key=lambda account: (account.is_cut_off, account.quota.pressure(wish.model)))
        name, _, kept = wish.place.rpartition(" ")
        home = next((account for account in able if account.name == name), None)
        if len(able) > 1:
            yield from ((account, "", False) for account in able if account is not home)
        yield (home, kept, True) if home is not None else (able[0], "", True)

    def _able(self, wish: Wish) -> list[Account]:
        named = [account for account in self.all if wish.account in (None, account.name)]
        if not named:
            raise NoSuchAccount(
                f"account {wish.account!r} is not known to this worker; it has {self._names(self.all)}."
            )
        able = [account for account in named if account.settings.offers(wish.model)]
        if not able:
            raise NoSuchAccount(f"model {wish.model!r} is not offered by {self._names(named)}; name another.")
        return able

    @staticmethod
    def _names(accounts: Sequence[Account]) -> str:
        return ", ".join(account.name for account in accounts)


def _connects(account: Account, stop: Stop, told: Callable[[], None]) -> bool:
    """Whether the account can be reached again within a job's patience: without that wait, a worker that is cut off
    would take one job after the other, only to send it back. Raises as `Stop.check`.
    """
    until = time.monotonic() + account.quota.patience
    while account.is_cut_off and (left := until - time.monotonic()) > 0:
        stop.wait(min(left, LOOK_EVERY))
        told()
    return not account.is_cut_off
