"""python -m bench.files: how much recorded audio a minute of one core gets through, at full speed (`pace` 0).

Full path: jobs through Celery and Redis, in a worker held to one core; against the official SDK on the same core.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.pin import Cores
from bench.rig import Rig, Worker, rig
from bench.sound import write_mp3, write_wav
from bench.span import answer, middle, span
from bench.table import Table

SDK, KINDS = "official SDK", ("threads", "gevent", "prefork")
AT_ONCE, SDK_AT_ONCE = 4, 2
MINUTES, QUICK_MINUTES = 30, 4
ROUNDS, QUICK_ROUNDS = 3, 1
TIMEOUT = 300.0
PCM = "PCM"
FORMS: dict[str, Callable[[Path, int], Path]] = {
    PCM: write_wav,
    "MP3 16 kHz": lambda path, minutes: write_mp3(path, minutes, 16000, 1, 64),
    "MP3 44.1 kHz": lambda path, minutes: write_mp3(path, minutes, 44100, 2, 128),
}
COLUMNS = ("way", "", "source", "hours/core-min", "±", "hours/min", "core", "others", "server", "this/SDK")
NOTES = (
    "hours/core-min: hours of audio that the load server got in a minute of the measured core's busy time, the "
    "kernel's loopback included; median of {rounds} rounds, ± half of their spread. hours/min: by the clock. core: how "
    "busy it was; others: the part of it that our processes are not charged for. server: how busy the load server was; "
    "near 100 % it is what is measured.",
    "Source: recordings of {minutes} minutes, {at_once} at once. PCM: 16 kHz mono WAV. MP3 16 kHz: mono, 64 kb/s. "
    "MP3 44.1 kHz: stereo, 128 kb/s.",
    "official SDK: `dashscope` 2.0.2, fed with PCM frames of 12,800 bytes, {sdk_at_once} recordings at once; no "
    "Celery, no Redis and no decoding. this/SDK: against it on PCM, same scheme.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lap:
    """A round: times in seconds, `server` as a part of a core."""

    seconds: float
    core_seconds: float
    process_seconds: float
    audio_seconds: float
    server: float

    @property
    def hours_per_core_minute(self) -> float:
        return self.audio_seconds / 60 / self.core_seconds


def official(it: Rig, recording: Path) -> Lap:
    """The official SDK."""
    it.load.reset()
    command = ["-m", "bench.dictate", it.url, *[str(recording)] * SDK_AT_ONCE]
    found = answer(it.run("dictate", *command, measured=True), TIMEOUT)
    figures = it.load.figures()
    return Lap(audio_seconds=figures["audio_seconds"], server=figures["cpu_seconds"] / found["seconds"], **found)


def ours(it: Rig, worker: Worker, recording: Path) -> Lap:
    """A worker."""
    found = span(it, worker, lambda: worker.wait(worker.send(AT_ONCE, recording.as_uri(), pace=0.0), TIMEOUT))
    return Lap(
        seconds=found.seconds,
        core_seconds=found.core_seconds,
        process_seconds=found.process_seconds,
        audio_seconds=found.audio_seconds,
        server=found.load_share,
    )


@dataclass(slots=True)
class Bench:
    """One scheme's rows; `base` is the SDK's figure."""

    it: Rig
    scheme: str
    recordings: dict[str, Path]
    rounds: int
    base: float = 0.0

    def official(self) -> tuple[str, ...]:
        """The row of the SDK."""
        laps = [official(self.it, self.recordings[PCM]) for _ in range(self.rounds)]
        self.base = middle([lap.hours_per_core_minute for lap in laps])[0]
        return self._row(SDK, PCM, laps)

    def worker(self, kind: str) -> Iterator[tuple[str, ...]]:
        """The rows of a kind of worker, one for each form."""
        with self.it.worker(kind, AT_ONCE) as worker:
            for form, recording in self.recordings.items():
                # Who is asked for the first time has things to import.
                worker.wait(worker.send(AT_ONCE, self.it.recording(1), pace=0.0), TIMEOUT)
                yield self._row(kind, form, [ours(self.it, worker, recording) for _ in range(self.rounds)])

    def _row(self, way: str, form: str, laps: Sequence[Lap]) -> tuple[str, ...]:
        speed, spread = middle([lap.hours_per_core_minute for lap in laps])
        seconds = sum(lap.seconds for lap in laps)
        print(f"{self.scheme} {way} {form}: {speed:.0f} hours a core-minute", file=sys.stderr)
        return (
            way,
            self.scheme,
            form,
            f"{speed:.0f}",
            f"{100 * spread:.0f}%",
            f"{sum(lap.audio_seconds for lap in laps) / 60 / seconds:.0f}",
            f"{100 * sum(lap.core_seconds for lap in laps) / seconds:.0f}%",
            f"{100 * sum(lap.core_seconds - lap.process_seconds for lap in laps) / seconds:.0f}%",
            f"{100 * sum(lap.server * lap.seconds for lap in laps) / seconds:.0f}%",
            f"{speed / self.base:.1f}",
        )


def measure(minutes: int, rounds: int, only: Sequence[str]) -> list[tuple[str, ...]]:
    """All rows: for each scheme the SDK's, then those of each kind of worker."""
    rows = []
    for scheme in ("ws", "wss"):
        with rig(secure=scheme == "wss") as it:
            recordings = {
                form: write(it.folder / f"{form.replace(' ', '_')}", minutes) for form, write in FORMS.items()
            }
            bench = Bench(it, scheme, recordings, rounds)
            rows.append(bench.official())
            for kind in only:
                rows.extend(bench.worker(kind))
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and unless it was a quick look, store."""
    options = _parser().parse_args(argv)
    minutes, rounds = (QUICK_MINUTES, QUICK_ROUNDS) if options.quick else (MINUTES, ROUNDS)
    table = Table(title="Files at full speed", command="python -m bench.files", columns=COLUMNS)
    try:
        table.rows.extend(measure(minutes, rounds, options.only or KINDS))
    except KeyboardInterrupt:
        return 130
    facts = {"minutes": minutes, "rounds": rounds, "at_once": AT_ONCE, "sdk_at_once": SDK_AT_ONCE}
    table.notes.extend(note.format(**facts) for note in NOTES)
    table.notes.append(Cores.of_this_process().note())
    table.show()
    if not options.quick and not options.only:
        table.store("files")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.files", description="Recordings at full speed.")
    parser.add_argument("--quick", action="store_true", help="short recordings, one round, and nothing stored")
    parser.add_argument("--only", choices=KINDS, nargs="+", help="these kinds of workers, and nothing stored")
    return parser


if __name__ == "__main__":
    sys.exit(main())
