"""python -m bench.sizes: what a spare recogniser beyond one for each job is worth, as the number of jobs grows."""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from bench.crowd import SENTENCE_MS, Crowd, Outcome
from bench.stage import logbook, stage
from bench.table import Table, milliseconds, quantile
from worker.pool import Policy, Pool
from worker.recognition import Endpoint, Recognizer, RecognizerHooks

SIZES, QUICK_SIZES = (1, 10, 100, 200), (1, 20)
SMALL = 20  # crowds up to here work longer, so that they come by some broken jobs
SECONDS = {False: (25.0, 10.0), True: (3.0, 3.0)}  # quick or not: small and large crowds
JOB_SECONDS = 1.0
ROUND_TRIP_MS = 50.0
SLOW = 0.005
OPENERS = 8
OPENS_PER_SECOND = 20.0
WARM_TIMEOUT = 120.0
COLUMNS = ("jobs", "spare", "jobs/s", "p50", "p95", "p99", "max", ">5 ms", "queued", "opened", "broken", "cores")
TOLERATED = 0.01  # of the jobs may queue
NEAR = 0.8  # of the rate of opens: beyond that the opens queue, by chance for long
VENDOR_CONCURRENCY, VENDOR_KEEPS = (100, 200, 400), 500  # its guide to high concurrency, for 4, 8 and 16 cores
NOTES = (
    "So many jobs at once, back to back, each of {job_seconds:g} s give or take a half. Every tenth is broken off by "
    "its caller in the middle and its recogniser discarded. The line has {round_trip_ms:g} ms of round trip, `ws:`; "
    "at most {opens_per_second:g} opens a second (`opens_per_second`), {openers} at once.",
    "p50 to max: milliseconds from asking the pool to being lent a recogniser. queued: the part of jobs that found "
    "none idle; what took over 5 ms and was not queued is the machine's load. opened: connections made meanwhile. "
    "cores: what the process of the jobs used.",
    "A spare is enough if at most 1 % of the jobs queued.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One crowd on one pool."""

    jobs: int
    spare: int
    outcome: Outcome
    queued: int
    opened: int

    @property
    def queued_part(self) -> float:
        """The part of all jobs that found nothing idle. Unlike the times it does not depend on the machine's load."""
        return self.queued / len(self.outcome.borrows)

    def row(self) -> tuple[str, ...]:
        """The figures under COLUMNS."""
        found, borrows = self.outcome, self.outcome.borrows
        slow = sum(seconds > SLOW for seconds in borrows)
        return (
            str(self.jobs),
            str(self.spare),
            f"{len(borrows) / found.seconds:.1f}",
            *(milliseconds(quantile(borrows, part)) for part in (0.5, 0.95, 0.99, 1.0)),
            f"{100 * slow / len(borrows):.1f}%",
            f"{100 * self.queued_part:.1f}%",
            str(self.opened),
            str(found.broken),
            f"{found.cpu / found.seconds:.2f}",
        )


def spares(jobs: int) -> list[int]:
    """None, one, and a twentieth, a tenth and half of the jobs."""
    return sorted({0, 1, *(math.ceil(jobs / part) for part in (20, 10, 2))})


def measure(url: str, options: argparse.Namespace) -> list[Trial]:
    """Each size with each of its spares."""
    trials = []
    for jobs in options.sizes:
        seconds = max(SECONDS[options.quick][jobs > SMALL], 3 * options.job_seconds)
        for spare in spares(jobs):
            print(f"{jobs} jobs, {spare} spare, {seconds:g} s ...", file=sys.stderr)
            trials.append(try_out(url, jobs, spare, options.job_seconds, seconds))
    return trials


def try_out(url: str, jobs: int, spare: int, job_seconds: float, seconds: float) -> Trial:
    """Warm a pool, let a crowd at it, and ask both it and the emulator what happened."""
    hooks = RecognizerHooks(Endpoint(url=url, api_key="emulator"))
    pool: Pool[Recognizer] = Pool("recognizer", hooks, policy(jobs, spare))
    try:
        pool.wait(WARM_TIMEOUT)
        logbook(url, "DELETE")
        outcome = Crowd(pool, jobs, job_seconds).work(seconds)
        queued, opened = int(pool.stats()["waits"]), int(logbook(url)["connections"])
    finally:
        pool.close()
    return Trial(jobs=jobs, spare=spare, outcome=outcome, queued=queued, opened=opened)


def policy(jobs: int, spare: int) -> Policy:
    """A fixed size, and room for all to wait."""
    size = jobs + spare
    return Policy(min_size=size, max_size=size, max_waiting=jobs, openers=OPENERS, opens_per_second=OPENS_PER_SECOND)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and unless it was a quick look, store."""
    options = _options(argv)
    try:
        with stage() as it, it.proxy(it.emulator("--sentence-ms", str(SENTENCE_MS)), ROUND_TRIP_MS, "line") as url:
            trials = measure(url, options)
    except KeyboardInterrupt:
        return 130
    command = f"python -m bench.sizes --job-seconds {options.job_seconds:g} --sizes {' '.join(map(str, options.sizes))}"
    table = Table(title="Sizes", command=command, columns=COLUMNS, rows=[trial.row() for trial in trials])
    table.notes.extend(notes(trials, options.job_seconds))
    table.show()
    if not options.quick:
        table.store("sizes" if options.job_seconds == JOB_SECONDS else f"sizes_{options.job_seconds:g}s")
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.sizes", description="What spare recognisers are worth.")
    parser.add_argument("--quick", action="store_true", help="few jobs, short trials, and nothing stored")
    parser.add_argument("--sizes", type=int, nargs="+", metavar="JOBS", help=f"jobs at once {SIZES}")
    parser.add_argument("--job-seconds", type=float, default=JOB_SECONDS, help="length of a job (%(default)g)")
    options = parser.parse_args(argv)
    options.sizes = options.sizes or (QUICK_SIZES if options.quick else SIZES)
    return options


def notes(trials: Sequence[Trial], job_seconds: float) -> list[str]:
    """What the figures are, and what follows from them."""
    facts = {"job_seconds": job_seconds, "round_trip_ms": ROUND_TRIP_MS}
    facts |= {"opens_per_second": OPENS_PER_SECOND, "openers": OPENERS}
    errors = [name for trial in trials for name in trial.outcome.errors]
    lost = f"Jobs lost: {len(errors)}{' (' + ', '.join(sorted(set(errors))) + ')' if errors else ''}."
    crowds = [[trial for trial in trials if trial.jobs == jobs] for jobs in sorted({trial.jobs for trial in trials})]
    return [*(note.format(**facts) for note in NOTES), lost, *map(advice, crowds)]


def advice(trials: Sequence[Trial]) -> str:
    """The smallest spare of one crowd's that was worth having."""
    jobs = trials[0].jobs
    if not all(trial.outcome.broken for trial in trials):
        return f"{jobs} at once: too few jobs to say."
    discards = max(trial.outcome.broken / trial.outcome.seconds for trial in trials)
    if discards > NEAR * OPENS_PER_SECOND:
        return (
            f"{jobs} at once: {discards:.1f} discards a second against {OPENS_PER_SECOND:g} opens. The rate of opens "
            "is what is short, not the spare; these lines vary from run to run."
        )
    enough = next((trial for trial in trials if trial.queued_part <= TOLERATED), None)
    if enough is None:
        return f"{jobs} at once: none of these is enough."
    cores = f"{enough.outcome.cpu / enough.outcome.seconds:.2f} cores"
    vendor = f"; the vendor's table keeps {VENDOR_KEEPS}" if jobs in VENDOR_CONCURRENCY else ""
    return f"{jobs} at once: a spare of {enough.spare} is enough, so keep {jobs + enough.spare} ({cores}{vendor})."


if __name__ == "__main__":
    sys.exit(main())
