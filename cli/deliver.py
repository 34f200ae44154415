"""Follows jobs and gives out what becomes of them."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import NoReturn

from cli.client import Client, Job
from cli.follow import MOST, follow
from cli.output import Write, fail, stderr, tell

AGAIN = "Go on with the same command; it sends nothing twice."


def watch_each(jobs: Iterable[Job]) -> str:
    return "Come back with: " + "; ".join(f"stenopool watch {job.id}" for job in jobs)


def deliver(
    steno: Client,
    jobs: Iterable[Job],
    write: Write,
    *,
    total: int,
    most: int = MOST,
    in_order: bool = True,
    come_back: Callable[[Iterable[Job]], str] = watch_each,
) -> NoReturn:
    """Follow so many jobs to their end, give out each transcript as it comes, and leave with 1 if one failed."""
    open_jobs: dict[str, Job] = {}
    over = failed = 0

    def noted() -> Iterator[Job]:
        for job in jobs:
            open_jobs[job.id] = job
            yield job

    try:
        with closing(follow(steno, noted(), stderr, total=total, most=most, in_order=in_order)) as lines:
            for line in lines:
                if line.state == "succeeded":
                    write(line)
                else:
                    failed += 1
                    tell(f"{line.job.name}: {line.fields.get('error', line.state)}", style="red")
                del open_jobs[line.job.id]
                over += 1
    except KeyboardInterrupt:
        unsent = total - over - len(open_jobs)
        said = [f"Not sent: {unsent} of {total}."] if unsent else []
        said += [come_back(open_jobs.values())] if open_jobs else []
        fail(" ".join(["The jobs go on." if open_jobs else "No job is under way.", *said]), code=130)
    sys.exit(1 if failed else 0)
