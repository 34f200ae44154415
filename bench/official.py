"""python -m bench.official URL STREAMS: real-time streams by the official SDK, a thread each, until it is killed.

A process of its own, because the SDK reads whom it trusts (SSL_CERT_FILE) when it is imported.
"""

import argparse
import logging
import sys
import threading
import time
import warnings
from collections.abc import Sequence

import dashscope
from dashscope.audio.asr import Recognition, RecognitionCallback, RecognitionResult

from bench.audio import MODEL, RATE, SAMPLES

CHUNK = bytes(2 * SAMPLES)
CHUNK_SECONDS = SAMPLES / RATE


class Listener(RecognitionCallback):
    """Hears the results, as a program would; tells of faults."""

    def on_event(self, result: RecognitionResult) -> None:
        result.get_sentence()

    def on_error(self, result: RecognitionResult) -> None:
        print(f"a stream failed: {result.code}", flush=True)


def stream() -> None:
    """Silence without end, a tenth of a second each tenth of a second, on a clock that does not drift."""
    recognition = Recognition(model=MODEL, callback=Listener(), format="pcm", sample_rate=RATE)
    recognition.start()
    due = time.monotonic()
    while True:
        recognition.send_audio_frame(CHUNK)
        due += CHUNK_SECONDS
        time.sleep(max(0.0, due - time.monotonic()))


def main(argv: Sequence[str] | None = None) -> int:
    """Start them one after the other, then let them stream."""
    parser = argparse.ArgumentParser(prog="python -m bench.official", description="Streams by the official SDK.")
    parser.add_argument("url")
    parser.add_argument("streams", type=int)
    parser.add_argument("--over", type=float, default=2.0, help="seconds to start them in (%(default)g)")
    options = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    logging.getLogger("dashscope").setLevel(logging.CRITICAL)
    dashscope.api_key, dashscope.base_websocket_api_url = "bench", options.url
    threads = [threading.Thread(target=stream, daemon=True) for _ in range(options.streams)]
    for thread in threads:
        thread.start()
        time.sleep(options.over / len(threads))
    for thread in threads:
        thread.join()
    return 1  # no stream ends by itself


if __name__ == "__main__":
    sys.exit(main())
