import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery.exceptions import Reject

from config.logs import (
    NoMessageBodies,
    NoTraceOfGivingBack,
    RedactingFormatter,
    configure,
    redacted,
    shown_arguments,
    shown_reference,
)
from tasks.audio.reference import AudioReference


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
        # a quote or a bracket is part of an address when it goes on behind
        ("get https://h/it's%20a.mp3?sig=secret now", "get https://h/it's%20a.mp3 now"),
        ("get https://h/a<b>.mp3?sig=secret", "get https://h/a<b>.mp3"),
        ("get https://h/a?name=it's&sig=secret", "get https://h/a"),
        ("https://user:pa'secret@h/a", "https://h/a"),
        ("https://user:secret@more@h/a", "https://h/a"),
        ("https://user:pa/secret@h/a", "https://…"),
        # and what follows an address that ends there stays
        ('{"a":"https://h/a?x=1","b":"c@d"}', '{"a":"https://h/a","b":"c@d"}'),
        ('<a href="https://h/a?x=1">text</a>', '<a href="https://h/a">text</a>'),
        ("('https://h/a?x=1',)", "('https://h/a',)"),
        ("no way to redis://h:6379: refused by https://h:443. Why?", None),
        ("is 'https://h/a'? the one? with x=?", None),
        # several in one, as brokers are listed
        ("redis://h/0;redis://:secret@h/1", "redis://h/0;redis://h/1"),
        ("redis://:secret@h:1;redis://:secret@i:1", "redis://…"),
        # a query that stands away from its address
        ("['https://h/my call.mp3?X-Sig=secret', 1]", "['https://h/my call.mp3', 1]"),
        ('https://h:443 "GET /a.mp3?sig=secret HTTP/1.1" 200', 'https://h:443 "GET /a.mp3 HTTP/1.1" 200'),
    ],
)
def test_addresses_lose_what_is_secret_in_them(text: str, shown: str | None) -> None:
    assert redacted(text) == (shown or text)


REFERENCES = """
https://host/call.mp3 https://host:8443/call.mp3?sig=secret https://h/it's.mp3?sig=secret https://h/a<b>.mp3?sig=secret
https://h/"a".mp3?x=it's&sig=secret https://user:pa'secret@h/a.mp3 https://user:secret@more@h/a.mp3 http://h?sig=a@secret
https://[2001:db8::1]:443/a?secret https://h/10:30@office.mp3#secret s3://bucket/a@b/c.mp3 file:///a@b/c.wav
file:///a@b.wav https://h/a#secret?secret
""".split()


@pytest.mark.parametrize("text", [*REFERENCES, "https://h/my call.mp3?X-Sig=secret", "https://h/a b?c d=secret"])
def test_a_reference_is_shown_as_the_job_itself_shows_it(text: str) -> None:
    assert shown_reference(text) == AudioReference.parse(text).shown
    assert "secret" not in shown_reference(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https:h/a?sig=secret", "https:h/a"),
        ("https:/h/a?sig=secret", "https:/h/a"),
        ("https:user:secret@h/a", "https:h/a"),
        ("https:///user:secret@h/a", "https:///h/a"),
        (" https://user:secret@h/a#x", " https://h/a"),
        ("//user:secret@h/a", "//h/a"),
        ("file://user:secret@h/a", "file://h/a"),
        ("https://user:pa?secret@h/a", "https://…"),
        ("https://user:pa#secret@h/a", "https://…"),
        ("https://user:pa/secret@h/a", "https://…"),
        ("https://proxy/https://user:secret@h/a", "https://proxy/https://h/a"),
        ("s3://bucket/call?secret", "s3://bucket/call"),
        ("data:audio/wav;base64,secret it's secret", "data:…"),
        (" DATA:,secret", " data:…"),
        ("/home/a@b/which?#.wav", "/home/a@b/which"),
        ("file:/a@b.wav", "file:/a@b.wav"),
        ("", ""),
    ],
)
def test_so_is_one_that_is_not_valid_without_its_secrets(text: str, shown: str) -> None:
    assert shown_reference(text) == shown


@pytest.mark.parametrize("text", REFERENCES)
def test_as_an_argument_too(text: str) -> None:
    shown = shown_arguments([text], {"audio": text})
    assert shown["argsrepr"] == repr((AudioReference.parse(text).shown,)) == redacted(shown["argsrepr"])
    assert shown["kwargsrepr"] == repr({"audio": AudioReference.parse(text).shown})


def test_a_logged_traceback_is_redacted_too() -> None:
    try:
        raise ValueError("cannot get https://h/a?sig=secret")
    except ValueError as error:
        record = logging.LogRecord(
            "n", logging.ERROR, __file__, 1, "it broke", None, (type(error), error, error.__traceback__)
        )
    assert "secret" not in RedactingFormatter("%(message)s").format(record)


@pytest.mark.parametrize("args", [None, 5, "x", {}, [], [None], ["x" * 50_000], [["https://h/?sig=secret"]]])
@pytest.mark.parametrize("options", [None, 5, "x", [], ["x"], {}, {7: 8}, {"n" * 5000: "secret"}])
def test_arguments_of_any_shape_can_be_shown_in_little_room(args: object, options: object) -> None:
    shown = shown_arguments(args, options)
    assert set(shown) == {"argsrepr", "kwargsrepr"}
    assert all("secret" not in text and len(text) < 300 for text in shown.values())


def test_nobody_can_forge_a_line_of_the_log() -> None:
    record = logging.LogRecord("n", logging.INFO, __file__, 1, "job %s began", ("j\n2026 INFO all is well",), None)
    assert RedactingFormatter("%(message)s").format(record) == "job j\\n2026 INFO all is well began"


def test_a_message_that_celery_cannot_use_is_not_logged_whole() -> None:
    text = "Received unregistered task of type %s.\nThe full contents of the message body was:\n%s"
    record = logging.LogRecord("c", logging.ERROR, __file__, 1, text, ("mail.send", "to bob@example.com"), None)
    assert NoMessageBodies().filter(record)
    assert "mail.send" in record.getMessage() and "bob" not in record.getMessage()


@pytest.fixture
def logging_restored() -> Iterator[None]:
    """Whatever a test does to the root logger is undone."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)  # not the attribute: loggers remember for themselves what is enabled


@pytest.mark.usefixtures("logging_restored")
def test_lines_can_go_to_a_file(tmp_path: Path) -> None:
    configure(file=str(tmp_path / "log"))
    logging.getLogger("worker.pool").info("opened")
    assert "worker.pool: opened" in (tmp_path / "log").read_text()


@pytest.mark.usefixtures("logging_restored")
def test_configuring_sends_every_line_to_stderr_once(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    logging.getLogger("worker.pool").info("opened")
    assert capsys.readouterr().err.count("worker.pool: opened") == 1


def test_a_message_that_is_given_back_is_no_fault_in_the_log() -> None:
    for error, shown in ((Reject("left", requeue=True), False), (ValueError("left"), True)):
        record = logging.LogRecord("celery.app.trace", logging.WARNING, "", 1, "Task", (), (type(error), error, None))
        assert NoTraceOfGivingBack().filter(record)
        assert (record.levelname, bool(record.exc_info)) == (("WARNING", True) if shown else ("INFO", False))
