"""A rig with real processes: Valkey, load server, worker, official SDK."""

import signal
import subprocess
import sys
import wave
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bench.climb import BARE, PROGRAMS, SDK, ProgramCrowd
from bench.rig import Rig, Worker, rig
from emulator.stack import NotReady

PATIENCE = 60.0
SLEEPER = """
import sys, time
from bench.rig import rig
with rig() as it:
    print(*(process.pid for process in it._stack.processes), it.folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module", params=[False, True], ids=["ws", "wss"])
def it(request: pytest.FixtureRequest) -> Iterator[Rig]:
    with rig(secure=request.param) as made:
        yield made


@pytest.fixture(scope="module")
def worker(it: Rig) -> Iterator[Worker]:
    with it.worker("threads", 4) as made:
        yield made


def test_jobs_go_the_whole_way_and_the_load_server_counts_their_audio(it: Rig, worker: Worker) -> None:
    it.load.reset()
    worker.wait(worker.send(3, it.recording(2), pace=0, over=0.1), PATIENCE)
    figures = it.load.figures()
    assert (figures["tasks_finished"], figures["audio_seconds"], figures["errors"]) == (3, 6, 0)


def test_a_window_on_streams_has_their_audio_their_cpu_and_their_memory(it: Rig, worker: Worker) -> None:
    ids = worker.send(4, it.recording(8))
    worker.wait_streams(4, PATIENCE)
    found = worker.window(4.0)  # the kernel counts a process's time in hundredths of a second
    assert found.audio_seconds == pytest.approx(16, abs=3)
    assert found.process_seconds > 0
    assert [10 < mb < 500 for mb in worker.pss_mb()] == [True]
    worker.wait(ids, PATIENCE)


def test_a_worker_is_told_to_keep_more(worker: Worker) -> None:
    worker.keep(7)
    worker.wait_warm(1, 7)


def test_a_number_that_a_worker_cannot_keep_is_told(worker: Worker) -> None:
    with pytest.raises(NotReady, match="from 1 to"):
        worker.keep(0)


def test_a_job_that_fails_is_told(it: Rig, worker: Worker) -> None:
    with pytest.raises(NotReady, match="1 jobs did not succeed"):
        worker.wait(worker.send(1, (it.folder / "missing.wav").as_uri()), PATIENCE)


@pytest.mark.parametrize("way", [SDK, BARE])
def test_what_is_no_worker_streams_to_the_same_server(it: Rig, way: str) -> None:
    with ExitStack() as stack:
        crowd = ProgramCrowd(it, stack, PROGRAMS[way])
        crowd.grow(2)
        assert crowd.subject.window(1.0).audio_seconds == pytest.approx(2, abs=0.7)
        crowd.grow(3)
        assert it.load.figures()["streams"] == 3


def test_a_recording_is_as_long_as_asked_for(it: Rig) -> None:
    with wave.open(urlsplit(it.recording(1.5)).path) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16000)
        assert file.getnframes() == 24000 == len(file.readframes(99999)) // 2


def test_what_the_user_has_set_for_himself_is_not_measured(it: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STENOPOOL_JOB_RETRIES", "0")
    assert "STENOPOOL_JOB_RETRIES" not in it.env()


def test_a_worker_that_dies_shows_the_end_of_its_log() -> None:
    with rig() as own, pytest.raises(NotReady, match="STENOPOOL_JOB_DEADLINE=soon"):
        with own.worker("threads", 1, STENOPOOL_JOB_DEADLINE="soon"):
            pass


def test_a_rig_that_is_told_to_stop_leaves_nothing_behind() -> None:
    command = [sys.executable, "-c", SLEEPER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], text=True) as process:
        assert process.stdout is not None
        *pids, folder = process.stdout.readline().split()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 128 + signal.SIGTERM
    assert len(pids) == 2
    assert not [pid for pid in pids if Path("/proc", pid).exists()]
    assert not Path(folder).exists()
