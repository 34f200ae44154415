"""The files: what each holds, and how it keeps apart what is text and what is not."""

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Final

from tasks.transcript.assemble import Sentence, joined
from tasks.transcript.captions.cues import cues
from tasks.transcript.captions.writing import clean

_MARKUP = re.compile(r"(?<=--)(?=>)|(?<=<)|(?<=\{)(?=\\)")
"""Where a reader of SubRip would take text for an arrow or a tag. There is no escape; the invisible word joiner, put in
there, tells them apart."""

_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def render(form: str, sentences: Iterable[Sentence]) -> str:
    """A transcript as a file of this form, one of FORMS. It ends with a line's end.

    As soon as anybody speaks on a channel but the first, everybody's channel is named, counted from 1.
    """
    listed = [sentence for sentence in sentences if clean(sentence["text"])]
    return _FORMS[form](listed, any(sentence["channel"] for sentence in listed))


def _txt(sentences: Sequence[Sentence], named: bool) -> str:
    if not named:
        return clean(joined(sentences)) + "\n"
    turns = groupby(sentences, key=itemgetter("channel"))
    return "".join(f"{_name(channel)}{clean(joined(said))}\n" for channel, said in turns)


def _srt(sentences: Sequence[Sentence], named: bool) -> str:
    written = ""
    for number, cue in enumerate(cues(sentences, _reserved(sentences, named)), 1):
        name = _name(cue.channel) if named else ""
        text = _MARKUP.sub("\u2060", name + "\n".join(cue.lines))
        written += f"{number}\n{_time(cue.begin, ',')} --> {_time(cue.end, ',')}\n{text}\n\n"
    return written


def _vtt(sentences: Sequence[Sentence], named: bool) -> str:
    written = "WEBVTT\n\n"
    # The cues are numbered, for readers that take a year at the end of one for the number of the next.
    for number, cue in enumerate(cues(sentences, _reserved(sentences, named)), 1):
        voice = f"<v Channel {cue.channel + 1}>" if named else ""
        text = voice + "\n".join(cue.lines).translate(_ENTITIES)
        written += f"{number}\n{_time(cue.begin, '.')} --> {_time(cue.end, '.')}\n{text}\n\n"
    return written


def _tsv(sentences: Sequence[Sentence], named: bool) -> str:
    """As Whisper writes it: a sentence a row, its times in milliseconds."""
    written = "start\tend\ttext" + "\tchannel" * named + "\n"
    for sentence in sentences:
        written += f"{sentence['begin_time']}\t{sentence['end_time']}\t{clean(sentence['text'])}"
        written += f"\t{sentence['channel'] + 1}\n" if named else "\n"
    return written


def _name(channel: int) -> str:
    return f"[{channel + 1}] "


def _reserved(sentences: Sequence[Sentence], named: bool) -> int:
    return max(len(_name(sentence["channel"])) for sentence in sentences) if named else 0


def _time(ms: int, mark: str) -> str:
    seconds, ms = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{mark}{ms:03d}"


_FORMS: Final[dict[str, Callable[[Sequence[Sentence], bool], str]]] = {
    "txt": _txt,
    "srt": _srt,
    "vtt": _vtt,
    "tsv": _tsv,
}
FORMS: Final = tuple(_FORMS)
