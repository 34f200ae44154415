"""In this process nothing is patched; what happens under gevent is seen in processes that are."""

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.audio.offload import offloaded

pytest.importorskip("gevent")

ROOT = Path(__file__).parents[3]

PATCHED = """
import gevent.monkey
gevent.monkey.patch_all()
import contextlib, os, sys
import gevent
from tasks.audio.offload import offloaded
from tasks.audio.opening import open_recording
from tasks.audio.sources import LocalFile

def tick(times, then):
    for _ in range(times):
        gevent.sleep(0.001)
    then()

def heard(path, pread=os.pread):
    with contextlib.closing(LocalFile(os.open(path, os.O_RDONLY), "file:///a", os.stat(path).st_size, pread)) as file:
        with open_recording(file, rate=16000) as recording:
            return b"".join(recording.blocks())
"""


def under_gevent(script: str, *arguments: object) -> str:
    """What the script prints. A call that holds up every greenlet would wait for ever here: it is the timeout's."""
    done = subprocess.run(
        [sys.executable, "-c", PATCHED + script, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_where_nothing_is_patched_the_call_is_simply_made() -> None:
    assert offloaded(lambda: 7) == 7
    with pytest.raises(KeyError):
        offloaded(lambda: dict[str, int]()["x"])


def test_where_gevent_is_imported_and_patches_nothing_the_call_is_simply_made() -> None:
    script = """
import gevent.monkey, threading
from tasks.audio.offload import offloaded
print(offloaded(threading.get_ident) == threading.get_ident())
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("True\n", "")


@pytest.mark.parametrize(("name", "codec"), [("a.wav", "pcm_s16le"), ("a.mp3", "mp3")])
def test_a_disk_that_stalls_holds_up_its_own_greenlet_only(make: Any, name: str, codec: str) -> None:
    make.encoded(name, codec, 16000, 5)
    script = """
ready, go = os.pipe()
path, size = sys.argv[1], os.stat(sys.argv[1]).st_size
stalled = []
def pread(descriptor, count, offset):
    if offset > 4000 and not stalled:
        stalled.append(offset)
        os.read(ready, 1)  # comes only when another greenlet has run
    return os.pread(descriptor, count, offset)
ticker = gevent.spawn(tick, 50, lambda: os.write(go, b"."))
print(len(heard(path, pread)) // 3200, len(stalled), ticker.ready())
"""
    assert under_gevent(script, make.folder / name).split()[1:] == ["1", "True"]


def test_recordings_of_many_greenlets_are_read_at_the_same_time_and_exactly(make: Any) -> None:
    make.encoded("a.mp3", "mp3", 16000, 5)
    make.encoded("b.ogg", "libopus", 48000, 5)
    make.encoded("c.wav", "pcm_s16le", 16000, 5)
    script = """
alone = [heard(path) for path in sys.argv[1:]]
jobs = [gevent.spawn(heard, path) for _ in range(5) for path in sys.argv[1:]]
gevent.joinall(jobs)
print([job.value for job in jobs] == alone * 5)
"""
    assert under_gevent(script, *(make.folder / name for name in ("a.mp3", "b.ogg", "c.wav"))) == "True"


NEVER_WAITS = """
import io
from tasks.errors import BadInput
class Quick(io.BytesIO):
    shown, size = "https://host/call", None
    def seekable(self):
        return False
    def ready(self, size):
        return b""
turns = []
def count():
    while True:
        gevent.sleep(0.001)
        turns.append(len(turns))
counter = gevent.spawn(count)
with contextlib.suppress(BadInput), open(sys.argv[1], "rb") as file:
    with open_recording(Quick(file.read()), rate=16000) as recording:
        for block in recording.blocks(590_000):
            pass
counter.kill()
print(len(turns) > 10)
"""


def test_a_source_that_never_waits_leaves_other_greenlets_their_turn(make: Any) -> None:
    make.encoded("a.flac", "flac", 22_050, 600, loud=0)  # few bytes, of which much comes
    assert under_gevent(NEVER_WAITS, make.folder / "a.flac") == "True"


def test_a_source_in_which_sound_is_long_looked_for_does_so_too(make: Any) -> None:
    sound = make.encoded("a.ts", "mp2", 48_000, 0.3)
    (make.folder / "a.ts").write_bytes(sound + random.Random(1).randbytes(10_000_000))
    assert under_gevent(NEVER_WAITS, make.folder / "a.ts") == "True"


def test_what_the_call_raises_is_raised_and_printed_nowhere_else() -> None:
    script = """
class Stop(BaseException): ...
def fail(error):
    raise error
for error in (OSError(5, "disk"), Stop()):
    try:
        offloaded(lambda: fail(error))
    except BaseException as caught:
        print(caught is error)
"""
    assert under_gevent(script) == "True\nTrue"


def test_a_result_that_comes_too_late_is_discarded_once() -> None:
    script = """
gate, open_gate = os.pipe()
discarded, begun = [], []
def late():
    begun.append(True)
    os.read(gate, 1)
    return "late"
job = gevent.spawn(offloaded, late, discarded.append)
while not begun:
    gevent.sleep(0.001)
job.kill()
print(discarded)
os.write(open_gate, b".")
gevent.get_hub().threadpool.join()
print(discarded)
"""
    assert under_gevent(script) == "[]\n['late']"


def test_a_time_limit_while_a_file_is_opened_leaves_nothing_open(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"sound")
    script = """
from pathlib import Path
from tasks.audio import AudioReference, open_source
from worker.http import HttpPool
folder = Path(sys.argv[1])
threads = gevent.get_hub().threadpool
def opens():
    with open_source(AudioReference.parse(f"file://{folder}/a.wav"), roots=[folder], http=HttpPool()):
        pass
opens()
before = len(os.listdir("/proc/self/fd"))
for turns in range(20):
    job = gevent.spawn(opens)
    for _ in range(turns):
        gevent.sleep(0)
    job.kill()
    threads.join()
gevent.sleep(0.01)
print(len(os.listdir("/proc/self/fd")) - before)
"""
    assert under_gevent(script, tmp_path) == "0"


def test_gevent_s_threads_are_not_started_where_nobody_needs_them() -> None:
    before = len(os.listdir("/proc/self/task"))
    offloaded(lambda: None)
    assert len(os.listdir("/proc/self/task")) == before
