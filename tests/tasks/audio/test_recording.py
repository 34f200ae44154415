from fractions import Fraction

import pytest

from tasks.audio.limits import AudioLimits
from tasks.audio.recording import Bounds, silence
from tasks.errors import BadInput


def bounds(seconds: float | None, *, exact: bool = True, most: float = 100) -> Bounds:
    declared = None if seconds is None else Fraction(seconds)
    return Bounds("https://host/call", 16000, declared, AudioLimits(max_seconds=most), exact=exact)


@pytest.mark.parametrize(("seconds", "exact", "fits"), [(100, True, True), (101, True, False), (150, False, True)])
def test_a_declared_length_may_reach_the_limit_and_an_estimate_half_as_much_more(
    seconds: float, exact: bool, fits: bool
) -> None:
    if fits:
        bounds(seconds, exact=exact).check_declared()
        return
    with pytest.raises(BadInput) as caught:
        bounds(seconds, exact=exact).check_declared()
    assert caught.value.code == "audio_too_long"


def test_an_estimate_too_high_even_so_and_a_sample_too_many_are_too_long() -> None:
    bounds(None).check_declared()
    bounds(None).check_position(1_600_000)
    for judge in (bounds(151, exact=False).check_declared, lambda: bounds(None).check_position(1_600_001)):
        with pytest.raises(BadInput) as caught:
            judge()
        assert caught.value.code == "audio_too_long"


@pytest.mark.parametrize(
    ("seconds", "heard", "whole"), [(10, 9, True), (10, 8.9, False), (100, 98, True), (0, 0, True)]
)
def test_a_second_or_a_fiftieth_may_be_missing(seconds: float, heard: float, whole: bool) -> None:
    if whole:
        bounds(seconds).check_complete(int(heard * 16000))
        return
    with pytest.raises(BadInput) as caught:
        bounds(seconds).check_complete(int(heard * 16000))
    assert caught.value.code == "truncated_audio"


def test_what_is_only_estimated_or_not_declared_is_never_cut() -> None:
    bounds(100, exact=False).check_complete(0)
    bounds(None).check_complete(0)
    assert not bounds(None).exact


@pytest.mark.parametrize("samples", [0, 1, 8192, 8193, 100_000])
def test_silence_is_as_long_as_it_should_be_and_comes_in_blocks(samples: int) -> None:
    blocks = list(silence(samples))
    assert b"".join(blocks) == bytes(samples * 2)
    assert all(0 < len(block) <= 16_384 for block in blocks)
