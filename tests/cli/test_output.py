import pytest

from cli.output import FORMATS, fail


def test_a_sentence_of_failure_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        fail("no [bold] here [/]", code=3)
    assert end.value.code == 3 and "no [bold] here [/]" in capsys.readouterr().err


def test_text_is_the_first_of_the_forms() -> None:
    assert FORMATS == ("txt", "json", "srt", "vtt", "tsv")
