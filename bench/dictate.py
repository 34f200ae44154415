"""python -m bench.dictate URL FILE...: the official SDK, fed with recordings as fast as it takes them, all at once.

A process of its own, because the SDK reads whom it trusts (SSL_CERT_FILE) when it is imported. Prints one line of JSON:
seconds, those of them in which its core was not idle, and those that this process is charged for.
"""

import argparse
import json
import logging
import os
import sys
import threading
import time
import warnings
import wave
from collections.abc import Sequence
from typing import Any

import dashscope
from dashscope.audio.asr import Recognition, RecognitionCallback, RecognitionResult

from bench.audio import MODEL, RATE
from bench.window import idle_seconds

FRAMES = 6400
"""Samples sent at once: 12,800 bytes, as the SDK's own `call` reads a file."""


class Listener(RecognitionCallback):
    """Counts the sentences, as a program would read them."""

    def __init__(self) -> None:
        self.sentences = 0
        self.error = ""

    def on_event(self, result: RecognitionResult) -> None:
        sentence: Any = result.get_sentence()
        self.sentences += RecognitionResult.is_sentence_end(sentence)

    def on_error(self, result: RecognitionResult) -> None:
        self.error = f"{result.code}"


def dictate(path: str, listener: Listener) -> None:
    """One recording."""
    recognition = Recognition(model=MODEL, callback=listener, format="pcm", sample_rate=RATE)
    recognition.start()
    with wave.open(path, "rb") as recording:
        while data := recording.readframes(FRAMES):
            recognition.send_audio_frame(data)
    recognition.stop()  # type: ignore[no-untyped-call]  # returns when the task is over


def main(argv: Sequence[str] | None = None) -> int:
    """Dictate them all, and print what it took."""
    parser = argparse.ArgumentParser(prog="python -m bench.dictate", description="Recordings by the official SDK.")
    parser.add_argument("url")
    parser.add_argument("file", nargs="+")
    options = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    logging.getLogger("dashscope").setLevel(logging.CRITICAL)
    dashscope.api_key, dashscope.base_websocket_api_url = "bench", options.url
    (core,) = os.sched_getaffinity(0)
    listeners = [Listener() for _ in options.file]
    threads = [threading.Thread(target=dictate, args=pair) for pair in zip(options.file, listeners, strict=True)]
    began, idle, cpu = time.monotonic(), idle_seconds(core), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took, idled, used = time.monotonic() - began, idle_seconds(core) - idle, time.process_time() - cpu
    print(json.dumps({"seconds": took, "core_seconds": max(0.0, took - idled), "process_seconds": used}))
    return 0 if all(listener.sentences and not listener.error for listener in listeners) else 1


if __name__ == "__main__":
    sys.exit(main())
