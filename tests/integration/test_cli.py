"""The command line as a user types it, against a real worker."""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pysubs2

Site = Any
Counter = Callable[[float], Path]


def stenopool(site: Site, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli", *words]
    return subprocess.run(command, env=site.env | env, capture_output=True, text=True, timeout=60)


def test_transcribe_prints_the_text_on_stdout_and_progress_on_stderr(threads: Site, counter: Counter) -> None:
    recording = counter(2)

    done = stenopool(threads, "transcribe", "--pace", "0", str(recording))

    assert (done.returncode, done.stdout) == (0, "0-15999 16000-31999\n")
    assert recording.name in done.stderr and "2.0/2.0 s" in done.stderr


def test_a_recording_that_the_command_line_sent_is_transcribed_once(
    threads: Site, counter: Counter, eventually: Callable[..., None]
) -> None:
    before = threads.logbook()["summary"]["streams"]

    stenopool(threads, "transcribe", "--pace", "0", str(counter(1)))

    eventually(lambda: not threads.redis.exists("celery", "transcribe", "unacked"), "the queues are empty")
    assert threads.logbook()["summary"]["streams"] == before + 1


def test_a_job_can_be_sent_to_a_queue_for_a_tenant_and_an_account(threads: Site, counter: Counter) -> None:
    words = ("--queue", "bulk", "--tenant", "acme", "--account", "default")
    done = stenopool(threads, "transcribe", "--pace", "0", *words, str(counter(1)))
    assert (done.returncode, done.stdout) == (0, "0-15999\n")


def test_an_account_that_the_worker_does_not_have_is_a_sentence(threads: Site, counter: Counter) -> None:
    done = stenopool(threads, "transcribe", "--pace", "0", "--account", "other", str(counter(1)))
    assert done.returncode == 1 and "account 'other' is not known" in done.stderr


def test_a_job_that_waits_for_quota_is_seen_to_and_can_be_cancelled(
    alone: Callable[..., Site], counter: Counter, eventually: Callable[..., None]
) -> None:
    site = alone("threads", STENOPOOL_QUOTA_STREAMS="1", STENOPOOL_QUOTA_PATIENCE="60")
    first = site.send(counter(60).as_uri())
    eventually(lambda: site.record(first.id).get("progress_ms"), "the first job streams")
    second = site.send(counter(1).as_uri())
    eventually(lambda: "waiting_since" in site.record(second.id), "the second job waits")

    status = stenopool(site, "status", second.id).stdout
    (since,) = [line for line in status.splitlines() if line.startswith("waiting_since")]
    assert since.split()[1].count("-") == 2
    done = stenopool(site, "cancel", second.id)
    assert (done.returncode, done.stderr) == (0, "Cancelled.\n")
    assert stenopool(site, "cancel", first.id).returncode == 0


def test_several_recordings_get_a_heading_each(threads: Site, counter: Counter) -> None:
    first, second = counter(1), counter(2)

    done = stenopool(threads, "transcribe", "--pace", "0", str(first), str(second))

    assert done.stdout == f"== {first.name}\n0-15999\n== {second.name}\n0-15999 16000-31999\n"


def test_results_can_go_to_a_folder(threads: Site, counter: Counter, tmp_path: Path) -> None:
    recording = counter(1)

    done = stenopool(
        threads, "transcribe", "--pace", "0", "--format", "json", "-o", str(tmp_path / "out"), str(recording)
    )

    assert (done.returncode, done.stdout) == (0, "")
    assert json.loads((tmp_path / "out" / f"{recording.name}.json").read_text())["text"] == "0-15999"


def test_captions_are_read_by_another_program(threads: Site, counter: Counter) -> None:
    srt = stenopool(threads, "transcribe", "--pace", "0", "--format", "srt", str(counter(2))).stdout
    assert [(cue.start, cue.text) for cue in pysubs2.SSAFile.from_string(srt)] == [
        (0, "0-15999"),
        (1000, "16000-31999"),
    ]


def test_a_batch_that_was_killed_goes_on_and_nothing_is_transcribed_twice(
    threads: Site, counter: Counter, tmp_path: Path, eventually: Callable[..., None]
) -> None:
    folder, out = threads.folder / uuid.uuid4().hex, tmp_path / "out"
    for name in ("a", "b", "x/a", "x/b"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        counter(2).rename(folder / f"{name}.wav")
    words = ("transcribe", "--pace", "2", "--format", "txt", "--format", "vtt", "-o", str(out), str(folder))
    before = threads.logbook()["summary"]["streams"]

    first = threads.stack.run("batch", [sys.executable, "-m", "cli", *words], threads.env)
    eventually(lambda: list(out.glob("*.txt")), "a first result", timeout=30)
    os.kill(first.pid, signal.SIGKILL)
    first.stop()
    done = stenopool(threads, *words)

    assert done.returncode == 0, done.stderr
    texts = {str(path.relative_to(out)): path.read_text() for path in out.rglob("*.txt")}
    assert texts == dict.fromkeys(["a.wav.txt", "b.wav.txt", "x/a.wav.txt", "x/b.wav.txt"], "0-15999 16000-31999\n")
    assert len(list(out.rglob("*.vtt"))) == 4 and not list(out.rglob("*.part"))
    assert threads.logbook()["summary"]["streams"] == before + 4


def test_a_failed_recording_is_a_sentence_and_an_exit_code(threads: Site, counter: Counter, stack: Any) -> None:
    elsewhere = Path(stack.folder) / "elsewhere.wav"
    elsewhere.write_bytes(counter(1).read_bytes())

    done = stenopool(threads, "transcribe", "--pace", "0", str(elsewhere), str(counter(1)))

    assert done.returncode == 1
    assert "0-15999" in done.stdout
    assert "STENOPOOL_AUDIO_ROOTS" in " ".join(done.stderr.split()) and "Traceback" not in done.stderr


def test_a_missing_path_is_said_before_anything_is_sent(threads: Site) -> None:
    done = stenopool(threads, "transcribe", "/no/such/file.wav")

    assert done.returncode == 2 and "there is no file /no/such/file.wav" in done.stderr


def test_status_and_watch_tell_of_a_job_that_another_client_sent(threads: Site, counter: Counter) -> None:
    result = threads.transcribe(counter(1).as_uri(), pace=0)

    status = stenopool(threads, "status", "--json", result["job_id"])
    watch = stenopool(threads, "watch", result["job_id"])

    assert json.loads(status.stdout)["state"] == "succeeded"
    assert watch.stdout == "0-15999\n"


def test_an_unknown_job_is_said(threads: Site) -> None:
    done = stenopool(threads, "status", "no-such-job")

    assert done.returncode == 1 and "no job no-such-job" in done.stderr


def test_the_doctor_finds_a_healthy_site_healthy(threads: Site) -> None:
    done = stenopool(threads, "doctor")

    assert done.returncode == 0, done.stdout
    assert [line.split()[1].rstrip(":") for line in done.stdout.splitlines() if line.startswith("✓")] == [
        "settings",
        "redis",
        "workers",
        "key",
        "service",
        "audio",
    ]


def test_the_doctor_names_what_is_wrong_and_the_cure(threads: Site) -> None:
    done = stenopool(threads, "doctor", DASHSCOPE_API_KEY="sk-wrong", STENOPOOL_REDIS_URL="redis://127.0.0.1:1/0")

    assert done.returncode == 1
    assert "✗ redis" in done.stdout and "✗ service" in done.stdout
    assert "sk-wrong" not in done.stdout and "Traceback" not in done.stdout + done.stderr


def test_no_redis_is_a_sentence(threads: Site, counter: Counter) -> None:
    done = stenopool(threads, "transcribe", str(counter(1)), STENOPOOL_REDIS_URL="redis://127.0.0.1:1/0")

    assert done.returncode == 1
    assert "Redis cannot be used" in done.stderr and "Traceback" not in done.stderr


def test_a_wrong_setting_stops_the_worker_with_a_sentence(threads: Site) -> None:
    command = [sys.executable, "-m", "celery", "-A", "worker.app", "worker"]
    env = threads.env | {"RECOGNITION_OBJECTPOOL_SIZE": "many"}

    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)

    assert done.returncode != 0
    assert "RECOGNITION_OBJECTPOOL_SIZE=many" in done.stderr and "from 1 to 10000" in done.stderr
    assert "Traceback" not in done.stderr
