from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from config.__main__ import table
from config.settings import GROUPS, Settings, SettingsError, settings, unknown

Given = Callable[..., Settings]
DOCS = Path(__file__).parents[2] / "docs" / "settings.md"


def test_without_any_variable_the_defaults_hold(given: Given) -> None:
    found = given()
    assert found.redis.url == "redis://127.0.0.1:6379/0"
    assert found.upstream.url == "wss://dashscope.aliyuncs.com/api-ws/v1/inference"
    assert (found.pool.size, found.pool.connections, found.pool.idle_time) == (None, None, 50.0)
    assert (found.audio.roots, found.audio.allow_private) == ((), False)
    assert found.upstream.key() is None
    assert (found.upstream.quiet, found.upstream.pong) == (20.0, 10.0)
    assert (found.redis.visibility_timeout, found.redis.patience) == (30, 900.0)
    job = found.job
    assert (job.deadline, job.lease, job.stall, job.drain) == (86_400.0, 15.0, 120.0, 30.0)
    assert (job.retries, job.backoff, job.backoff_max) == (5, 2.0, 120.0)
    quota = found.quota
    assert (quota.account, quota.accounts_file, quota.tenants) == ("default", None, {})
    assert (quota.streams, quota.starts_per_second, quota.opens_per_second) == (None, 20.0, None)
    assert quota.patience == 5.0


def test_an_empty_variable_counts_as_not_given(given: Given) -> None:
    assert given(DASHSCOPE_API_KEY="", RECOGNITION_OBJECTPOOL_SIZE="").upstream.key() is None


def test_a_dot_env_file_is_read_and_the_environment_wins(given: Given, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("RECOGNITION_OBJECTPOOL_SIZE=3\nDASHSCOPE_CONNECTION_TIMEOUT=7\nUNRELATED=1\n")
    found = given(RECOGNITION_OBJECTPOOL_SIZE="4")
    assert (found.pool.size, found.upstream.connect_timeout) == (4, 7.0)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("RECOGNITION_OBJECTPOOL_SIZE", "many", "a whole number from 1 to 10000"),
        ("RECOGNITION_OBJECTPOOL_SIZE", "0", "a whole number from 1 to 10000"),
        ("DASHSCOPE_CONNECTION_TIMEOUT", "-1", "seconds, more than 0"),
        ("DASHSCOPE_CONNECTION_IDLE_TIME", "60", "less than 60"),
        ("STENOPOOL_POOL_UNUSED_TIME", "60", "less than 60"),
        ("STENOPOOL_POOL_OPENS_PER_SECOND", "0", "a number from 0.1 to 1000"),
        ("STENOPOOL_POOL_OPENS_PER_SECOND", "nan", "a number from 0.1 to 1000"),
        ("STENOPOOL_POOL_WARM_SPREAD", "inf", "seconds, from 0 to 60"),
        ("DASHSCOPE_WEBSOCKET_BASE_URL", "https://host", "a ws:// or wss:// address"),
        ("DASHSCOPE_WEBSOCKET_BASE_URL", "wss://host:99999999/x", "a ws:// or wss:// address"),
        ("DASHSCOPE_READ_TIMEOUT", "inf", "seconds, more than 0"),
        ("STENOPOOL_AUDIO_ALLOW_PRIVATE", "perhaps", "true or false"),
        ("STENOPOOL_AUDIO_ROOTS", "/no/such/folder", "absolute folders"),
        ("STENOPOOL_AUDIO_ROOTS", "relative", "absolute folders"),
        ("DASHSCOPE_API_KEY_FILE_PATH", "/no/such/file", "a readable file"),
        ("STENOPOOL_UPSTREAM_QUIET", "0", "seconds, more than 0"),
        ("STENOPOOL_UPSTREAM_PONG", "0", "seconds, more than 0"),
        ("STENOPOOL_UPSTREAM_PONG", "inf", "seconds, more than 0"),
        ("STENOPOOL_VISIBILITY_TIMEOUT", "4", "whole seconds, at least 5"),
        ("STENOPOOL_VISIBILITY_TIMEOUT", "5.5", "whole seconds, at least 5"),
        ("STENOPOOL_REDIS_PATIENCE", "0", "seconds, more than 0"),
        ("STENOPOOL_JOB_STALL", "0", "seconds, more than 0"),
        ("STENOPOOL_JOB_STALL", "nan", "seconds, more than 0"),
        ("STENOPOOL_LEASE_SECONDS", "nan", "seconds, from 2 to 300"),
        ("STENOPOOL_DRAIN_SECONDS", "soon", "seconds, from 2 to 3600"),
        ("STENOPOOL_JOB_RETRIES", "-1", "a whole number from 0 to 100"),
        ("STENOPOOL_ACCOUNT", "No Name", "up to 40 of a-z, 0-9, - and _"),
        ("STENOPOOL_ACCOUNT", "x" * 41, "up to 40 of a-z, 0-9, - and _"),
        ("STENOPOOL_QUOTA_STREAMS", "0", "a whole number from 1 to 1000000"),
        ("STENOPOOL_QUOTA_STREAMS", "2.5", "a whole number from 1 to 1000000"),
        ("STENOPOOL_QUOTA_STARTS_PER_SECOND", "0", "a number from 0.1 to 10000"),
        ("STENOPOOL_QUOTA_STARTS_PER_SECOND", "nan", "a number from 0.1 to 10000"),
        ("STENOPOOL_QUOTA_OPENS_PER_SECOND", "inf", "a number from 0.1 to 10000"),
        ("STENOPOOL_QUOTA_PATIENCE", "0", "seconds, from 0.1 to 300"),
        ("STENOPOOL_QUOTA_PATIENCE", "301", "seconds, from 0.1 to 300"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(given: Given, name: str, value: str, allowed: str) -> None:
    with pytest.raises(SettingsError) as error:
        given(**{name: value})
    assert f"{name}={value}" in str(error.value) and allowed in str(error.value)


def test_every_wrong_value_is_named_at_once(given: Given) -> None:
    with pytest.raises(SettingsError) as error:
        given(RECOGNITION_OBJECTPOOL_SIZE="x", STENOPOOL_JOB_TTL="y")
    assert [line.split("=")[0] for line in str(error.value).splitlines()] == [
        "RECOGNITION_OBJECTPOOL_SIZE",
        "STENOPOOL_JOB_TTL",
    ]


@pytest.mark.parametrize("name", ["STENOPOOL_LEASE_SECONDS", "STENOPOOL_DRAIN_SECONDS"])
def test_a_time_has_both_its_bounds(given: Given, name: str) -> None:
    most = {"STENOPOOL_LEASE_SECONDS": "300", "STENOPOOL_DRAIN_SECONDS": "3600"}[name]
    assert given(**{name: "2"}) and given(**{name: most})
    for beyond in ("1.9", f"{most}.1"):
        with pytest.raises(SettingsError, match=f"{name}={beyond} is not valid.*Allowed: seconds, from 2 to {most}"):
            given(**{name: beyond})


def test_a_job_may_last_longer_than_its_message_is_left_without_a_sign(given: Given) -> None:
    found = given(STENOPOOL_JOB_DEADLINE="3600", STENOPOOL_VISIBILITY_TIMEOUT="5")
    assert (found.job.deadline, found.redis.visibility_timeout) == (3600.0, 5)


def test_secrets_are_in_no_representation_and_no_sentence(given: Given) -> None:
    found = given(DASHSCOPE_API_KEY="sk-secret", STENOPOOL_REDIS_URL="redis://:sk-secret@host/0")
    assert "sk-secret" not in repr(found)
    assert found.upstream.key() == "sk-secret"
    with pytest.raises(SettingsError) as error:
        given(STENOPOOL_REDIS_URL="host:sk-secret")
    assert "sk-secret" not in str(error.value)
    for url in ("redis://host:abc/0", "redis://host/notanumber", "redis:///0"):
        with pytest.raises(SettingsError, match="STENOPOOL_REDIS_URL is not valid"):
            given(STENOPOOL_REDIS_URL=url)


def test_the_key_can_lie_in_a_file(given: Given, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-file\n")
    assert given(DASHSCOPE_API_KEY_FILE_PATH=str(tmp_path / "key")).upstream.key() == "sk-file"
    assert given(DASHSCOPE_API_KEY="sk-variable").upstream.key() == "sk-variable"


def test_roots_are_split_and_resolved(given: Given, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to(tmp_path / "a")
    found = given(STENOPOOL_AUDIO_ROOTS=f"{tmp_path / 'a'}:{tmp_path / 'b'}")
    assert found.audio.roots == (tmp_path / "a", tmp_path / "a")


def test_settings_are_frozen_and_read_once(given: Given) -> None:
    found = given()
    with pytest.raises(ValidationError):
        found.pool.size = 3  # type: ignore[misc]
    assert settings() is settings()


def test_the_table_in_the_docs_is_the_code_s() -> None:
    assert table() in DOCS.read_text(encoding="utf-8"), "write it again: python -m config"


def test_a_variable_that_looks_like_ours_and_is_not_is_named(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    given(STENOPOOL_JOB_TTL="100")
    monkeypatch.setenv("STENOPOOL_JBO_TTL", "1")
    Path(".env").write_text("STENOPOOL_JOB_TLT=1\n")
    assert unknown() == ["STENOPOOL_JBO_TTL", "STENOPOOL_JOB_TLT"]


@pytest.mark.parametrize("content", [b"", b"two words", b"\xff\xfe", "kéy".encode(), b"a\nb"])
def test_a_key_that_no_request_can_carry_is_refused_and_not_quoted(
    given: Given, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(SettingsError, match="DASHSCOPE_API_KEY_FILE_PATH=.*is not valid") as error:
        given(DASHSCOPE_API_KEY_FILE_PATH=str(tmp_path / "key"))
    assert "two words" not in str(error.value) and "xff" not in str(error.value)


def test_a_folder_is_no_key_file(given: Given, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such readable file"):
        given(DASHSCOPE_API_KEY_FILE_PATH=str(tmp_path))


def test_a_dot_env_file_that_is_no_text_is_said(given: Given, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"DASHSCOPE_API_KEY=\xff\n")
    with pytest.raises(SettingsError, match=".env in the working folder is not UTF-8"):
        given()


def test_every_variable_is_the_vendor_s_or_ours() -> None:
    names = [str(field.validation_alias) for group in GROUPS.values() for field in group.model_fields.values()]
    assert len(names) == len(set(names))
    beginnings = ("DASHSCOPE_", "OSS_", "RECOGNITION_OBJECTPOOL_SIZE", "STENOPOOL_")
    assert all(name.startswith(beginnings) for name in names)


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [
        ("RECOGNITION_OBJECTPOOL_SIZE", "DASHSCOPE_CONNECTION_POOL_SIZE"),
        ("DASHSCOPE_MAXIMUM_ASYNC_REQUESTS", "DASHSCOPE_CONNECTION_POOL_SIZE"),
        ("DASHSCOPE_MAXIMUM_ASYNC_REQUESTS_PER_HOST", "DASHSCOPE_MAXIMUM_ASYNC_REQUESTS"),
        ("DASHSCOPE_MAXIMUM_ASYNC_REQUESTS", "RECOGNITION_OBJECTPOOL_SIZE"),
        ("DASHSCOPE_MAXIMUM_ASYNC_REQUESTS_PER_HOST", "RECOGNITION_OBJECTPOOL_SIZE"),
        ("DASHSCOPE_MAXIMUM_ASYNC_REQUESTS_PER_HOST", "DASHSCOPE_CONNECTION_POOL_SIZE"),
    ],
)
def test_the_guides_constraints_say_which_value_to_change(given: Given, smaller: str, larger: str) -> None:
    assert given(**{smaller: "2", larger: "2"})
    with pytest.raises(SettingsError) as error:
        given(**{smaller: "3", larger: "2"})
    assert str(error.value) == f"{smaller}=3 must not be above {larger}=2; raise the second or lower the first"


@pytest.mark.parametrize(
    ("in_all", "per_host", "most"), [(None, None, None), ("5", None, 5), (None, "4", 4), ("5", "4", 4)]
)
def test_the_smaller_of_the_two_limits_of_streams_counts(
    given: Given, in_all: str | None, per_host: str | None, most: int | None
) -> None:
    names = ("DASHSCOPE_MAXIMUM_ASYNC_REQUESTS", "DASHSCOPE_MAXIMUM_ASYNC_REQUESTS_PER_HOST")
    given_values = {name: value for name, value in zip(names, (in_all, per_host), strict=True) if value}
    assert given(**given_values).pool.most_streams == most
