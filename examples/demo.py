"""The whole path on real speech, with nothing but this checkout: `make demo`.

Starts an embedded Valkey, the emulator with a real speech model and a worker, transcribes two recordings at the same
time, prints what was said, and stops what it started.
"""

import json
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from moonshine_voice import get_assets_path

from emulator.stack import NotReady, Stack

RECORDINGS = ("two_cities.wav", "beckett.wav")
PACE = "2"
"""Twice real time, so that the demo is short; the default of a job is real time."""

TIMEOUT = 100
"""Seconds for both recordings."""


def main() -> int:
    """Run the demo; 0 if both recordings were transcribed."""
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    folder = Path(get_assets_path())
    with tempfile.TemporaryDirectory(prefix="stenopool-") as scratch:
        say("starting Valkey, the emulator with the Moonshine model, and a worker …")
        try:
            with Stack(Path(scratch), engine="moonshine") as stack:
                stack.worker(STENOPOOL_AUDIO_ROOTS=str(folder))
                return transcribe(stack, folder)
        except NotReady as error:
            say(str(error))
        except subprocess.TimeoutExpired:
            say(f"the transcripts did not come within {TIMEOUT} s; is the machine very busy?")
        except KeyboardInterrupt:
            say("interrupted; everything that it had started is stopped")
            return 130
        return 1


def transcribe(stack: Stack, folder: Path) -> int:
    """What a user would type, against the stack."""
    say(f"stenopool transcribe --live --pace {PACE} {' '.join(RECORDINGS)}")
    command = [sys.executable, "-m", "cli", "transcribe", "--live", "--pace", PACE]
    command += [str(folder / name) for name in RECORDINGS]
    code = subprocess.run(command, env=stack.env(STENOPOOL_AUDIO_ROOTS=str(folder)), timeout=TIMEOUT).returncode
    with urllib.request.urlopen(f"{stack.http_url}/logbook", timeout=5) as answer:
        seen = json.load(answer)["summary"]
    used = len(seen["tasks_per_connection"])
    say(f"the emulator saw {seen['streams']} recognitions over {used} connections, of {seen['connections']} kept warm")
    return code


def say(text: str) -> None:
    print(f"demo: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
