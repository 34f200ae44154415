import io
import time

import pytest
import redis
from rich.console import Console, RenderableType
from rich.progress import Progress

from cli import board as module
from cli.board import Board, Line
from cli.client import Job
from tasks.job.record import JobRecord
from tasks.job.view import JobView
from tests.cli.conftest import record_of, result, taken

JOB = Job("j", "https://host/call.mp3", "call.mp3")


@pytest.fixture
def record(client: redis.Redis) -> JobRecord:
    return record_of(client)


@pytest.fixture
def progress() -> Progress:
    """The rows as they would be drawn, undrawn."""
    return module.progress(Console(file=io.StringIO(), width=200))


@pytest.fixture
def line(client: redis.Redis, progress: Progress) -> Line:
    return Line(JOB, JobView(client, "j"), progress)


def said(progress: Progress) -> str:
    return str(progress.tasks[0].fields["said"])


# -- one line ----------------------------------------------------------------------------------------------------------


def test_a_line_of_a_job_without_a_record_is_queued(line: Line, progress: Progress) -> None:
    line.refresh()
    (row,) = progress.tasks
    assert (row.description, row.completed, row.total) == ("call.mp3", 0, None)
    assert row.fields == {"said": "queued", "seconds": "0.0 s", "speed": ""} and not line.ended


def test_a_line_shows_how_much_of_the_recording_was_sent(line: Line, record: JobRecord, progress: Progress) -> None:
    taken(record).note(progress_ms=1500)
    line.refresh()
    assert (progress.tasks[0].total, progress.tasks[0].fields["seconds"]) == (None, "1.5 s")

    record.note(duration_ms=2000)
    line.refresh()
    assert (progress.tasks[0].completed, progress.tasks[0].total) == (1500, 2000)
    assert progress.tasks[0].fields["seconds"] == "1.5/2.0 s"


def test_a_line_shows_the_newest_text(line: Line, record: JobRecord, progress: Progress) -> None:
    taken(record)
    line.refresh()
    assert said(progress) == "running"
    record.partial({"text": "good mor"})
    line.refresh()
    assert said(progress) == "good mor"
    record.final({"text": "Good morning.", "end_time": 9})
    line.refresh()
    assert said(progress) == "Good morning."


def test_of_a_long_text_the_end_is_shown(line: Line, record: JobRecord, progress: Progress) -> None:
    taken(record)
    record.final({"text": "x" + "y" * module.WIDTH, "end_time": 9})
    line.refresh()
    assert said(progress) == "y" * module.WIDTH


def test_a_line_of_a_job_that_will_be_tried_again_says_why(line: Line, record: JobRecord, progress: Progress) -> None:
    taken(record)
    record.final({"text": "Good morning.", "end_time": 9})
    record.waiting("server_fault", "The service has a fault.")
    line.refresh()
    assert said(progress) == "queued: The service has a fault." and not line.ended


@pytest.mark.parametrize("text", ["", "Good morning."])
def test_a_line_of_a_job_that_waits_for_quota_says_so_until_it_goes_on(
    line: Line, record: JobRecord, progress: Progress, text: str
) -> None:
    taken(record)
    if text:
        record.final({"text": text, "end_time": 9})
    record.waits()
    line.refresh()
    assert said(progress) == module.WAITS and not line.ended
    record.goes()
    line.refresh()
    assert said(progress) == (text or "running")


def test_so_does_one_of_a_job_that_has_gone_back_to_the_queue(
    line: Line, record: JobRecord, progress: Progress
) -> None:
    taken(record).not_begun("default 1.5")
    line.refresh()
    assert said(progress) == module.WAITS and line.state == "queued"


def test_why_the_last_attempt_failed_is_more_than_that_it_waited(
    line: Line, record: JobRecord, progress: Progress
) -> None:
    taken(record).waits()
    record.waiting("server_fault", "The service has a fault.")
    line.refresh()
    assert said(progress) == "queued: The service has a fault."


def test_a_job_that_ended_while_it_waited_waits_no_more(line: Line, record: JobRecord, progress: Progress) -> None:
    taken(record).waits()
    record.cancelled()
    line.refresh()
    assert said(progress) == "cancelled" and line.ended


def test_a_job_that_redis_has_forgotten_while_we_watched_is_lost(
    line: Line, record: JobRecord, progress: Progress, client: redis.Redis
) -> None:
    taken(record)
    line.refresh()
    client.flushdb()
    line.refresh()
    assert line.ended and said(progress).startswith("lost: Redis does not know the job any more")


@pytest.mark.parametrize("end", ["succeeded", "failed"])
def test_a_line_of_an_ended_job_is_read_no_more(
    line: Line, record: JobRecord, progress: Progress, client: redis.Redis, end: str
) -> None:
    taken(record)
    if end == "succeeded":
        record.succeeded(result("one"))
    else:
        record.failed("not_audio", "It is not audio.")
    line.refresh()
    assert line.ended and said(progress).startswith(end)

    client.flushdb()
    line.refresh()
    assert line.ended and line.fields["state"] == end


def test_the_speed_is_of_audio_against_the_time_it_took(
    line: Line, record: JobRecord, progress: Progress, client: redis.Redis
) -> None:
    taken(record).succeeded({"text": "", "duration_ms": 30_000})
    client.hset("stenopool:job:{j}", mapping={"started_at": 100.0, "ended_at": 110.0})
    line.refresh()
    assert progress.tasks[0].fields["speed"] == "×3.0"


def test_the_speed_of_a_running_job_is_that_so_far(
    line: Line, record: JobRecord, progress: Progress, client: redis.Redis
) -> None:
    taken(record).note(progress_ms=10_000)
    client.hset("stenopool:job:{j}", "started_at", time.time() - 10)
    line.refresh()
    assert 0.5 <= float(progress.tasks[0].fields["speed"].removeprefix("×")) <= 1.0


def test_clocks_that_disagree_show_no_speed(
    line: Line, record: JobRecord, progress: Progress, client: redis.Redis
) -> None:
    taken(record).note(progress_ms=1000)
    client.hset("stenopool:job:{j}", "started_at", time.time() + 1000)
    line.refresh()
    assert progress.tasks[0].fields["speed"] == ""


# -- the line for all --------------------------------------------------------------------------------------------------


class Screen(io.StringIO):
    """A screen that says so."""

    def isatty(self) -> bool:
        return True


def drawn(what: RenderableType, width: int = 120) -> list[str]:
    paper = io.StringIO()
    Console(file=paper, width=width).print(what)
    return [line.rstrip() for line in paper.getvalue().splitlines()]


def board_of(total: int, width: int = 120, height: int = 25) -> Board:
    return Board(Console(file=io.StringIO(), width=width, height=height), total)


def begun(client: redis.Redis, board: Board, count: int, first: int = 0) -> list[Line]:
    """So many jobs, of which every second is running."""
    lines = []
    for number in range(first, first + count):
        if number % 2:
            taken(record_of(client, f"j{number}"))
        line = board.add(Job(f"j{number}", "", f"{number}.wav"), JobView(client, f"j{number}"))
        line.refresh()
        lines.append(line)
    board.draw(lines)
    return lines


def test_one_job_has_a_line_and_no_line_for_all(client: redis.Redis) -> None:
    board = board_of(1)
    begun(client, board, 1)
    assert [line.split()[0] for line in drawn(board)] == ["0.wav"]


def test_jobs_that_fit_on_the_screen_are_all_on_it(client: redis.Redis) -> None:
    board = board_of(4, height=6)
    begun(client, board, 4)
    first, *rest = drawn(board)
    assert first.startswith("0 of 4 done") and first.endswith("2 running")
    assert [line.split()[0] for line in rest] == ["0.wav", "1.wav", "2.wav", "3.wav"]


def test_of_more_only_those_that_run_are_as_many_as_fit(client: redis.Redis) -> None:
    board = board_of(1000, height=5)
    begun(client, board, 10)
    first, *rest = drawn(board)
    assert first.startswith("0 of 1000 done") and first.endswith("5 running")
    assert [line.split()[0] for line in rest] == ["1.wav", "3.wav", "5.wav"]


def test_those_that_have_ended_are_counted_and_their_lines_are_let_go_where_room_is_scarce(client: redis.Redis) -> None:
    board = board_of(10, height=5)
    first, second, *rest = begun(client, board, 4)
    record_of(client, "j0").claim("a", "w@h")
    for job, end in (("j1", "succeeded"), ("j0", "failed")):
        client.hset(f"stenopool:job:{{{job}}}", "state", end)
    for line in (first, second):
        line.refresh()
        board.count(line)
    board.draw(rest)
    assert drawn(board)[0].split("━")[0].split() == ["2", "of", "10", "done", "1", "failed"]
    assert [line.split()[0] for line in drawn(board)[1:]] == ["3.wav"]


@pytest.mark.parametrize(("seen_to_end", "is_foretold"), [(9, False), (10, True)])
def test_how_long_the_rest_takes_is_told_once_enough_were_seen_to_end(
    client: redis.Redis, seen_to_end: int, is_foretold: bool
) -> None:
    assert module.FORETOLD_AFTER == 10
    all_ = board_of(1000)
    for line in begun(client, all_, seen_to_end):
        all_.count(line)
    for line in begun(client, all_, 3, first=100):
        line.was_over = True
        all_.count(line)
    begun(client, all_, 2, first=200)
    assert ("about " in drawn(all_)[0] and " left" in drawn(all_)[0]) == is_foretold


def test_the_speed_of_all_is_of_what_was_heard_since_we_look(client: redis.Redis, record: JobRecord) -> None:
    all_ = board_of(2)
    taken(record).note(progress_ms=1000_000)
    line = all_.add(JOB, JobView(client, "j"))
    line.refresh()
    all_.draw([line])
    assert "×" not in drawn(all_)[0]
    record.note(progress_ms=1001_000)
    line.refresh()
    assert line.heard_ms == 1000
    all_.draw([line])
    assert "×" in drawn(all_)[0]


def test_a_job_that_had_ended_before_was_not_seen_to_end(client: redis.Redis, line: Line, record: JobRecord) -> None:
    taken(record).succeeded(result("one"))
    line.refresh()
    assert line.was_over and line.heard_ms == 0


@pytest.mark.parametrize(("width", "columns"), [(40, 2), (50, 2), (60, 3), (80, 3), (110, 4)])
def test_a_narrow_screen_keeps_the_name_and_the_figures(width: int, columns: int) -> None:
    lines = module.progress(Console(file=io.StringIO(), width=width))
    assert len(lines.columns) == columns
    lines.add_task(
        "a-very-long-name-of-a-recording-of-long-ago.wav", said="x" * 48, seconds="10.0/20.0 s", speed="×1.0"
    )
    (shown,) = drawn(lines, width)
    assert "10.0/20.0 s ×1.0" in shown and "…" in shown and "ago.wav" in shown


def test_what_goes_to_stdout_stands_by_itself_where_both_are_one_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr("sys.stdout", screen)
    with Board(Console(file=screen, width=80, force_terminal=True), 2) as board:
        board.draw([])
        with board.aside():
            print("the text")
        board.draw([])
    before, after = screen.getvalue().split("the text\n")
    assert "0 of 2 done" in before and before.endswith("\x1b[2K") and "0 of 2 done" in after


def test_what_goes_elsewhere_does_not_disturb_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    with Board(Console(file=screen, width=80, force_terminal=True), 2) as board:
        with board.aside():
            shown = screen.getvalue()
            print("the text")
    assert capsys.readouterr().out == "the text\n" and "the text" not in screen.getvalue() and "\x1b[?25h" not in shown


def test_where_there_is_no_terminal_the_last_line_is_ended_too() -> None:
    paper = io.StringIO()
    with Board(Console(file=paper, width=80), 2) as board:
        board.draw([])
    assert paper.getvalue().endswith("\n") and paper.getvalue().splitlines()[-1].startswith("0 of 2 done")
