import logging

import pytest

from config.logs import RedactingFormatter, configure, redacted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://host/call.mp3?sig=1#f", "https://host/call.mp3"),
        ("https://user:pass@host:8443/a/b.wav", "https://host:8443/a/b.wav"),
        ("get https://h/a?x=1 and http://h/b?y=2 now", "get https://h/a and http://h/b now"),
        ("redis://:secret@host:6379/0", "redis://host:6379/0"),
        ("url='https://h/a?x=1', next", "url='https://h/a', next"),
        ("data:audio/wav;base64,UklGRg==", "data:…"),
        ("no address at all?", "no address at all?"),
    ],
)
def test_addresses_lose_what_is_secret_in_them(text: str, shown: str) -> None:
    assert redacted(text) == shown


def test_a_logged_traceback_is_redacted_too() -> None:
    try:
        raise ValueError("cannot get https://h/a?sig=secret")
    except ValueError as error:
        record = logging.LogRecord(
            "n", logging.ERROR, __file__, 1, "it broke", None, (type(error), error, error.__traceback__)
        )
    assert "secret" not in RedactingFormatter("%(message)s").format(record)


def test_configuring_sends_every_line_to_stderr_once(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        configure()
        logging.getLogger("worker.pool").info("opened")
        assert capsys.readouterr().err.count("worker.pool: opened") == 1
    finally:
        root.handlers[:], root.level = handlers, level
