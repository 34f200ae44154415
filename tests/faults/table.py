"""The table of drills: a row for each fault and pool, and its place in the page."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tests.faults.judge import Verdict

BEGIN: Final = "<!-- the table: written by make faults -->"
END: Final = "<!-- the table's end -->"
HEAD: Final = (
    "| fault | pool | jobs | lost | doubled | streamed again, s | taken over after, s |",
    "|---|---|--:|--:|--:|--:|--:|",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What came of one fault under one pool. `again` and `streams` are of all jobs together, `takeover` the longest."""

    fault: str
    pool: str
    jobs: int
    lost: int
    doubled: int
    again: float
    streams: int
    takeover: float | None
    complaints: tuple[str, ...] = ()

    def but(self, *complaints: str) -> "Row":
        """The same, with more that is wrong."""
        return replace(self, complaints=self.complaints + complaints)

    def line(self) -> str:
        """The row in Markdown."""
        takeover = "" if self.takeover is None else f"{self.takeover:.1f}"
        cells = (self.fault, self.pool, self.jobs, self.lost, self.doubled, f"{self.again:.1f}", takeover)
        return f"| {' | '.join(str(cell) for cell in cells)} |"


def summed(fault: str, pool: str, verdicts: Sequence[Verdict], complaints: Iterable[str] = ()) -> Row:
    """The jobs of one drill as a row; what speaks against each of them comes along."""
    against = [f"{one.job_id}: {reason}" for one in verdicts for reason in one.lost + one.doubled]
    return Row(
        fault=fault,
        pool=pool,
        jobs=len(verdicts),
        lost=sum(bool(one.lost) for one in verdicts),
        doubled=sum(bool(one.doubled) for one in verdicts),
        again=sum(one.again for one in verdicts),
        streams=sum(one.streams for one in verdicts),
        takeover=max((one.takeover for one in verdicts if one.takeover is not None), default=None),
        complaints=(*against, *complaints),
    )


def filled(page: str, rows: Iterable[Row]) -> str:
    """The page with these rows between its marks; the rest of it stays."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return before + "\n".join([BEGIN, *HEAD, *(row.line() for row in rows), END]) + after
