import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler as Request
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from config.storage import OssSettings
from tasks.audio import open_audio
from tasks.audio.limits import AudioLimits
from tasks.audio.reference import AudioReference
from tasks.audio.remote import RemoteFile
from tasks.audio.sources import open_source
from tasks.errors import BadInput, JobError, Unavailable
from tests.tasks.audio.signatures import SECRET, oss_takes, s3_takes
from tests.tasks.audio.test_remote import BODY, cutting, drained, headers, plain, ranged
from worker.http import HttpPool
from worker.objects import ObjectStores, Unsigned

AWKWARD = "2026/a b?c#d%20ü+~&=;@(1)'.wav"


class Bucket:
    """A store that holds one recording, and looks at each signature."""

    def __init__(self, takes: Callable[[Request], bool], body: bytes = BODY) -> None:
        self._takes, self._answer = takes, ranged(body)

    def __call__(self, request: Request) -> None:
        if self._takes(request):
            self._answer(request)
        else:
            headers(request, 403, Content_Length=0)


def s3(now: datetime | None = None, body: bytes = BODY) -> Bucket:
    return Bucket(lambda request: s3_takes(request.path, request.headers["Host"], now), body)


def oss(now: datetime | None = None, body: bytes = BODY) -> Bucket:
    return Bucket(lambda request: oss_takes(request.path, "calls", now), body)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], ObjectStores]:
    """The ways into stores that answer at this address."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def stores(url: str, secret: str = SECRET) -> ObjectStores:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AK")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        given = {"access_key_id": "AK", "access_key_secret": SecretStr(secret), "region": "cn-hangzhou"}
        return ObjectStores(OssSettings().model_copy(update=given | {"endpoint": url}))

    return stores


def source(text: str, http: HttpPool, stores: ObjectStores, limits: AudioLimits | None = None) -> Any:
    return open_source(AudioReference.parse(text), roots=(), http=http, stores=stores, limits=limits)


def failure(text: str, http: HttpPool, stores: ObjectStores) -> JobError:
    with pytest.raises(JobError) as caught, source(text, http, stores) as file:
        drained(file)
    assert caught.value.__cause__ is None and "Signature" not in str(caught.value)
    return caught.value


STORES = pytest.mark.parametrize(("scheme", "bucket"), [("s3", s3), ("oss", oss)])


@STORES
@pytest.mark.parametrize("key", ["a.wav", AWKWARD])
def test_an_object_is_read_like_any_address(
    serve: Any, http: HttpPool, at: Any, scheme: str, bucket: Any, key: str
) -> None:
    server = serve(bucket())
    with source(f"{scheme}://calls/{key}", http, at(server.url)) as file:
        assert (file.size, file.seekable(), drained(file)) == (len(BODY), True, BODY)
        assert file.shown == f"{scheme}://calls/{key.split('?')[0]}" + ("…" if "?" in key else "")
        file.seek(-10, io.SEEK_END)
        assert drained(file) == BODY[-10:]
    assert [sent["Range"] for _, sent in server.requests] == ["bytes=0-", f"bytes={len(BODY) - 10}-"]


@STORES
def test_a_wrong_key_is_refused_by_the_store(serve: Any, http: HttpPool, at: Any, scheme: str, bucket: Any) -> None:
    error = failure(f"{scheme}://calls/a.wav", http, at(serve(bucket()).url, secret="another"))
    assert (type(error), error.code) == (BadInput, "audio_forbidden")
    assert f"{scheme}://calls/a.wav" in error.sentence and "rights, region and endpoint" in error.sentence


@STORES
def test_an_address_is_good_for_a_while_and_no_longer(
    serve: Any, http: HttpPool, at: Any, scheme: str, bucket: Any
) -> None:
    soon, later = (datetime.now(UTC) + timedelta(seconds=seconds) for seconds in (800, 1000))
    with source(f"{scheme}://calls/a", http, at(serve(bucket(soon)).url)) as file:
        assert file.read(10)
    assert failure(f"{scheme}://calls/a", http, at(serve(bucket(later)).url)).code == "audio_forbidden"


@pytest.mark.parametrize(
    ("status", "code"), [(404, "audio_not_found"), (400, "audio_refused"), (503, "audio_server_error")]
)
def test_what_a_store_answers_is_said_of_the_reference(
    serve: Any, http: HttpPool, at: Any, status: int, code: str
) -> None:
    error = failure("s3://calls/a.wav", http, at(serve(plain(b"", status)).url))
    assert error.code == code and "s3://calls/a.wav" in error.sentence


def test_a_recording_is_opened_out_of_a_store(make: Any, serve: Any, http: HttpPool, at: Any) -> None:
    pcm = make.counter(100_000)
    stores = at(serve(s3(body=make.wav(pcm=pcm))).url)
    with open_audio(AudioReference.parse("s3://calls/a.wav"), rate=16000, roots=(), http=http, stores=stores) as heard:
        assert b"".join(heard.blocks()) == pcm


def test_a_store_on_a_private_network_is_closed_like_any_other_place(serve: Any, at: Any) -> None:
    server = serve(s3())
    error = failure("s3://calls/a", HttpPool(), at(server.url))
    assert (error.code, "STENOPOOL_AUDIO_ALLOW_PRIVATE=true" in error.sentence) == ("forbidden_address", True)
    assert server.requests == []


def test_without_credentials_a_sentence_says_what_to_set(http: HttpPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OSS_ACCESS_KEY_ID", raising=False)
    error = failure("oss://calls/a", http, ObjectStores(OssSettings()))
    assert (type(error), error.code) == (BadInput, "missing_credentials")
    assert "oss://calls/a" in error.sentence and "STENOPOOL_OSS_REGION" in error.sentence


def test_without_the_extra_a_sentence_says_what_to_install(
    http: HttpPool, at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "alibabacloud_oss_v2", None)
    error = failure("oss://calls/a", http, at("http://127.0.0.1:1"))
    assert (error.code, "install stenopool[oss]" in error.sentence) == ("unsupported_scheme", True)


def test_a_bucket_that_cannot_be_is_said_to_be_one(http: HttpPool, at: Any) -> None:
    error = failure("oss://Calls_1/a", http, at("http://127.0.0.1:1"))
    assert (type(error), error.code) == (BadInput, "unsigned_address")


def test_credentials_that_are_late_are_worth_another_try(http: HttpPool) -> None:
    class Late(ObjectStores):
        def signed(self, scheme: str, bucket: str, key: str) -> str:
            raise Unsigned("MetadataRetrievalError", True)

    error = failure("s3://calls/a", http, Late())
    assert (type(error), error.code) == (Unavailable, "credentials_unavailable")
    assert "MetadataRetrievalError" in error.sentence


# -- what runs out -------------------------------------------------------------------------------------------------


def test_each_request_is_signed_anew(serve: Any, http: HttpPool) -> None:
    answer = ranged()

    def once(request: Request) -> None:
        """Each address is good once."""
        used = [path for path, _ in server.requests[:-1]]
        headers(request, 403, Content_Length=0) if request.path in used else answer(request)

    server = serve(once)

    def sign() -> AudioReference:
        return AudioReference.parse(f"{server.url}/a?Signature={len(server.requests)}")

    file = RemoteFile(AudioReference.parse("s3://calls/a"), http, AudioLimits(), sign)
    file.seek(500_000)
    assert file.read(10) == BODY[500_000:500_010]
    file.seek(0)
    assert drained(file) == BODY
    file.close()
    assert [path for path, _ in server.requests] == [f"/a?Signature={n}" for n in range(3)]


def test_a_cut_is_continued_with_a_new_signature(serve: Any, http: HttpPool) -> None:
    server = serve(cutting(400_000))
    signed: list[str] = []

    def sign() -> AudioReference:
        signed.append(f"{server.url}/a?Signature={len(signed)}")
        return AudioReference.parse(signed[-1])

    file = RemoteFile(AudioReference.parse("s3://calls/a"), http, AudioLimits(), sign)
    assert drained(file) == BODY
    file.close()
    assert [server.url + path for path, _ in server.requests] == signed and len(signed) > 2


def test_a_redirect_to_an_address_that_has_run_out_is_asked_for_anew(serve: Any, http: HttpPool) -> None:
    answer = ranged()

    def store(request: Request) -> None:
        if request.path == "/a":
            return headers(request, 302, Location=f"/signed?{len(server.requests)}", Content_Length=0)
        gone = request.path == "/signed?1" and len(server.requests) > 2
        headers(request, 403, Content_Length=0) if gone else answer(request)

    server = serve(store)
    with open_source(AudioReference.parse(f"{server.url}/a"), roots=(), http=http) as file:
        for place in (600_000, 0):
            file.seek(place)
            assert file.read(10) == BODY[place : place + 10]
    paths = [path for path, _ in server.requests]
    assert paths == ["/a", "/signed?1", "/signed?1", "/a", "/signed?4", "/signed?4"]


@pytest.mark.parametrize("location", ["s3://calls/secret.wav", "oss://calls/secret.wav", "data:audio/wav,hush"])
def test_no_redirect_leads_into_a_store(serve: Any, http: HttpPool, at: Any, location: str) -> None:
    server = serve(lambda request: headers(request, 302, Location=location, Content_Length=0))
    with pytest.raises(BadInput) as caught, source(f"{server.url}/a", http, at(server.url)):
        raise AssertionError("opened")
    assert caught.value.code == "forbidden_redirect"
    assert len(server.requests) == 1
