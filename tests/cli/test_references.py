import errno
import io
import os
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from cli.references import ENDINGS, recordings

Tree = Callable[..., None]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """Makes files in a working folder."""
    monkeypatch.chdir(tmp_path)

    def make(*paths: str) -> None:
        for path in paths:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch()

    return make


def names(*named: str) -> list[str]:
    return [recording.name for recording in recordings(named)]


@pytest.mark.parametrize(
    "text",
    [
        "https://host/a.mp3",
        "s3://bucket/a",
        "oss://bucket/a",
        "file:/a/b.wav",
        "file:///a",
        "data:audio/wav;base64,UklG",
    ],
)
def test_what_has_a_scheme_stays_as_it_is(text: str) -> None:
    (recording,) = recordings([text])
    assert recording.audio == text


def test_an_address_goes_by_its_last_part_without_the_query() -> None:
    assert names("https://u:p@host/calls/call.mp3?sig=secret") == ["call.mp3"]


def test_a_path_becomes_an_absolute_file_reference(tree: Tree, tmp_path: Path) -> None:
    tree("calls/my call.wav")
    (recording,) = recordings(["calls/my call.wav"])
    assert recording.audio == f"{tmp_path.resolve().as_uri()}/calls/my%20call.wav" and recording.name == "my call.wav"


def test_a_file_that_is_named_may_end_as_it_likes(tree: Tree) -> None:
    tree("call", "x[1].raw", "@x")
    assert names("call", "x[1].raw", "./@x") == ["call", "x[1].raw", "@x"]


def test_of_a_folder_all_recordings_are_taken_in_order_and_keep_their_folders(tree: Tree) -> None:
    tree("in/b.wav", "in/a.MP3", "in/b/z.mp4", "in/b/a.ogg", "in/notes.txt", "in/.hidden.wav", "in/.git/x.wav")
    assert names("in") == names("in/") == names("./in") == ["a.MP3", "b.wav", "b/a.ogg", "b/z.mp4"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("in/*.wav", ["a.wav"]),
        ("in/*", ["a.wav", "b.mp3"]),
        ("in/**/*.wav", ["a.wav", "x/c.wav"]),
        ("in/**", ["a.wav", "b.mp3", "x/c.wav"]),
        ("i?/x/[c].wav", ["in/x/c.wav"]),
    ],
)
def test_a_pattern_that_no_shell_has_expanded_is_expanded(tree: Tree, pattern: str, expected: list[str]) -> None:
    tree("in/a.wav", "in/b.mp3", "in/x/c.wav", "in/notes.txt")
    assert names(pattern) == expected


def test_a_list_names_a_reference_a_line(tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree("a.wav", "in/b.wav")
    listed = "\ufeff# calls\n\n a.wav \nin\r\nhttps://host/c.mp3#t\n"
    (tmp_path / "list.txt").write_text(listed, encoding="utf-8")
    assert names("@list.txt") == ["a.wav", "b.wav", "c.mp3"]
    monkeypatch.setattr("sys.stdin", io.StringIO("a.wav\nhttps://host/d.mp3"))
    assert names("-", "@list.txt") == ["a.wav", "d.mp3", "b.wav", "c.mp3"]


def test_what_is_named_twice_is_one_recording(tree: Tree, tmp_path: Path) -> None:
    tree("in/a.wav")
    assert names("in", "in/a.wav", str(tmp_path / "in"), "in/*") == ["a.wav"]


def test_a_name_can_be_shown_and_written(tree: Tree) -> None:
    tree("in/a\nb/" + "x" * 80 + ".wav")
    assert names("in") == ["a_b/" + "x" * 60]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("none.wav", "there is no file none.wav"),
        ("/no/such/file", "there is no file"),
        ("", "there is no file"),
        ("x" * 5000, "there is no file"),
        (".", "there is no recording in ."),
        ("*.wav", r"there is no recording in \*.wav"),
        ("@none.txt", "the list @none.txt cannot be read: No such file"),
        ("@bytes", "there is no file"),
        ("@list", "there is no file @other"),
        ("@latin", r"the address that ends in caf_\.mp3 is not UTF-8; .*%E9"),
        ("https://u:p@host/\udcff.wav?sig=secret", r"the address that ends in _\.wav is not UTF-8"),
    ],
)
def test_a_reference_to_nothing_is_refused(tree: Tree, tmp_path: Path, text: str, said: str) -> None:
    tree("notes.txt")
    (tmp_path / "bytes").write_bytes(b"\xff\x00")
    (tmp_path / "list").write_text("@other")
    (tmp_path / "latin").write_bytes(b"https://host/caf\xe9.mp3\n")
    with pytest.raises(click.BadParameter, match=said):
        recordings([text])


def test_a_folder_that_cannot_be_read_is_named(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not left out, as if there were nothing in it. Root may read any, so here the system is what says no."""
    tree("calls/a.wav", "calls/secret/b.wav")
    look = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("secret"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return look(path)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(click.BadParameter, match=r"the folder calls/secret cannot be read: Permission denied\."):
        recordings(["calls"])


def test_a_list_on_stdin_that_is_no_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff"), encoding="utf-8"))
    with pytest.raises(click.BadParameter, match="the list - cannot be read: it is not text"):
        recordings(["-"])


def test_the_common_endings_are_known() -> None:
    assert {".wav", ".mp3", ".m4a", ".flac", ".ogg", ".opus", ".amr", ".webm", ".mp4", ".mkv", ".mov"} <= ENDINGS
    assert not {".txt", ".json", ".srt", ".vtt", ".tsv", ".part"} & ENDINGS
