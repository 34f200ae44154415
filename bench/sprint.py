"""python -m bench.sprint URL: many jobs in one moment, three ways in turn, each from that moment to its first result.

A process of its own, because the SDK reads whom it trusts (SSL_CERT_FILE) when it is imported. Prints one line of JSON:
for each way and round, the seconds of each job.
"""

import argparse
import contextlib
import json
import logging
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import dashscope
from dashscope.audio.asr import Recognition

from bench.audio import MODEL, RATE, chunks
from bench.race import KEY, Listener, first_result
from worker.pool import Policy, Pool
from worker.recognition import Chunk, Endpoint, RecognizerHooks

PATIENCE = 120.0
SENT_AT_ONCE, SENT_LIVE = 5, 20  # tenths of a second of audio in a job
OPENERS = 16

Way = Callable[[float], float]
"""A job: from the moment at which all start to the seconds until its first result."""


@contextlib.contextmanager
def warm(hooks: RecognizerHooks, audio: Sequence[Chunk], jobs: int) -> Iterator[Way]:
    """Our pool: the connections were there before the jobs came."""
    policy = Policy(min_size=jobs, max_size=jobs, max_waiting=jobs, openers=OPENERS, opens_per_second=1000.0)
    pool = Pool("recognizer", hooks, policy)

    def job(began: float) -> float:
        with pool.lease(borrower="sprint") as recognizer:
            return first_result(recognizer, audio, began, PATIENCE)

    try:
        pool.wait(PATIENCE)
        yield job
    finally:
        pool.close()


def fresh(hooks: RecognizerHooks, audio: Sequence[Chunk], began: float) -> float:
    """No pool: each job makes its own connection."""
    with contextlib.closing(hooks.open()) as recognizer:
        return first_result(recognizer, audio, began, PATIENCE)


def sdk(audio: Sequence[Chunk], began: float) -> float:
    """The official SDK, given the audio as soon as it takes it; see `bench.race`."""
    listener = Listener()
    recognition = Recognition(model=MODEL, callback=listener, format="pcm", sample_rate=RATE)
    recognition.start()
    zero = time.monotonic()
    for chunk in audio:
        time.sleep(max(0.0, zero + chunk.due - time.monotonic()))
        recognition.send_audio_frame(bytes(chunk.data))
    recognition.stop()  # type: ignore[no-untyped-call]  # returns when the task is over
    if listener.first is None:
        raise RuntimeError(f"the SDK failed: {listener.error}")
    return listener.first - began


def start(way: Way, jobs: int) -> list[float]:
    """All at once, a thread each; the times of those that did not fail. Raises RuntimeError when one hangs."""
    times: list[float] = []
    began = 0.0
    gate = threading.Event()

    def job() -> None:
        gate.wait()
        try:
            times.append(way(began))
        except Exception as error:  # any that the SDK raises; what is missing is counted
            print(f"a job failed: {type(error).__name__}", file=sys.stderr)

    threads = [threading.Thread(target=job, daemon=True) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    gate.set()
    for thread in threads:
        thread.join(max(0.0, began + PATIENCE - time.monotonic()))
    if any(thread.is_alive() for thread in threads) or not times:
        raise RuntimeError(f"{len(times)} of {jobs} jobs came to their end")
    return times


def sprint(url: str, jobs: int, rounds: int, live: bool) -> dict[str, list[list[float]]]:
    """Round by round each way once, so that what disturbs the machine disturbs all; the first round is practice."""
    hooks = RecognizerHooks(Endpoint(url=url, api_key=KEY, connect_timeout=PATIENCE))
    dashscope.api_key, dashscope.base_websocket_api_url = KEY, url
    audio = chunks(SENT_LIVE, pace=1.0) if live else chunks(SENT_AT_ONCE)
    laps: dict[str, list[list[float]]] = {"warm": [], "fresh": [], "sdk": []}
    for _ in range(rounds + 1):
        with warm(hooks, audio, jobs) as borrowed:
            laps["warm"].append(start(borrowed, jobs))
        laps["fresh"].append(start(partial(fresh, hooks, audio), jobs))
        laps["sdk"].append(start(partial(sdk, audio), jobs))
    return {name: lap[1:] for name, lap in laps.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run it and print its figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.sprint", description="Many jobs at once, three ways.")
    parser.add_argument("url")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--live", action="store_true", help="audio in real time, not all at once")
    options = parser.parse_args(argv)
    warnings.simplefilter("ignore")  # the SDK leaves loops and sessions to the garbage collector
    logging.getLogger("dashscope").setLevel(logging.CRITICAL)
    print(json.dumps(sprint(options.url, options.jobs, options.rounds, options.live)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
