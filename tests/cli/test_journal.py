import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.journal import NAME, InUse, Journal

Open = Callable[..., Journal]
SIGNED = "https://u:p@host/call.mp3?sig=secret"


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens the journal of a folder, as a later run of the command does."""
    journals: list[Journal] = []

    def open_(**options: str) -> Journal:
        for journal in journals:
            journal.close()
        journals.append(Journal(tmp_path, options))
        return journals[-1]

    yield open_
    for journal in journals:
        journal.close()


def test_a_job_is_found_again_by_its_recording_and_its_options(opened: Open) -> None:
    entry = opened(model="m").begin("https://host/a", "a")
    assert opened(model="m").find("https://host/a") == entry and entry.name == "a"
    assert opened(model="m").find("https://host/b") is None
    assert opened(model="other").find("https://host/a") is None


def test_a_job_is_on_the_disk_before_anybody_knows_its_id(opened: Open, tmp_path: Path) -> None:
    entry = opened().begin("https://host/a", "a")
    (line,) = (tmp_path / NAME).read_text().splitlines()
    assert json.loads(line)["job"] == entry.job


def test_the_newest_job_of_a_recording_counts(opened: Open) -> None:
    journal = opened()
    old, new = journal.begin("https://host/a", "a"), journal.begin("https://host/a", "a")
    assert old.job != new.job and opened().find("https://host/a") == new


def test_what_was_noted_is_known_later(opened: Open) -> None:
    journal = opened()
    entry = journal.begin("https://host/a", "a")
    assert not journal.was_sent(entry)
    journal.sent(entry)
    assert journal.was_sent(entry) and opened().was_sent(entry)


def test_recordings_of_one_name_get_numbers_that_stay(opened: Open) -> None:
    journal = opened()
    assert [journal.begin(f"https://host/{place}/a", "a").name for place in range(3)] == ["a", "a.2", "a.3"]
    later = opened(model="m")
    assert later.begin("https://host/1/a", "a").name == "a.2"
    assert later.begin("https://host/9/a", "a").name == "a.4"


def test_files_of_other_options_are_not_taken_for_this_job_s(opened: Open) -> None:
    first = opened(model="m").begin("https://host/a", "a")
    assert opened(model="m").may_be_written(first, "txt")

    second = opened(model="n").begin("https://host/a", "a")
    later = opened(model="n")
    assert not later.may_be_written(second, "txt")
    later.written(second.job, "txt")
    later = opened(model="n")
    assert later.may_be_written(second, "txt") and not later.may_be_written(second, "srt")
    assert later.begin("https://host/a", "a").name == "a"


@pytest.mark.parametrize("kept", range(0, 400, 23))
def test_a_journal_that_was_cut_off_anywhere_can_be_gone_on_with(opened: Open, tmp_path: Path, kept: int) -> None:
    journal = opened()
    entries = {audio: journal.begin(audio, "x") for audio in ("https://host/a", "https://host/b")}
    journal.close()
    whole = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(whole[:kept])

    later = opened()
    found = {audio: later.find(audio) for audio in entries}
    assert all(entry in (None, entries[audio]) for audio, entry in found.items())
    assert sum(entry is not None for entry in found.values()) >= whole[:kept].count(b"\n")
    again = later.begin("https://host/c", "c")
    assert opened().find("https://host/c") == again


def test_lines_that_are_not_ours_are_left_alone(opened: Open, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b'[]\n{"job": 1}\n\xff\n{"sent": []}\n\nnull\n')
    entry = opened().begin("https://host/a", "a")
    assert opened().find("https://host/a") == entry


def test_only_one_process_has_a_journal(opened: Open, tmp_path: Path) -> None:
    journal = opened()
    with pytest.raises(InUse):
        Journal(tmp_path, {})
    journal.close()
    Journal(tmp_path, {}).close()


def test_no_secret_is_kept(opened: Open, tmp_path: Path) -> None:
    opened().begin(SIGNED, "call.mp3")
    text = (tmp_path / NAME).read_text()
    assert "https://host/call.mp3" in text and "secret" not in text and "u:p" not in text


def test_nor_that_of_a_name_with_a_quote_or_a_space(opened: Open, tmp_path: Path) -> None:
    journal = opened()
    for place in ("it's.mp3", "my call.mp3"):
        journal.begin(f"https://host/{place}?sig=secret", place)
    text = (tmp_path / NAME).read_text()
    assert "https://host/it's.mp3" in text and "secret" not in text


def test_a_job_is_found_whatever_was_shown_of_its_recording(opened: Open, tmp_path: Path) -> None:
    audio = "https://host/it's.mp3?sig=x"
    entry = opened().begin(audio, "a")
    text = (tmp_path / NAME).read_text()
    (tmp_path / NAME).write_text(text.replace("https://host/it's.mp3", audio))  # as it was once written
    assert opened().find(audio) == entry


def test_any_reference_can_be_noted(opened: Open) -> None:
    entry = opened().begin("file:///\udcff\ud800", "x")
    assert opened().find("file:///\udcff\ud800") == entry
