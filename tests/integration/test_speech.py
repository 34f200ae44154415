"""Real speech through the whole path: two recordings at the same time, against the known text."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jiwer
import pytest
from moonshine_voice import get_assets_path

from emulator.stack import Stack

SAID = {
    # Charles Dickens, A Tale of Two Cities, first paragraph.
    "two_cities.wav": """
        It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, it
        was the epoch of belief, it was the epoch of incredulity, it was the season of Light, it was the season of
        Darkness, it was the spring of hope, it was the winter of despair, we had everything before us, we had nothing
        before us, we were all going direct to Heaven, we were all going direct the other way - in short, the period was
        so far like the present period, that some of its noisiest authorities insisted on its being received, for good
        or for evil, in the superlative degree of comparison only.""",
    # Samuel Beckett, Worstward Ho.
    "beckett.wav": "Ever tried. Ever failed. No matter. Try again. Fail again. Fail better.",
}
WORST = 0.25
"""Word error rate that the tiny model must stay under."""

PLAIN = jiwer.Compose(
    [jiwer.ToLowerCase(), jiwer.SubstituteRegexes({r"[^\w]+": " "}), jiwer.RemoveMultipleSpaces(), jiwer.Strip()]
    + [jiwer.ReduceToListOfListOfWords()]
)


def error_rate(said: str, heard: str) -> float:
    return float(jiwer.wer(said, heard, reference_transform=PLAIN, hypothesis_transform=PLAIN))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Both recordings, transcribed at the same time by the command line at twice real time."""
    assets = Path(get_assets_path())
    with Stack(tmp_path_factory.mktemp("speech"), engine="moonshine") as stack:
        stack.worker(STENOPOOL_AUDIO_ROOTS=str(assets))
        command = [sys.executable, "-m", "cli", "transcribe", "--live", "--pace", "2", "--format", "json"]
        done = subprocess.run(
            [*command, *(str(assets / name) for name in SAID)],
            env=stack.env(),
            capture_output=True,
            text=True,
            timeout=110,
        )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {result["audio"].rsplit("/", 1)[-1]: result for result in found}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", SAID)
def test_real_speech_is_understood(results: dict[str, Any], name: str) -> None:
    assert error_rate(SAID[name], results[name]["text"]) <= WORST


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", SAID)
def test_sentences_are_in_order_inside_the_recording_and_apart(results: dict[str, Any], name: str) -> None:
    result = results[name]
    times = [(one["begin_time"], one["end_time"]) for one in result["sentences"]]
    assert len(times) >= 2
    assert all(begin < end for begin, end in times)
    assert all(early[1] <= late[0] for early, late in zip(times, times[1:], strict=False))
    assert times[-1][1] <= result["duration_ms"]
    assert all(word["begin_time"] <= word["end_time"] for one in result["sentences"] for word in one["words"])


def test_the_measure_can_fail() -> None:
    assert error_rate(SAID["beckett.wav"], "Never mind the weather. It rains again.") > WORST
