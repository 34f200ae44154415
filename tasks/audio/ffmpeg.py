"""How FFmpeg is let at a source.

It gets a Python file object and nothing else: formats that name other files are not on the list, and should one of the
listed ask for another file all the same, it is refused.
"""

import ctypes

import av
import av.utils
from av.container import InputContainer

from tasks.audio.containers import family
from tasks.audio.recording import not_streamable, truncated
from tasks.audio.riff import bytes_per_second
from tasks.audio.tap import Tap
from tasks.errors import BadInput

__all__ = ["bare_ending", "open_container"]

# Left out on purpose: hls, concat, dash, image2, sdp, rtsp, lavfi and the like, which open what a file's text names.
_FORMATS = (
    "wav,w64,aiff,au,caf,voc,flac,mp3,aac,loas,ac3,eac3,dts,dtshd,amr,amrnb,amrwb,ape,wv,tta,mpc,mpc8,ogg,opus,dsf,sox,"
    "matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,asf,avi,flv,mpeg,mpegts,mxf,rm,nistsphere,dss,qcp,"
    "gsm,g722,g729,g723_1,mulaw,alaw,s16le"
)
# What telephone systems write without any header: only the name says what it is, and at which rate.
_BARE = {
    **dict.fromkeys(("ulaw", "ul", "mulaw", "pcmu"), ("mulaw", 8000)),
    **dict.fromkeys(("alaw", "al", "pcma"), ("alaw", 8000)),
    "sln": ("s16le", 8000),
    **{f"sln{rate}": ("s16le", rate * 1000) for rate in (12, 16, 24, 32, 48)},
    "g722": ("g722", None),
    "g723": ("g723_1", None),
    "g729": ("g729", None),
}
_OPTIONS = {
    "format_whitelist": _FORMATS,
    "protocol_whitelist": "none",
    "probesize": str(4 * 1024 * 1024),  # bytes
    "formatprobesize": str(1024 * 1024),
    "analyzeduration": "5000000",  # microseconds
    "max_streams": "50",
}
_BLOCK = 32 * 1024  # bytes; a live source can start as soon as it has given that
_PROBED = 64 * 1024  # bytes of a WAV's PCM that are searched for sound in disguise (DTS and the like)
_SMALL, _LARGE = 2048, 16_384  # bytes of a WAV's packet: few steps, yet the resampler needs 50 bytes for each sample

_MOST = 128 * 1024 * 1024
"""Bytes that FFmpeg may allocate at once: twelve hours of M4A have an index of 50 MB. By itself it would believe an
MP4 of a thousand bytes which says that it has a hundred million samples, and allocate 2 GB.
"""
ctypes.CDLL(av.utils.__file__).av_max_alloc(ctypes.c_size_t(_MOST))  # PyAV does not offer it, but is linked to it


def open_container(tap: Tap, shown: str) -> InputContainer:
    """FFmpeg's view of the source. Raises `BadInput` `not_audio`, `not_streamable` or `truncated_audio`, and what
    reading raises.
    """
    name, rate = _bare(tap, shown)
    options = _OPTIONS | _wave_options(tap) | ({} if rate is None else {"sample_rate": str(rate)})
    try:
        container = av.open(
            tap, "r", name, options=options, buffer_size=_BLOCK, io_open=_refuse, metadata_errors="replace"
        )
    except (av.FFmpegError, ValueError):
        tap.check()
        raise _unopened(tap, shown) from None
    try:
        tap.check()
    except BaseException:
        container.close()
        raise
    return container


def bare_ending(shown: str) -> str:
    """The ending of a recording's name, if only that says what samples without a header are; else nothing."""
    ending = shown.rpartition(".")[2].lower()
    return ending if ending in _BARE else ""


def _bare(tap: Tap, shown: str) -> tuple[str | None, int | None]:
    """The format of samples without a header, and their rate if there is a choice; nothing for all other files."""
    has_header = family(tap.head) is not None or tap.head.startswith((b".snd", b"#!AMR", b"OggS"))
    return _BARE.get(bare_ending(shown), (None, None)) if not has_header else (None, None)


def _wave_options(tap: Tap) -> dict[str, str]:
    """A WAV in packets of about 100 ms: by itself FFmpeg makes small ones, and searches 32 of them."""
    speed = bytes_per_second(tap.at)
    if speed is None:
        return {}
    return {"max_size": str(min(max(_SMALL, speed // 10), _LARGE)), "probesize": str(_PROBED)}


def _refuse(url: str, flags: int, options: dict[str, str]) -> None:
    raise PermissionError("a recording may not open other files")


def _unopened(tap: Tap, shown: str) -> BadInput:
    kind = family(tap.head)
    if kind == "mp4":  # an MP4 without its index (moov), which is mostly written last
        return truncated(shown)
    if kind == "caf" and not tap.seekable():  # its table of packets comes last, too
        return not_streamable(shown)
    return BadInput(
        "not_audio", f"{shown} is no recording that can be read; send for example WAV, FLAC, MP3, M4A or Ogg."
    )
