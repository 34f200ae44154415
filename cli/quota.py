"""What the accounts may do, what they do, and who waits for them: one look at what all workers share in Redis."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import redis
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli.screen import WIDE, Column, Name, duration, grid, redraw, rest
from config.queues import QUEUES
from tasks.janitor import PRIORITIES
from worker.quota.view import Account, Lane, Overview, View

NOTHING = (
    "Nothing is known of any account's quota yet: no worker has opened a connection, and no job has asked for a "
    "stream. Start a worker with: celery -A worker.app worker -l INFO"
)

FELT = 1.05
"""A slow-down of less is not worth a word."""


def view(client: "redis.Redis") -> View:
    """A view with the queues of our workers."""
    return View(client, {queue: [queue + priority for priority in PRIORITIES] for queue in QUEUES})


def is_empty(found: Overview) -> bool:
    return not found.accounts


def nothing(found: Overview) -> str:
    """What to say where nothing is known."""
    queued = sum(found.queued.values())
    return NOTHING + (f" (jobs in the queues: {queued})" if queued else "")


def plain(found: Overview) -> dict[str, Any]:
    """All that was found; times in seconds. Where a wait is unknown it is null."""
    return {
        "accounts": [asdict(account) for account in found.accounts],
        "lanes": [{**asdict(lane), "wait": found.wait(lane)} for lane in found.lanes],
        "queued": found.queued,
    }


def picture(found: Overview, width: int) -> RenderableType:
    """Tables of the streams by account and model, of the connections by account, and of the queues, for a screen of
    this width.
    """
    if is_empty(found):
        return Text(nothing(found))
    lanes: list[RenderableType] = [_lanes(found, width), Text()] if found.lanes else []
    return Group(*lanes, _accounts(found), Text(), _queues(found))


def watch(looking: View, console: Console, pause: Callable[[], None] = rest) -> None:
    """Draw it again and again, until it is interrupted."""
    redraw(looking.names, lambda names: picture(looking.read(names), console.width), console, pause)


def _lanes(found: Overview, width: int) -> Table:
    columns: tuple[Column[Lane], ...] = (
        Column("slots\n/limit", lambda lane: f"{lane.slots}/{lane.most_slots or '-'}"),
        Column("starts/s\nnow/limit", lambda lane: f"{_rate(lane.started_per_second)}/{_rate(lane.starts_per_second)}"),
        Column("cool-\ndown/\nslower", _cool_down),
        Column("re-\nfused", lambda lane: str(lane.refused), WIDE),
        Column("waiting\ninter./\nusual/\nbulk", lambda lane: "/".join(map(str, lane.waiting.values()))),
        Column("wait", lambda lane: _wait(lane, found), is_words=True),
    )
    shown = [column for column in columns if width >= column.room]
    drawn = grid(["account", "model"], shown)
    for lane in found.lanes:
        drawn.add_row(Name(lane.account), Name(lane.model), *(column.show(lane) for column in shown))
    return drawn


def _accounts(found: Overview) -> Table:
    columns: tuple[Column[Account], ...] = (
        Column("opens/s\nlimit", lambda account: _rate(account.opens_per_second)),
        Column("cool-\ndown/\nslower", _cool_down),
        Column("circuit", _circuit, is_words=True),
    )
    drawn = grid(["account"], columns)
    for account in found.accounts:
        drawn.add_row(Name(account.name), *(column.show(account) for column in columns))
    return drawn


def _queues(found: Overview) -> Table:
    drawn = grid(["queue"], [Column(name, str) for name in found.queued])
    drawn.add_row("jobs", *map(str, found.queued.values()))
    return drawn


def _rate(per_second: float | None) -> str:
    if per_second is None:
        return "-"
    return f"{per_second:.0f}" if per_second >= 100 else f"{per_second:.3g}"


def _cool_down(one: Account | Lane) -> str:
    if not one.cool_down and one.slower < FELT:
        return "-"
    return f"{duration(one.cool_down) if one.cool_down else '-'}/{one.slower:.2g}×"


def _circuit(account: Account) -> str:
    if not account.is_out:
        return "-"
    if account.is_probing:
        return "out, a probe is under way"
    return f"out, next probe in {duration(account.probe_in)}" if account.probe_in else "out, the next probe is due"


def _wait(lane: Lane, found: Overview) -> str:
    seconds = found.wait(lane)
    if seconds is None:
        return "unknown"
    return f"about {duration(seconds)}" if seconds else "-"
