"""From what a user names to recordings: files, folders, patterns, addresses, and lists of all these."""

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import click

from cli.client import name_of, printable

ENDINGS = frozenset(
    ".3gp .aac .ac3 .aif .aifc .aiff .amr .ape .au .avi .awb .caf .dts .flac .flv .gsm .m4a .m4b .m4v .mka .mkv .mov "
    ".mp2 .mp3 .mp4 .mpeg .mpg .mts .oga .ogg .ogv .opus .snd .spx .ts .tta .voc .w64 .wav .webm .wma .wmv .wv".split()
)
"""Of files that are taken from a folder or by a pattern; one that is named itself may end as it likes."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A reference, and the name of its results: with folders, if it was found below a folder."""

    audio: str
    name: str


def recordings(named: Iterable[str]) -> list[Recording]:
    """Each recording that was named, once, in the order of naming; those of a folder in the order of their names.

    Raises:
        click.BadParameter: nothing is there.
    """
    found: dict[str, Recording] = {}
    for text in named:
        for recording in _listed(text):
            found.setdefault(recording.audio, recording)
    return list(found.values())


def _listed(text: str) -> Iterator[Recording]:
    """`-` and `@file` are lists, a reference a line; empty lines and those that begin with # are left out."""
    if text != "-" and not text.startswith("@"):
        yield from _found(text)
        return
    for line in map(str.strip, _lines(text)):
        if line and not line.startswith("#"):
            yield from _found(line)


def _lines(text: str) -> list[str]:
    try:
        if text == "-":
            return sys.stdin.readlines()
        with open(text[1:], encoding="utf-8-sig", errors="surrogateescape") as file:
            return list(file)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise click.BadParameter(
            f"the list {text} cannot be read: {why}. Give a file of one reference a line."
        ) from None


def _found(text: str) -> Iterator[Recording]:
    if "://" in text or text.startswith(("file:", "data:")):
        yield _address(text)
    elif os.path.isfile(text):
        yield _file(text, os.path.dirname(text))
    elif os.path.isdir(text):
        yield from _some(text, text, _below(text))
    elif glob.has_magic(text):
        yield from _some(text, _before_magic(text), sorted(glob.glob(text, recursive=True)))
    else:
        raise click.BadParameter(f"there is no file {text}; give a path, or an address such as https://host/call.mp3.")


def _address(text: str) -> Recording:
    name = name_of(text)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise click.BadParameter(
            f"the address that ends in {name} is not UTF-8; write other bytes as %E9 is written for é in Latin-1."
        ) from None
    return Recording(text, name)


def _some(text: str, top: str, paths: Iterable[str]) -> list[Recording]:
    """The recordings among these paths, or a complaint."""
    found = [_file(path, top) for path in paths if Path(path).suffix.lower() in ENDINGS and os.path.isfile(path)]
    if not found:
        raise click.BadParameter(
            f"there is no recording in {text}, no name that ends in .wav, .mp3, .mp4 or the like; "
            "a file that is named itself is sent whatever it is called."
        )
    return found


def _below(folder: str) -> Iterator[str]:
    """The files of a folder and of those in it, but for hidden ones. Links to folders are not followed."""
    for place, folders, files in os.walk(folder, onerror=_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(place, name) for name in sorted(files) if not name.startswith("."))


def _unreadable(error: OSError) -> NoReturn:
    raise click.BadParameter(f"the folder {error.filename} cannot be read: {error.strerror}.")


def _before_magic(pattern: str) -> str:
    parts = Path(pattern).parts
    plain = next(place for place, part in enumerate(parts) if glob.has_magic(part))
    return str(Path(*parts[:plain]))


def _file(path: str, top: str) -> Recording:
    parts = Path(os.path.relpath(path, top or ".")).parts
    return Recording(Path(path).resolve().as_uri(), "/".join(printable(part) for part in parts))
