"""python -m bench.race URL: the same job by three ways in turn, each from its start to its first result.

A process of its own, because the SDK reads whom it trusts (SSL_CERT_FILE) when it is imported. Prints one line of JSON:
the seconds of each way, round by round.
"""

import argparse
import contextlib
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence

import dashscope
from dashscope.audio.asr import Recognition, RecognitionCallback, RecognitionResult

from bench.audio import MODEL, PARAMETERS, RATE, AtHand, chunks
from worker.pool import Policy, Pool
from worker.recognition import Chunk, Endpoint, Final, Partial, Recognizer, RecognizerHooks

AUDIO = chunks(5)
KEY = "emulator"
PATIENCE = 30.0

Way = Callable[[], float]


def first_result(recognizer: Recognizer, audio: Sequence[Chunk], began: float, patience: float = PATIENCE) -> float:
    """Run a whole task; the seconds from `began` to its first words."""
    first, deadline, source = 0.0, time.monotonic() + patience, AtHand(audio)
    for event in recognizer.transcribe(
        model=MODEL, parameters=PARAMETERS, chunks=source, ready=source.ready, deadline=deadline
    ):
        if not first and isinstance(event, Partial | Final):
            first = time.monotonic() - began
    return first


@contextlib.contextmanager
def warm(hooks: RecognizerHooks) -> Iterator[Way]:
    """Our pool: the connection was there before the job came."""
    pool = Pool("recognizer", hooks, Policy(min_size=1, max_size=1))

    def job() -> float:
        pool.wait(PATIENCE)
        began = time.monotonic()
        with pool.lease(borrower="race") as recognizer:
            return first_result(recognizer, AUDIO, began)

    try:
        yield job
    finally:
        pool.close()


def fresh(hooks: RecognizerHooks) -> float:
    """No pool: each job makes its own connection."""
    began = time.monotonic()
    with contextlib.closing(hooks.open()) as recognizer:
        return first_result(recognizer, AUDIO, began)


class Listener(RecognitionCallback):
    """Notes when the first words came."""

    def __init__(self) -> None:
        self.first: float | None = None
        self.error = "no result came"

    def on_event(self, result: RecognitionResult) -> None:
        if self.first is None:
            self.first = time.monotonic()

    def on_error(self, result: RecognitionResult) -> None:
        self.error = f"{result.code}"


def sdk() -> float:
    """The official SDK, which makes a connection for each job too.

    Its audio is at its end before the connection stands: while it waits for more it blocks its own event loop, and
    no result would reach us.
    """
    listener = Listener()
    began = time.monotonic()
    recognition = Recognition(model=MODEL, callback=listener, format="pcm", sample_rate=RATE)
    recognition.start()
    for chunk in AUDIO:
        recognition.send_audio_frame(bytes(chunk.data))
    recognition.stop()  # type: ignore[no-untyped-call]  # returns when the task is over
    if listener.first is None:
        raise RuntimeError(f"the SDK failed: {listener.error}")
    return listener.first - began


def race(url: str, rounds: int) -> dict[str, list[float]]:
    """Round by round each way once, so that what disturbs the machine disturbs all; the first round is practice."""
    hooks = RecognizerHooks(Endpoint(url=url, api_key=KEY))
    dashscope.api_key, dashscope.base_websocket_api_url = KEY, url
    with warm(hooks) as borrowed:
        ways: dict[str, Way] = {"warm": borrowed, "fresh": lambda: fresh(hooks), "sdk": sdk}
        laps = [{name: way() for name, way in ways.items()} for _ in range(rounds + 1)]
    return {name: [lap[name] for lap in laps[1:]] for name in ways}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the race and print its figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.race", description="One job, three ways.")
    parser.add_argument("url")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args(argv)
    warnings.simplefilter("ignore")  # the SDK leaves loops and sessions to the garbage collector
    logging.getLogger("dashscope").setLevel(logging.CRITICAL)
    print(json.dumps(race(options.url, options.rounds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
