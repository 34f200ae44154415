"""Follows jobs to their end, and sends the next ones as room becomes free."""

import time
from collections.abc import Generator, Iterable
from itertools import islice, takewhile

from rich.console import Console

from cli.board import Board, Line
from cli.client import ALONE, Client, Job

POLL = 0.2
"""Seconds between two looks at the records."""

NO_WORKER_AFTER = 5.0
"""Seconds in the queue, after which we look whether any worker is there at all."""

MOST = 100
"""Jobs that are followed at a time. More would not make anything faster, and fill Redis."""


def follow(
    client: Client, jobs: Iterable[Job], console: Console, *, total: int, most: int = MOST, in_order: bool = True
) -> Generator[Line, None, None]:
    """Yields each of `total` jobs once it has ended; if `in_order`, once those before it have, too.

    Taking a job from `jobs` may send it: at most so many are taken and not yet yielded. Interrupting it leaves the jobs
    running.
    """
    coming, lines, all_taken = iter(jobs), list[Line](), False
    look_at = time.monotonic() + NO_WORKER_AFTER
    with Board(console, total) as board:
        while lines or not all_taken:
            room = most - len(lines)
            # First all are taken and then looked at, so that who interrupts a look knows what was sent.
            taken = list(islice(coming, room))
            all_taken = len(taken) < room
            lines += [board.add(job, client.view(job.id)) for job in taken]
            over = _over(lines, in_order)
            board.draw(lines)
            if len(over) == len(lines) and all_taken:
                break
            for line in over:
                lines.remove(line)
                board.count(line)
                with board.aside():
                    yield line
            if time.monotonic() > look_at and all(line.state == "queued" for line in lines):
                look_at = float("inf")
                _say_if_alone(client, console)
            if not over:
                time.sleep(POLL)
        for line in lines:
            board.count(line)
        board.draw(())
    yield from lines


def _over(lines: list[Line], in_order: bool) -> list[Line]:
    """Look at all; those that have ended, and whose turn it is."""
    for line in lines:
        line.refresh()
    return list(takewhile(_has_ended, lines)) if in_order else list(filter(_has_ended, lines))


def _has_ended(line: Line) -> bool:
    return line.ended


def _say_if_alone(client: Client, console: Console) -> None:
    if not client.workers():
        console.print(ALONE, style="yellow", soft_wrap=True)
