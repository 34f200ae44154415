"""What is read of the machine and of the load server, and what follows from it."""

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from bench import window as measured
from bench.window import Load, Window, busy_share, idle_seconds, session_pss_mb, session_seconds, window

PATIENCE = 20.0
BURN = "import time\nwhile time.process_time() < 0.5: pass\nprint('burnt', flush=True)\ntime.sleep(60)"
FIGURES = '{"seconds": 2.0, "cpu_seconds": 0.5, "audio_seconds": 100.0}'


def made(**changed: float) -> Window:
    figures = {"audio_seconds": 100.0, "seconds": 2.0, "cpu_seconds": 0.5, **changed}
    return Window(seconds=2.0, core_seconds=0.2, process_seconds=0.15, figures=figures)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def burner() -> Iterator[int]:
    """The number of a process that leads a session and has burnt half a second."""
    with subprocess.Popen([sys.executable, "-c", BURN], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"burnt\n"
        yield process.pid
        process.kill()


@pytest.fixture
def asked() -> Iterator[tuple[Load, list[str]]]:
    """A load server's figures, and how they were asked for."""
    seen: list[str] = []

    class Figures(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.command)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(FIGURES.encode())

        do_DELETE = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Figures) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield Load(f"http://127.0.0.1:{server.server_address[1]}/figures"), seen
        server.shutdown()
        thread.join(PATIENCE)


def test_the_cost_of_audio_is_the_core_s_time_and_the_process_s() -> None:
    assert made().core_us == pytest.approx(2000)
    assert made().process_us == pytest.approx(1500)


def test_shares_are_parts_of_one_core() -> None:
    assert made().core_share == pytest.approx(0.1)
    assert made().noise == pytest.approx(0.025)
    assert made().load_share == pytest.approx(0.25)


def test_without_audio_there_is_no_cost_to_tell() -> None:
    assert math.isnan(made(audio_seconds=0.0).core_us)
    assert math.isnan(made(audio_seconds=0.0).process_us)
    assert made(seconds=0.0).load_share == 0


def test_a_core_s_idle_time_is_idle_and_waiting_for_disks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "stat").write_text(
        "cpu 1 2 3 4 5 6\ncpu0 1 2 3 400 50 6\ncpu10 1 2 3 7 8 9\nintr 5\n", encoding="ascii"
    )
    monkeypatch.setattr(measured, "PROC", tmp_path)
    monkeypatch.setattr(measured, "TICK", 100)
    assert idle_seconds(0) == 4.5
    with pytest.raises(LookupError, match="no core 1$"):
        idle_seconds(1)


def test_a_session_s_time_and_memory_are_its_processes_own(burner: int) -> None:
    assert 0.4 < session_seconds(burner) < 5
    assert [2 < mb < 100 for mb in session_pss_mb(burner)] == [True]


def test_a_session_that_has_ended_counts_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""], start_new_session=True) as process:
        process.wait(PATIENCE)
    assert session_seconds(process.pid) == 0
    assert session_pss_mb(process.pid) == []


def test_a_window_begins_with_new_figures_and_ends_with_them(asked: tuple[Load, list[str]], burner: int) -> None:
    load, seen = asked
    found = window(0.1, core=min(os.sched_getaffinity(0)), leader=burner, load=load)
    assert seen == ["DELETE", "GET"]
    assert found.audio_seconds == 100
    assert 0.1 <= found.seconds < PATIENCE
    assert 0 <= found.core_share <= 1.2


def test_how_busy_a_core_is_is_a_part_of_it() -> None:
    assert 0 <= busy_share(min(os.sched_getaffinity(0)), 0.1) <= 1


def test_a_load_server_that_does_not_answer_shows_the_end_of_its_log() -> None:
    with pytest.raises(OSError, match="too many files"):
        Load("http://127.0.0.1:9/figures", log=lambda: "too many files").figures()
