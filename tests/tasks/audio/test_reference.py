import pytest

from config.logs import redacted
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


@pytest.mark.parametrize("scheme", ["ftp", "gs", "javascript"])
def test_a_scheme_that_is_not_supported_is_named_and_nothing_else_is(scheme: str) -> None:
    error = refused(f"{scheme}:secret,body//key:word@bucket/x?sig=hush")
    assert error.code == "unsupported_scheme"
    assert f"{scheme}:" in error.sentence and "https:, http:, s3:, oss:, file: and data:" in error.sentence
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
        "data:",
        "data:audio/wav;base64",
        "s3:bucket/key",
        "s3://",
        "s3://bucket",
        "s3://bucket/",
        "s3://bucket/folder/",
        "s3:///key",
        "s3://b/key",
        "s3://-bucket/key",
        "s3://key:word@bucket/key",
        "s3://bucket:80/key",
        "s3://arn:aws:s3:us-west-2:1:accesspoint/a/key",
        "s3://bucket/../key",
        "s3://bucket/a/./key",
        "oss://bucket/" + "ü" * 513,
    ],
)
def test_what_is_no_reference_is_refused_as_such(text: object) -> None:
    assert refused(text).code == "invalid_reference"


@pytest.mark.parametrize(
    "text",
    [
        "https://me:hush@host:x/a?hush",
        "hush",
        "//me:hush@host",
        "file:///a?hush",
        "https://host/a\n?hush",
        "s3://me:hush@bucket/key",
        "data:hush",
        "data:hush;base64,hush!",
    ],
)
def test_a_refusal_repeats_no_secret(text: str) -> None:
    assert "hush" not in refused(text).sentence


def test_the_longest_allowed_reference_is_allowed() -> None:
    assert len(AudioReference.parse("https://host/" + "a" * (8192 - 13)).url) == 8192


# -- in a store -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["s3", "oss", "S3"])
def test_an_object_is_named_by_its_bucket_and_its_key(scheme: str) -> None:
    reference = AudioReference.parse(f"{scheme}://my-bucket/calls/2026/a.mp3")
    assert (reference.scheme, reference.bucket, reference.key) == (scheme.lower(), "my-bucket", "calls/2026/a.mp3")
    assert reference.shown == f"{scheme.lower()}://my-bucket/calls/2026/a.mp3"


@pytest.mark.parametrize(
    "key", ["a b.wav", "a%20b.wav", "50%.wav", "/a//b.wav", "ü/语音.wav", "a+b&c=d;e@f:g", "..a/.b"]
)
def test_a_key_is_taken_as_it_stands(key: str) -> None:
    reference = AudioReference.parse(f"s3://bucket/{key}")
    assert (reference.key, reference.shown) == (key, f"s3://bucket/{key}")


@pytest.mark.parametrize("rest", ["?X-Amz-Signature=hush", "#hush", "?", "#a?b"])
def test_what_may_be_a_query_belongs_to_the_key_and_is_not_shown(rest: str) -> None:
    reference = AudioReference.parse(f"s3://bucket/a.wav{rest}")
    assert (reference.key, reference.shown) == (f"a.wav{rest}", "s3://bucket/a.wav…")
    assert "hush" not in repr(reference)


@pytest.mark.parametrize(("letters", "fits"), [(1024, True), (1025, False)])
def test_a_key_is_as_long_as_stores_allow(letters: int, fits: bool) -> None:
    text = "s3://bucket/" + "k" * letters
    if fits:
        assert len(AudioReference.parse(text).key) == letters
    else:
        assert refused(text).code == "invalid_reference"


# -- in the reference itself ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("data:audio/wav;base64,UklGRg==", b"RIFF"),
        ("DATA:audio/wav;codecs=1;BASE64,UklGRg", b"RIFF"),
        ("data:;base64,Uk%20lG%0ARg%3D%3D", b"RIFF"),
        ("data:,RI%46F", b"RIFF"),
        ("data:audio/wav,a,b%2Cc#part", b"a,b,c"),
        ("data:audio/wav;base64,", b""),
        ("data:;base64 ,UklGRg==", b"RIFF"),
    ],
)
def test_a_recording_may_come_with_its_reference(text: str, data: bytes) -> None:
    reference = AudioReference.parse(text)
    assert (reference.scheme, reference.data) == ("data", data)
    assert "RIFF" not in repr(reference)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("data:audio/wav;base64,UklGRg==", "data:audio/wav,…"),
        ("data:video/mp4;name=hush,x", "data:video/mp4,…"),
        ("data:,x", "data:…"),
        ("data:hush,x", "data:…"),
        ("data:audio/hu sh;base64,UklGRg==", "data:…"),
    ],
)
def test_of_its_own_bytes_a_reference_shows_none(text: str, shown: str) -> None:
    assert AudioReference.parse(text).shown == shown
    assert redacted(AudioReference.parse(text).shown) == "data:…"


@pytest.mark.parametrize("body", ["UklGR", "Ukl!Rg==", "UklG=Rg", "Ukl-Rg==", "ü"])
def test_base64_that_is_broken_is_said_to_be(body: str) -> None:
    error = refused(f"data:audio/wav;base64,{body}")
    assert error.code == "invalid_reference"
    assert error.sentence.endswith("the base64 of data:audio/wav,… is broken or cut off; encode the recording again.")


@pytest.mark.parametrize(("length", "fits"), [(4 * 1024 * 1024, True), (4 * 1024 * 1024 + 1, False)])
def test_a_recording_that_travels_through_redis_is_a_small_one(length: int, fits: bool) -> None:
    text = "data:," + "a" * (length - 6)
    if fits:
        assert len(AudioReference.parse(text).data) == length - 6
    else:
        error = refused(text)
        assert (error.code, "at most 4194304 are allowed" in error.sentence) == ("invalid_reference", True)
