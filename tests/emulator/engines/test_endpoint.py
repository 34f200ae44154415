import numpy
import pytest

from emulator.engines.endpoint import Endpointer, Samples, Stretch

RATE = 16000


def noise(seconds: float, loudness: int, seed: int = 1) -> Samples:
    values = numpy.random.default_rng(seed).normal(0, loudness, int(seconds * RATE))
    return values.astype(numpy.int16)


def hear(samples: Samples, size: int = 1600) -> list[Stretch]:
    ends = Endpointer(RATE)
    found = [stretch for at in range(0, len(samples), size) for stretch in ends.feed(samples[at : at + size])]
    return found + ends.finish()


def seconds(stretches: list[Stretch]) -> list[tuple[float, float]]:
    return [(stretch.begin / RATE, stretch.end / RATE) for stretch in stretches]


@pytest.mark.parametrize("size", [7, 320, 1600, 10**6])
def test_speech_between_pauses_is_a_sentence_however_it_is_cut(size):
    audio = numpy.concatenate([noise(1, 5), noise(1, 3000), noise(1, 5), noise(1, 3000), noise(0.1, 5)])
    assert seconds(hear(audio, size)) == [(0.8, 2.2), (2.8, 4.1)]


def test_a_short_pause_ends_nothing():
    audio = numpy.concatenate([noise(1, 3000), noise(0.3, 5), noise(1, 3000), noise(1, 5)])
    assert seconds(hear(audio)) == [(0.0, 2.5)]


def test_a_click_is_no_speech():
    assert hear(numpy.concatenate([noise(1, 5), noise(0.04, 3000), noise(1, 5)])) == []
    assert hear(numpy.concatenate([noise(1, 5), noise(0.04, 3000)])) == []


def test_a_long_sentence_is_cut_where_it_is_quietest():
    audio = numpy.concatenate([noise(9, 3000), noise(0.1, 300), noise(6, 3000)])
    first, second = hear(audio)
    assert 9.0 <= first.end / RATE <= 9.1
    assert second.begin == first.end
    assert second.end / RATE == pytest.approx(15.1)


def test_the_open_stretch_is_there_once_it_is_no_click():
    ends = Endpointer(RATE)
    ends.feed(noise(0.06, 3000))
    assert ends.open_stretch() is None
    ends.feed(noise(0.5, 3000))
    stretch = ends.open_stretch()
    assert stretch is not None and not stretch.is_final
    assert len(stretch.samples) == stretch.end - stretch.begin
