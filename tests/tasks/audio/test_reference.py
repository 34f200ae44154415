import pytest

from tasks.audio.reference import AudioReference
from tasks.errors import BadInput


def refused(text: object) -> BadInput:
    with pytest.raises(BadInput) as caught:
        AudioReference.parse(text)
    return caught.value


def test_what_is_shown_has_no_query_no_fragment_and_no_credentials() -> None:
    reference = AudioReference.parse("https://me:pass%2Fword@Host.example:8443/a/call.mp3?sig=hush#part")
    assert reference.shown == "https://host.example:8443/a/call.mp3"
    assert reference.url == "https://host.example:8443/a/call.mp3?sig=hush"
    assert reference.authorization == "Basic bWU6cGFzcy93b3Jk"
    assert reference.origin == ("https", "host.example:8443")
    assert all(secret not in repr(reference) for secret in ("hush", "pass", "bWU6"))


@pytest.mark.parametrize("scheme", ["http", "https", "HTTPS"])
def test_web_addresses_are_supported_in_any_case(scheme: str) -> None:
    assert AudioReference.parse(f"{scheme}://host/a.wav").scheme == scheme.lower()


def test_a_user_name_without_a_password_is_a_credential_too() -> None:
    assert AudioReference.parse("https://me@host/a").authorization == "Basic bWU6"


def test_an_international_host_is_asked_for_in_ascii() -> None:
    assert AudioReference.parse("https://bücher.example/ä.mp3").url == "https://xn--bcher-kva.example/ä.mp3"


def test_an_ipv6_host_keeps_its_brackets() -> None:
    assert AudioReference.parse("http://[2001:db8::1]:80/a").url == "http://[2001:db8::1]:80/a"


@pytest.mark.parametrize("text", ["file:///srv/a%20b.wav", "file://localhost/srv/a%20b.wav", "FILE:/srv/a b.wav"])
def test_a_file_is_named_by_an_absolute_path(text: str) -> None:
    reference = AudioReference.parse(text)
    assert (reference.scheme, reference.path) == ("file", "/srv/a b.wav")
    assert reference.shown.startswith("file:///srv/a")


@pytest.mark.parametrize("scheme", ["s3", "oss", "data", "ftp", "javascript"])
def test_a_scheme_that_is_not_supported_is_named_and_nothing_else_is(scheme: str) -> None:
    error = refused(f"{scheme}:secret,body//key:word@bucket/x?sig=hush")
    assert error.code == "unsupported_scheme"
    assert f"{scheme}:" in error.sentence and "https:, http: and file:" in error.sentence
    assert all(word not in error.sentence for word in ("secret", "word", "hush", "bucket"))


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        b"https://host/a",
        "",
        "https://host/" + "a" * 8192,
        "https://host/a\nb",
        "https://host/a\x00",
        "https://host/\x85",
        "https://host/\udc80",
        "call.mp3",
        "/srv/call.mp3",
        "//host/a",
        "https:///a",
        "https://",
        "https://host:port/a",
        "https://host:99999/a",
        "https://[::1/a",
        "https://" + "ü" * 70 + "/a",
        "file://server/share/a",
        "file:a.wav",
        "file:",
        "file:///a?b",
        "file:///a#b",
        "file:///a%00b",
    ],
)
def test_what_is_no_reference_is_refused_as_such(text: object) -> None:
    assert refused(text).code == "invalid_reference"


@pytest.mark.parametrize(
    "text", ["https://me:hush@host:x/a?hush", "hush", "//me:hush@host", "file:///a?hush", "https://host/a\n?hush"]
)
def test_a_refusal_repeats_no_secret(text: str) -> None:
    assert "hush" not in refused(text).sentence


def test_the_longest_allowed_reference_is_allowed() -> None:
    assert len(AudioReference.parse("https://host/" + "a" * (8192 - 13)).url) == 8192
