"""Measurements that nobody has made, for the tests of what is told of them."""

from bench.climb import Level
from bench.window import Window


def window(streams: int, core_us: float, p99: float = 5.0, part: float = 1.0, errors: float = 0.0) -> Window:
    """One of two seconds, in which this part of the audio came."""
    audio = 2.0 * streams * part
    figures = {"audio_seconds": audio, "seconds": 2.0, "cpu_seconds": 0.4, "errors": errors}
    figures |= {"late_ms_p50": 1.0, "late_ms_p99": p99}
    core = core_us * audio / 1e6
    return Window(seconds=2.0, core_seconds=core, process_seconds=0.9 * core, figures=figures)


def level(way: str, streams: int, *windows: Window, scheme: str = "ws", pss_mb: tuple[float, ...] = (100.0,)) -> Level:
    return Level(way=way, scheme=scheme, streams=streams, windows=windows or (window(streams, 300),), pss_mb=pss_mb)
