import subprocess
import sys

import pytest

from worker import preload

SHARE = """
import gc, os, sys, threading
from worker import preload
names = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
preload.share()
frozen = gc.get_freeze_count()
rubbish = [[] for _ in range(1000)]
preload.share()
assert frozen > 1000 and gc.get_freeze_count() == frozen
assert "ssl" in sys.modules and "av.subtitles.stream" in sys.modules
assert threading.active_count() == 1
assert not names or set(os.listdir("/proc/self/fd")) == names
"""


def test_what_children_share_is_made_ready_and_frozen_once_and_nothing_is_opened() -> None:
    done = subprocess.run([sys.executable, "-c", SHARE], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_module_that_is_not_installed_is_left_out() -> None:
    preload._import("no_such_module.at_all")


def test_a_system_without_the_signal_of_a_parent_s_death_is_no_hindrance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    preload._ready_for_signals()
