"""What a span of time cost: a core, a session of processes, and what the load server saw of it."""

import json
import os
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICK = os.sysconf("SC_CLK_TCK")
IDLE, IOWAIT = 3, 4  # columns of a core's line in /proc/stat
SESSION, CPU = 3, slice(11, 15)  # of /proc/PID/stat behind the name; own and reaped children's, user and system


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What was measured within `seconds`; times in seconds, shares are parts of one core."""

    seconds: float
    core_seconds: float
    """All that the measured core did: also the kernel's part of the loopback, and whatever else ran there."""
    process_seconds: float
    """What the measured processes are charged for."""
    figures: Mapping[str, float]
    """The load server's."""

    @property
    def audio_seconds(self) -> float:
        return self.figures["audio_seconds"]

    @property
    def core_us(self) -> float:
        """Microseconds of the core for each second of audio."""
        return 1e6 * self.core_seconds / self.audio_seconds if self.audio_seconds else float("nan")

    @property
    def process_us(self) -> float:
        """Microseconds of the measured processes for each second of audio."""
        return 1e6 * self.process_seconds / self.audio_seconds if self.audio_seconds else float("nan")

    @property
    def core_share(self) -> float:
        return self.core_seconds / self.seconds

    @property
    def noise(self) -> float:
        """The part of the core that went to others: the kernel's interrupts and other people's processes."""
        return max(0.0, self.core_seconds - self.process_seconds) / self.seconds

    @property
    def load_share(self) -> float:
        """How busy the load server was; near 1 it is what is measured."""
        return self.figures["cpu_seconds"] / self.figures["seconds"] if self.figures["seconds"] else 0.0


class Load:
    """The load server's figures. Raises OSError with the end of its log when it does not answer."""

    def __init__(self, url: str, log: Callable[[], str] = str) -> None:
        self._url = url
        self._log = log

    def figures(self) -> dict[str, float]:
        """Since the last reset."""
        return dict(json.loads(self._ask("GET")))

    def reset(self) -> None:
        self._ask("DELETE")

    def _ask(self, method: str) -> bytes:
        try:
            with urllib.request.urlopen(urllib.request.Request(self._url, method=method), timeout=30) as answer:
                return bytes(answer.read())
        except OSError as error:
            raise OSError(f"the load server does not answer. The end of its log:\n{self._log()[-2000:]}") from error


def window(seconds: float, *, core: int, leader: int, load: Load) -> Window:
    """Measure so long: the core, the processes of the leader's session, and the load server's figures."""
    load.reset()
    began, idle, cpu = time.monotonic(), idle_seconds(core), session_seconds(leader)
    time.sleep(seconds)
    took, idled, used = time.monotonic() - began, idle_seconds(core) - idle, session_seconds(leader) - cpu
    figures = load.figures()
    return Window(seconds=took, core_seconds=max(0.0, took - idled), process_seconds=used, figures=figures)


def busy_share(core: int, seconds: float) -> float:
    """The part of the core that is in use, by whomever."""
    began, idle = time.monotonic(), idle_seconds(core)
    time.sleep(seconds)
    return max(0.0, 1 - (idle_seconds(core) - idle) / (time.monotonic() - began))


def idle_seconds(core: int) -> float:
    """How long the core has had nothing to do since the machine started."""
    for line in (PROC / "stat").read_text(encoding="ascii").splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            return (int(ticks[IDLE]) + int(ticks[IOWAIT])) / TICK
    raise LookupError(f"there is no core {core}")


def session_seconds(leader: int) -> float:
    """CPU time of all processes of the session, with that of children that have ended."""
    return sum(sum(map(int, fields[CPU])) for fields in _session(leader).values()) / TICK


def session_pss_mb(leader: int) -> list[float]:
    """Megabytes of the leader and of each other process; shared pages are divided among those that share them."""
    return [_pss_kb(pid) / 1024 for pid in sorted(_session(leader), key=lambda pid: (pid != leader, pid))]


def _session(leader: int) -> dict[int, list[str]]:
    found = {}
    for folder in PROC.iterdir():
        if folder.name.isdecimal() and (fields := _stat(folder)) and int(fields[SESSION]) == leader:
            found[int(folder.name)] = fields
    return found


def _stat(folder: Path) -> list[str]:
    try:
        return (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        return []


def _pss_kb(pid: int) -> int:
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
