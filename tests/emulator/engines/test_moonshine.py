import wave
from concurrent.futures import ThreadPoolExecutor

import pytest
from moonshine_voice import get_assets_path

from emulator import BackgroundEmulator
from emulator.engines import Result
from emulator.engines.moonshine import MoonshineEngine
from tests.emulator.client import Client


@pytest.fixture(scope="module")
def engine() -> MoonshineEngine:
    return MoonshineEngine()


@pytest.fixture(scope="module")
def speech() -> bytes:
    """Ten seconds of an actor, 16 kHz."""
    with wave.open(str(get_assets_path() / "beckett.wav")) as recording:
        return bytes(recording.readframes(recording.getnframes()))


def hear(engine: MoonshineEngine, pcm: bytes) -> list[Result]:
    stream = engine.open(16000)
    results = [result for at in range(0, len(pcm), 6400) for result in stream.feed(pcm[at : at + 6400])]
    return results + stream.finish()


def test_speech_becomes_sentences_in_order(engine, speech):
    results = hear(engine, speech)
    finals = [result for result in results if result.is_final]
    text = " ".join(result.text for result in finals).lower()
    assert all(word in text for word in ("ever tried", "ever failed", "no matter", "try again"))
    assert len(results) > len(finals) >= 2
    edges = [edge for result in finals for edge in (result.begin_ms, result.end_ms) if edge is not None]
    assert len(edges) == 2 * len(finals)
    assert edges == sorted(edges) and len(set(edges)) >= len(finals) + 1
    for result in finals:
        assert result.end_ms is not None and result.end_ms > result.begin_ms
        assert (result.words[0].begin_ms, result.words[-1].end_ms) == (result.begin_ms, result.end_ms)
        assert all(word.text and not word.text.endswith((",", ".")) for word in result.words)
    assert finals[0].words[-1].punctuation == "."


def test_streams_at_once_do_not_change_each_other(engine, speech):
    alone = hear(engine, speech)
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda _: hear(engine, speech), range(3))) == [alone] * 3


def test_silence_has_no_sentences(engine):
    assert hear(engine, bytes(64000)) == []


def test_a_fast_client_is_held_back_and_loses_nothing(engine, speech):
    with BackgroundEmulator(engine) as emulator:
        client = Client(emulator.url)
        finals = client.transcribe(speech * 2)
        client.ws.shutdown()
        assert emulator.logbook.tasks[0].audio_bytes == 2 * len(speech)
    assert " ".join(finals).lower().count("no matter") == 2
