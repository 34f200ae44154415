import logging
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr

from config.storage import OssSettings
from worker.objects import LIBRARIES, NoCredentials, NotInstalled, ObjectStores, Unsigned, is_installed


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """An environment with these variables of AWS's and no other."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    names = "ACCESS_KEY_ID SECRET_ACCESS_KEY SESSION_TOKEN PROFILE DEFAULT_REGION ENDPOINT_URL ENDPOINT_URL_S3"
    for name in names.split():
        monkeypatch.delenv(f"AWS_{name}", raising=False)

    def given(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(f"AWS_{name}", value)

    return given


KEY = {"ACCESS_KEY_ID": "AK", "SECRET_ACCESS_KEY": "hush"}


def oss(**changes: Any) -> OssSettings:
    given = {"access_key_id": "AK", "access_key_secret": SecretStr("hush"), "region": "cn-hangzhou"}
    return OssSettings().model_copy(update=given | changes)


def test_an_address_in_s3_names_bucket_region_and_a_short_time(aws: Callable[..., None]) -> None:
    aws(**KEY, DEFAULT_REGION="eu-west-1", SESSION_TOKEN="token")
    parts = urlsplit(ObjectStores().signed("s3", "calls", "2026/a b.mp3"))
    query = parse_qs(parts.query)
    assert (parts.scheme, parts.netloc, parts.path) == ("https", "calls.s3.amazonaws.com", "/2026/a%20b.mp3")
    assert (query["X-Amz-Expires"], query["X-Amz-Algorithm"]) == (["900"], ["AWS4-HMAC-SHA256"])
    assert "/eu-west-1/s3/aws4_request" in query["X-Amz-Credential"][0]
    assert query["X-Amz-Security-Token"] == ["token"]


def test_a_store_of_ones_own_is_named_as_aws_tools_are_told(aws: Callable[..., None]) -> None:
    aws(**KEY, ENDPOINT_URL_S3="http://minio.local:9000")
    assert ObjectStores().signed("s3", "calls", "a").startswith("http://minio.local:9000/calls/a?")


@pytest.mark.parametrize(
    ("endpoint", "begins"),
    [
        (None, "https://calls.oss-cn-hangzhou.aliyuncs.com/a%20b?"),
        ("https://oss-cn-hangzhou-internal.aliyuncs.com", "https://calls.oss-cn-hangzhou-internal.aliyuncs.com/a%20b?"),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000/calls/a%20b?"),
    ],
)
def test_an_address_in_oss_is_of_its_region_or_endpoint(endpoint: str | None, begins: str) -> None:
    url = ObjectStores(oss(endpoint=endpoint)).signed("oss", "calls", "a b")
    assert url.startswith(begins) and "x-oss-signature-version=OSS4-HMAC-SHA256" in url
    assert 895 <= int(parse_qs(urlsplit(url).query)["x-oss-expires"][0]) <= 900


def test_a_temporary_key_brings_its_token() -> None:
    assert "x-oss-security-token=token" in ObjectStores(oss(session_token=SecretStr("token"))).signed("oss", "bkt", "a")


@pytest.mark.parametrize("missing", ["access_key_id", "access_key_secret", "region"])
def test_oss_needs_a_key_and_a_region(missing: str) -> None:
    with pytest.raises(NoCredentials):
        ObjectStores(oss(**{missing: None})).signed("oss", "calls", "a")


def test_s3_needs_credentials_and_takes_them_when_they_have_come(aws: Callable[..., None]) -> None:
    stores = ObjectStores()
    aws()
    with pytest.raises(NoCredentials):
        stores.signed("s3", "calls", "a")
    aws(**KEY)
    assert "X-Amz-Signature=" in stores.signed("s3", "calls", "a")


@pytest.mark.parametrize(
    ("variables", "kind"),
    [
        ({"PROFILE": "nobody"}, "ProfileNotFound"),
        ({"ACCESS_KEY_ID": "AK"}, "PartialCredentialsError"),
        (KEY | {"ENDPOINT_URL_S3": "nonsense"}, "ValueError"),
    ],
)
def test_an_environment_that_is_wrong_is_told_by_its_kind(
    aws: Callable[..., None], variables: dict[str, str], kind: str
) -> None:
    aws(**variables)
    with pytest.raises(Unsigned) as caught:
        ObjectStores().signed("s3", "calls", "a")
    assert (caught.value.kind, caught.value.passes) == (kind, False)


def test_a_bucket_that_the_library_does_not_take(aws: Callable[..., None]) -> None:
    aws(**KEY)
    for stores, scheme, bucket in ((ObjectStores(oss()), "oss", "Calls"), (ObjectStores(), "s3", "no/bucket")):
        with pytest.raises(Unsigned) as caught:
            stores.signed(scheme, bucket, "a")
        assert not caught.value.passes


def test_credentials_that_cannot_be_had_just_now_may_come_later(aws: Callable[..., None], tmp_path: Path) -> None:
    aws()
    (tmp_path / "AWS_CONFIG_FILE").write_text("[default]\ncredential_process = false\n")
    with pytest.raises(Unsigned) as caught:
        ObjectStores().signed("s3", "calls", "a")
    assert caught.value.passes


@pytest.mark.parametrize(("scheme", "library"), LIBRARIES.items())
def test_a_library_that_is_not_there(monkeypatch: pytest.MonkeyPatch, scheme: str, library: str) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(NotInstalled):
        ObjectStores(oss()).signed(scheme, "calls", "a")


def test_what_is_installed_is_found_without_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_installed("s3") and is_installed("oss")
    monkeypatch.setitem(LIBRARIES, "s3", "no_such_library")
    assert not is_installed("s3")


def test_the_libraries_are_imported_when_they_are_used() -> None:
    code = "import sys, tasks.audio; from worker.objects import ObjectStores; ObjectStores(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert not {"botocore", "alibabacloud_oss_v2", "requests"} & set(done.stdout.split()) and done.stdout


def test_many_threads_share_one_client(aws: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    aws(**KEY, SESSION_TOKEN="token")
    stores = ObjectStores()
    make, made = stores._makers["s3"], []
    stores._makers["s3"] = lambda: made.append(1) or make()  # type: ignore[func-returns-value]
    signed: list[str] = []
    with caplog.at_level(logging.DEBUG):
        crowd = [
            threading.Thread(target=lambda n=n: signed.append(stores.signed("s3", "calls", f"{n}"))) for n in range(8)
        ]
        for one in crowd:
            one.start()
        for one in crowd:
            one.join(30)
    assert sorted(urlsplit(url).path for url in signed) == [f"/{n}" for n in range(8)]
    assert made == [1]
    assert all(secret not in caplog.text for secret in ("hush", "token", "Signature", "AK/"))


def test_what_goes_wrong_crosses_processes() -> None:
    error = pickle.loads(pickle.dumps(Unsigned("ProfileNotFound", False)))
    assert (error.kind, error.passes) == ("ProfileNotFound", False)


@pytest.mark.parametrize("settings", [{}, {"access_key_secret": SecretStr("hush")}])
def test_the_key_is_not_shown(settings: dict[str, Any]) -> None:
    assert "hush" not in repr(oss(**settings))
