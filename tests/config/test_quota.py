from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from config.quota import AccountSettings
from config.settings import Settings, SettingsError

Given = Callable[..., Settings]


@pytest.fixture
def listed(given: Given, tmp_path: Path) -> Given:
    """Loads the settings with an accounts file of this text."""

    def loaded(text: str | bytes, **variables: str) -> Settings:
        path = tmp_path / "accounts.toml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return given(STENOPOOL_ACCOUNTS_FILE=str(path), **variables)

    return loaded


def keys(settings: Settings) -> dict[str, str]:
    """Of all accounts, by name, in order."""
    return {account.name: account.api_key.get_secret_value() for account in settings.accounts()}


# -- the quota ---------------------------------------------------------------------------------------------------------


def test_what_the_service_allows_can_be_said(given: Given) -> None:
    quota = given(
        STENOPOOL_QUOTA_STREAMS="200",
        STENOPOOL_QUOTA_STARTS_PER_SECOND="0.5",
        STENOPOOL_QUOTA_OPENS_PER_SECOND="100",
        STENOPOOL_QUOTA_PATIENCE="0.1",
    ).quota
    assert (quota.streams, quota.starts_per_second, quota.opens_per_second, quota.patience) == (200, 0.5, 100.0, 0.1)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("acme=3", {"acme": 3.0}),
        ("acme=3,globex=0.01", {"acme": 3.0, "globex": 0.01}),
        (" acme = 3 , globex=1000 ,", {"acme": 3.0, "globex": 1000.0}),
        ("Ünit 7=1e2", {"Ünit 7": 100.0}),
    ],
)
def test_tenants_have_weights(given: Given, text: str, found: dict[str, float]) -> None:
    assert given(STENOPOOL_QUOTA_TENANTS=text).quota.tenants == found


@pytest.mark.parametrize(
    "text",
    ["acme", "acme=", "=3", "acme=x", "acme=0", "acme=-1", "acme=nan", "acme=inf", "acme=1001", "acme=1=2", "{}"],
)
@pytest.mark.parametrize("others", ["", "globex=1,"])
def test_a_weight_that_cannot_be_is_named(given: Given, text: str, others: str) -> None:
    with pytest.raises(SettingsError) as error:
        given(STENOPOOL_QUOTA_TENANTS=others + text)
    said = str(error.value)
    assert said.startswith("STENOPOOL_QUOTA_TENANTS=") and f"{text!r} is no name and weight" in said
    assert "Allowed: pairs such as `acme=3,globex=1`, with weights from 0.01 to 1000." in said


# -- the accounts ------------------------------------------------------------------------------------------------------


def test_without_a_file_there_is_the_vendor_s_own_account(given: Given) -> None:
    (account,) = given(DASHSCOPE_API_KEY="sk-own", DASHSCOPE_WORKSPACE_ID="w").accounts()
    assert account == AccountSettings(name="default", api_key=SecretStr("sk-own"), workspace_id="w")
    assert keys(given(STENOPOOL_ACCOUNT="first")) == {"first": "sk-own"}


def test_it_is_there_without_a_key_too_so_that_a_job_can_say_what_is_missing(given: Given) -> None:
    assert keys(given()) == {"default": ""}


def test_it_comes_first_and_those_of_the_file_in_their_order(listed: Given) -> None:
    text = """
        [second]
        api_key = "sk-second"

        [a-third_1]
        api_key = "sk-third"
        url = "wss://host.example/api-ws/v1/inference"
        workspace_id = "w"
        streams = 50
        starts_per_second = 5
        opens_per_second = 2.5
        models = ["paraformer-*", "fun-asr-realtime"]
    """
    found = listed(text, DASHSCOPE_API_KEY="sk-own")
    assert keys(found) == {"default": "sk-own", "second": "sk-second", "a-third_1": "sk-third"}
    _, second, third = found.accounts()
    assert (second.url, second.workspace_id, second.models) == (None, None, ("*",))
    assert (second.streams, second.starts_per_second, second.opens_per_second) == (None, None, None)
    assert (third.url, third.workspace_id) == ("wss://host.example/api-ws/v1/inference", "w")
    assert (third.streams, third.starts_per_second, third.opens_per_second) == (50, 5.0, 2.5)
    assert third.models == ("paraformer-*", "fun-asr-realtime")


def test_those_of_the_file_are_all_if_the_vendor_s_own_key_is_not_given(listed: Given) -> None:
    assert keys(listed('[a]\napi_key = "sk-a"\n[b]\napi_key = "sk-b"\n')) == {"a": "sk-a", "b": "sk-b"}


@pytest.mark.parametrize("text", ["", "# none yet\n"])
def test_a_file_may_have_none(listed: Given, text: str) -> None:
    assert keys(listed(text)) == {"default": ""}


@pytest.mark.parametrize(
    ("patterns", "model", "offered"),
    [
        (("*",), "paraformer-realtime-v2", True),
        (("paraformer-*", "fun-asr"), "paraformer-realtime-v2", True),
        (("paraformer-*", "fun-asr"), "fun-asr", True),
        (("paraformer-*", "fun-asr"), "fun-asr-realtime", False),
        (("paraformer-*",), "Paraformer-v2", False),
    ],
)
def test_an_account_offers_the_models_that_it_names(patterns: tuple[str, ...], model: str, offered: bool) -> None:
    assert AccountSettings(name="a", api_key=SecretStr("k"), models=patterns).offers(model) is offered


def test_a_key_may_lie_in_a_file_of_its_own_beside_the_accounts_file(
    listed: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "a").write_text("sk-a\n")
    (tmp_path / "b").write_text("sk-b")
    (tmp_path / "elsewhere").mkdir()
    text = f'[a]\napi_key_file = "keys/a"\n[b]\napi_key_file = "{tmp_path}/b"\n'
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert keys(listed(text)) == {"a": "sk-a", "b": "sk-b"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a", "is not TOML (at end of document)"),
        ("[a\n", "is not TOML (at line 1, column 3)"),
        ("[a]\napi_key = sk-secret\n", "is not TOML (at line 2, column 11)"),
        ('[a]\napi_key = "sk-secret\n', "is not TOML (at line 2, column 21)"),
        ('[a]\napi_key = "sk-secret"\n[a]\napi_key = "sk-secret"\n', "is not TOML (at line 3, column 3)"),
        (b'[a]\napi_key = "sk-secret\xff"\n', "is not TOML ("),
        ('api_key = "sk-secret"\n', ": 'api_key' is not the name of a table: up to 40 of a-z, 0-9, - and _"),
        ('[A]\napi_key = "sk-secret"\n', ": a table's name is not up to 40 of a-z, 0-9, - and _"),
        ('["a b"]\napi_key = "sk-secret"\n', ": a table's name is not up to 40 of a-z, 0-9, - and _"),
        ('[-a]\napi_key = "sk-secret"\n', ": '-a' is not the name of a table"),
        ('sk-secret = "a"\n', ": a table's name is not"),
        ('[sk-secret]\napi_key = "sk-secret"\n', "or begins as a key does"),
        ('"Key/secret" = "a"\n', ": a table's name is not"),
        (f'[{"x" * 41}]\napi_key = "sk-secret"\n', ": a table's name is not"),
        ('[[a]]\napi_key = "sk-secret"\n', ": 'a' is not the name of a table"),
        ("[a]\n", ": a.api_key: field required"),
        ('[a]\napi_key = "sk-secret"\nstream = 5\n', ": a.stream: extra inputs are not permitted"),
        ('[a]\nsk-secret = "api_key"\napi_key = "k"\n', ": a: a field's name is not known"),
        ('[a]\nKey_secret = "api_key"\napi_key = "k"\n', ": a: a field's name is not known"),
        ('[a]\napi_key = "sk-secret"\nname = "b"\n', ": a: an account is called as its table is; leave `name` out"),
        ('[a]\napi_key = "two sk-secret"\n', ": a.api_key: a key is one word of plain characters"),
        ('[a]\napi_key = ""\n', ": a.api_key: a key is one word of plain characters"),
        ('[a]\napi_key = ["sk-secret"]\n', ": a.api_key: input should be a valid string"),
        ('[a]\napi_key_file = "none"\n', ": a: api_key_file: there is no such readable file"),
        ('[a]\napi_key_file = "sk-secret"\n', ": a: api_key_file: there is no such readable file"),
        ('[a]\napi_key = "sk-secret"\napi_key_file = "none"\n', ": a: it has `api_key` and `api_key_file`; leave one"),
        ('[a]\napi_key = "sk-secret"\nurl = "https://h"\n', ": a.url: string should match pattern"),
        ('[a]\napi_key = "sk-secret"\nurl = "wss://h:99999999/x"\n', ": a.url: it has no host, or a port"),
        ('[a]\napi_key = "sk-secret"\nstreams = 0\n', ": a.streams: input should be greater than or equal to 1"),
        ('[a]\napi_key = "sk-secret"\nstreams = "5"\n', ": a.streams: input should be a valid integer"),
        ('[a]\napi_key = "sk-secret"\nstarts_per_second = nan\n', ": a.starts_per_second: input should be"),
        ('[a]\napi_key = "sk-secret"\nmodels = "m"\n', ": a.models: it must be a list of patterns"),
        ('[a]\napi_key = "sk-secret"\nmodels = []\n', ": a.models: with an empty list the account has no model"),
        ('[a]\napi_key = "sk-secret"\nmodels = [5]\n', ": a.models.0: input should be a valid string"),
        (
            '[default]\napi_key = "sk-secret"\n',
            " has an account default, as STENOPOOL_ACCOUNT is called; rename one",
        ),
    ],
)
def test_what_is_wrong_with_the_file_is_said_and_no_key_is_quoted(listed: Given, text: str | bytes, said: str) -> None:
    with pytest.raises(SettingsError) as error:
        listed(text)
    (line,) = str(error.value).splitlines()
    assert line.startswith("STENOPOOL_ACCOUNTS_FILE") and said in line and "secret" not in line


def test_a_key_in_a_file_of_its_own_is_not_quoted_either(listed: Given, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("two sk-secret\n")
    with pytest.raises(SettingsError, match="a: api_key_file: a key is one word of plain characters") as error:
        listed('[a]\napi_key_file = "key"\n')
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("text", [b"[", b'[b]\napi_key = "sk-b"\n', None])
def test_a_file_that_is_edited_later_changes_nothing(listed: Given, tmp_path: Path, text: bytes | None) -> None:
    (tmp_path / "key").write_text("sk-a")
    found = listed('[a]\napi_key_file = "key"\n')
    (tmp_path / "key").unlink()
    path = tmp_path / "accounts.toml"
    path.unlink() if text is None else path.write_bytes(text)
    assert keys(found) == {"a": "sk-a"}


@pytest.mark.parametrize("name", ["none", "."])
def test_a_file_that_cannot_be_read_is_said(given: Given, name: str) -> None:
    with pytest.raises(SettingsError) as error:
        given(STENOPOOL_ACCOUNTS_FILE=name)
    assert str(error.value) == "STENOPOOL_ACCOUNTS_FILE names no readable file"


def test_the_vendor_s_own_account_may_be_renamed_so_that_the_file_s_can_have_its_name(listed: Given) -> None:
    text = '[default]\napi_key = "sk-file"\n'
    found = listed(text, STENOPOOL_ACCOUNT="own", DASHSCOPE_API_KEY="sk-own")
    assert keys(found) == {"own": "sk-own", "default": "sk-file"}


def test_no_key_is_in_what_an_account_looks_like(listed: Given) -> None:
    found = listed('[a]\napi_key = "sk-secret"\n', DASHSCOPE_API_KEY="sk-secret")
    assert "secret" not in repr(found) + repr(found.accounts()) + str(found.accounts()[1])


def test_an_account_is_frozen(given: Given) -> None:
    (account,) = given().accounts()
    with pytest.raises(ValidationError):
        account.name = "b"  # type: ignore[misc]
