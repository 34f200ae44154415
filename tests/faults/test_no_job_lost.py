"""No job is lost and none is done twice: a drill for each fault under each pool, judged by what the jobs have left.

All drills are played at the same time, by workers that are real processes; each test looks at the row of its own.
"""

import pytest

from tests.faults.acts import BOUNDS, DRILLS
from tests.faults.board import Board

# The first test waits for the slowest drill before it.
pytestmark = pytest.mark.timeout(400)


@pytest.mark.parametrize(("fault", "pool"), DRILLS)
def test_no_job_is_lost_and_none_is_done_twice(board: Board, fault: str, pool: str) -> None:
    row, bounds = board.row(fault, pool), BOUNDS[fault]
    print(row.line())

    assert not row.complaints, "\n".join(row.complaints)
    assert (row.lost, row.doubled) == (0, 0)
    assert row.again <= bounds.again * row.streams + 0.2
    assert row.takeover is None or row.takeover <= bounds.takeover
    assert bounds.streams is None or row.streams <= bounds.streams
