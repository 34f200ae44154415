from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from config.quota import AccountSettings
from worker.accounts import Account, Accounts, NoSuchAccount
from worker.beat import impatient
from worker.pool import Policy
from worker.quota import Allowance, Gate, Ledger, Mailbox, NoQuota, Quota, Wish
from worker.quota import quota as quota_module
from worker.quota.gate import NotAdmitted
from worker.stops import Stop

PATIENCE = 10.0
MODEL = "m"


class FakePool:
    """Notes what is asked of it, in a list that it shares with others."""

    def __init__(self, name: str, noted: list[str], **figures: float) -> None:
        self.last_error = ""
        self.is_cut_off = False
        self.policy = Policy()
        self.figures = figures
        self._name = name
        self._noted = noted

    def open(self) -> None:
        self._noted.append(f"open {self._name}")

    def close(self, timeout: float) -> None:
        self._noted.append(f"close {self._name} in {timeout}")

    def stats(self) -> dict[str, float]:
        return self.figures


Make = Callable[..., Accounts]
"""Makes the accounts of one process: by name, how many streams each may have."""


@pytest.fixture
def noted() -> list[str]:
    """What was asked of the pools."""
    return []


@pytest.fixture
def make(valkey: str, client: redis.Redis, noted: list[str]) -> Iterator[Make]:
    with ExitStack() as ending:

        def new(models: dict[str, tuple[str, ...]] | None = None, patience: float = 0.05, **streams: int) -> Accounts:
            box = Mailbox(ending.enter_context(impatient(valkey)))
            ending.callback(end, box)
            connection = ending.enter_context(impatient(valkey))

            def account(name: str) -> Account:
                allowance = Allowance(streams=streams[name], starts_per_second=10_000.0, opens_per_second=10_000.0)
                quota = Quota(
                    Ledger(connection, name, allowance), box, tenants={}, patience=patience, redis_patience=PATIENCE
                )
                own = AccountSettings(name=name, api_key=SecretStr("k"), models=(models or {}).get(name, (MODEL,)))
                pool: Any = FakePool(name, noted)
                hooks: Any = None
                return Account(settings=own, quota=quota, gate=Gate(quota), hooks=hooks, pool=pool)

            return Accounts([account(name) for name in streams])

        yield new


def end(box: Mailbox) -> None:
    box.close()
    for thread in box._threads.values():
        thread.join(PATIENCE)


def place(accounts: Accounts, told: Callable[[], None] = lambda: None, **wish: Any) -> Any:
    """A place for a stream, as a context."""
    return accounts.place(Wish(**{"model": MODEL} | wish), Stop(), told)


def held(accounts: Accounts) -> list[float]:
    """The slots of each account."""
    return [account.quota.figures()["quota_slots"] for account in accounts.all]


# -- which account -----------------------------------------------------------------------------------------------------


def test_a_job_that_names_an_account_gets_that_and_borrows_from_its_pool(make: Make) -> None:
    accounts = make(a=5, b=5)
    for name, expected in (("b", [0, 1]), ("a", [1, 0]), ("b", [0, 1])):
        with place(accounts, account=name) as found:
            assert held(accounts) == expected
            assert found.recognizers is next(one.pool for one in accounts.all if one.name == name)
    assert held(accounts) == [0, 0]


def test_a_job_that_names_an_account_does_not_get_another_s_quota(make: Make) -> None:
    accounts = make(a=1, b=5)
    with place(accounts, account="a"), pytest.raises(NoQuota), place(accounts, account="a"):
        pytest.fail("it began")


def test_an_account_that_nobody_has_is_told_with_those_that_there_are(make: Make) -> None:
    with pytest.raises(NoSuchAccount) as caught, place(make(a=1, b=1), account="c"):
        pytest.fail("it began")
    assert str(caught.value) == "account 'c' is not known to this worker; it has a, b."


@pytest.mark.parametrize(("named", "names"), [(None, "a, b"), ("b", "b")])
def test_a_model_that_no_account_offers_is_told(make: Make, named: str | None, names: str) -> None:
    with pytest.raises(NoSuchAccount) as caught, place(make(a=1, b=1), model="n", account=named):
        pytest.fail("it began")
    assert str(caught.value) == f"model 'n' is not offered by {names}; name another."


def test_only_accounts_that_offer_the_model_are_asked(make: Make) -> None:
    accounts = make(models={"b": ("n-*", "o")}, a=5, b=5)
    for model, expected in ((MODEL, [1, 0]), ("n-1", [0, 1]), ("o", [0, 1])):
        with place(accounts, model=model):
            assert held(accounts) == expected


def test_jobs_are_spread_by_what_is_free(make: Make) -> None:
    accounts = make(a=4, b=2)
    with ExitStack() as running:
        for _ in range(6):
            running.enter_context(place(accounts))
            a, b = held(accounts)
            assert abs(a / 4 - b / 2) <= 0.5
        assert held(accounts) == [4, 2]
    assert held(accounts) == [0, 0]


def test_what_other_processes_have_taken_is_found_by_asking_the_next(make: Make) -> None:
    there, here = make(a=1, b=1), make(a=1, b=1)
    with place(there, account="a"), place(here) as found:
        assert held(here) == [0, 1] and found.recognizers is here.all[1].pool


def test_a_slot_is_given_back_however_its_block_ends(make: Make) -> None:
    accounts = make(a=1)
    for error in (ZeroDivisionError(), NoQuota("of somebody else's")):
        with pytest.raises(type(error)) as caught, place(accounts):
            raise error
        assert caught.value is error
    assert held(accounts) == [0]
    with place(accounts):
        pass


# -- when none has quota -----------------------------------------------------------------------------------------------


def test_when_no_account_has_quota_a_job_waits_in_the_line_of_the_one_least_used(
    make: Make, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert quota_module.TELL_AFTER == 1.0
    monkeypatch.setattr(quota_module, "TELL_AFTER", 0.001)
    there, here, told = make(a=2, b=2), make(a=2, b=2), list[str]()
    with ExitStack() as running:
        for name in ("a", "b", "b"):
            running.enter_context(place(there, account=name))
        running.enter_context(place(here, account="a"))
        with pytest.raises(NoQuota) as caught, place(here, lambda: told.append("waits")):
            pytest.fail("it began")
    name, kept = caught.value.place.split(" ")
    assert name == "b" and float(kept) > 0 and told
    assert [account.quota.figures()["quota_returned"] for account in here.all] == [0, 1]


def test_a_place_that_is_kept_leads_back_to_its_account(make: Make) -> None:
    accounts = make(a=1, b=1)
    with place(accounts, account="a"), place(accounts, account="b"):
        with pytest.raises(NoQuota) as first, place(accounts):
            pytest.fail("it began")
        home = first.value.place
        with pytest.raises(NoQuota) as again, place(accounts, place=home):
            pytest.fail("it began")
        assert again.value.place == home
    name = home.split(" ")[0]
    other = "b" if name == "a" else "a"
    with place(accounts, account=other), place(accounts, place=home):
        assert held(accounts) == [1, 1]
    with place(accounts, account=name), place(accounts, place=home):  # it does not wait where another is free
        assert held(accounts) == [1, 1]


def test_a_process_that_cannot_connect_takes_no_slot_from_those_that_can(make: Make) -> None:
    accounts = make(a=1, b=1)
    pools: list[Any] = [account.pool for account in accounts.all]
    cut_off, well = pools
    cut_off.is_cut_off = True
    with place(accounts):
        assert held(accounts) == [0, 1]
    well.is_cut_off = True
    with pytest.raises(NoQuota) as left, place(accounts, place="a 3"):
        pytest.fail("it began")
    assert left.value.place == "a 3" and held(accounts) == [0, 0]
    cut_off.is_cut_off = False
    with place(accounts):
        assert held(accounts) == [1, 0]


def test_a_job_of_a_process_that_is_cut_off_waits_a_while_before_it_is_sent_back(make: Make) -> None:
    def connect() -> None:
        told.append(pool.is_cut_off)
        pool.is_cut_off = False

    told: list[bool] = []
    accounts = make(a=1, patience=0.05)
    pool: Any = accounts.all[0].pool
    pool.is_cut_off = True
    with place(accounts, connect):
        assert held(accounts) == [1] and told == [True]


def test_a_place_that_is_kept_with_an_account_that_is_gone_is_none(make: Make) -> None:
    accounts = make(a=1, b=1)
    with place(accounts, place="gone 3"):
        assert held(accounts) == [1, 0]
    with place(accounts, account="b", place="a 3"):
        assert held(accounts) == [0, 1]


# -- all of them -------------------------------------------------------------------------------------------------------


def test_all_pools_are_warmed_and_all_gates_and_pools_closed(make: Make, noted: list[str]) -> None:
    accounts = make(a=1, b=1)
    assert repr(accounts) == "<Accounts a, b>"
    accounts.warm()
    accounts.close(2.0)
    assert noted == ["open a", "open b", "close a in 2.0", "close b in 2.0"]
    for account in accounts.all:
        with pytest.raises(NotAdmitted):
            account.gate.admit(lambda: True)


def test_figures_are_sums_and_of_times_the_worst(make: Make) -> None:
    accounts = make(a=1, b=1)
    pools: list[Any] = [account.pool for account in accounts.all]
    pools[0].figures = {"idle": 1, "open_seconds_p50": 0.5, "open_seconds_p95": 1.0, "open_seconds_max": 3.0}
    pools[1].figures = {"idle": 2, "open_seconds_p50": 0.7, "open_seconds_p95": 0.9, "open_seconds_max": 2.0}
    with place(accounts, account="a"), place(accounts, account="b"):
        figures = accounts.stats()
    assert (figures["idle"], figures["quota_slots"]) == (3, 2)
    assert [figures[f"open_seconds_{name}"] for name in ("p50", "p95", "max")] == [0.7, 1.0, 3.0]


def test_the_last_error_is_that_of_any_pool(make: Make) -> None:
    accounts = make(a=1, b=1)
    pools: list[Any] = [account.pool for account in accounts.all]
    assert accounts.last_error == ""
    pools[1].last_error = "Throttled"
    assert accounts.last_error == "Throttled"
    pools[0].last_error = "ConnectFailed"
    assert accounts.last_error == "ConnectFailed"
