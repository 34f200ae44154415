"""What the service allows an account, and which accounts there are."""

import fnmatch
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import NoDecode

from config.group import Group, checked_address, checked_key, key_in, setting

MOST_PER_SECOND = 10_000
MOST_STREAMS = 1_000_000

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
"""An account's name: it stands in keys of Redis, in tables and in messages."""

QUOTABLE = re.compile(r"(?!sk-)[a-z0-9_-]{1,40}")
"""What an error may quote of the file's names: another may be a key on the wrong side of the `=`."""

HEAVIEST = 1000


class AccountSettings(BaseModel):
    """One account of the service: a key, where it is valid, and what it may do. What is None is as in the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    name: str
    api_key: SecretStr = Field(repr=False)
    url: str | None = Field(None, pattern=r"^wss?://[^/]+")
    workspace_id: str | None = None
    streams: int | None = Field(None, ge=1, le=MOST_STREAMS)
    starts_per_second: float | None = Field(None, ge=0.1, le=MOST_PER_SECOND)
    opens_per_second: float | None = Field(None, ge=0.1, le=MOST_PER_SECOND)
    models: tuple[str, ...] = ("*",)
    """Patterns, as of file names, of the models that it has."""

    def offers(self, model: str) -> bool:
        """Whether the account has this model."""
        return any(fnmatch.fnmatchcase(model, pattern) for pattern in self.models)

    @field_validator("api_key", mode="before")
    @classmethod
    def _sendable(cls, key: Any) -> Any:
        return SecretStr(checked_key(key)) if isinstance(key, str) else key

    @field_validator("models", mode="before")
    @classmethod
    def _listed(cls, models: Any) -> Any:
        if not isinstance(models, list | tuple):
            raise ValueError("it must be a list of patterns")
        if not models:
            raise ValueError("with an empty list the account has no model; leave `models` out if it has all")
        return tuple(models)

    @field_validator("url")
    @classmethod
    def _reachable(cls, url: str | None) -> str | None:
        return checked_address(url) if url else url


class QuotaSettings(Group):
    """What the service allows an account, shared by all workers of one Redis."""

    account: str = setting(
        "STENOPOOL_ACCOUNT",
        "default",
        "up to 40 of a-z, 0-9, - and _",
        "The name of the account whose key is `DASHSCOPE_API_KEY`. Workers that name the same account share its quota.",
        pattern=f"^{NAME.pattern}$",
    )
    accounts_file: Path | None = setting(
        "STENOPOOL_ACCOUNTS_FILE",
        None,
        "a readable TOML file",
        "Further accounts, a table each: `api_key` or `api_key_file`, and `url` `workspace_id` `streams` "
        "`starts_per_second` `opens_per_second` `models` where they differ.",
    )
    streams: int | None = setting(
        "STENOPOOL_QUOTA_STREAMS",
        None,
        "a whole number from 1 to 1000000",
        "Streams that an account may have at once of a model, all workers together. Default: no limit.",
        ge=1,
        le=MOST_STREAMS,
    )
    starts_per_second: float = setting(
        "STENOPOOL_QUOTA_STARTS_PER_SECOND",
        20.0,
        "a number from 0.1 to 10000",
        "Recognitions that an account may start in a second of a model, all workers together.",
        ge=0.1,
        le=MOST_PER_SECOND,
    )
    opens_per_second: float | None = setting(
        "STENOPOOL_QUOTA_OPENS_PER_SECOND",
        None,
        "a number from 0.1 to 10000",
        "Connections that all workers together open in a second for an account. "
        "Default: as many as one process may (`STENOPOOL_POOL_OPENS_PER_SECOND`).",
        ge=0.1,
        le=MOST_PER_SECOND,
    )
    patience: float = setting(
        "STENOPOOL_QUOTA_PATIENCE",
        5.0,
        "seconds, from 0.1 to 300",
        "How long a job waits for quota in a worker, before it goes back to the queue for a while. It keeps its place.",
        ge=0.1,
        le=300,
    )
    tenants: Annotated[dict[str, float], NoDecode] = setting(
        "STENOPOOL_QUOTA_TENANTS",
        {},
        f"pairs such as `acme=3,globex=1`, with weights from 0.01 to {HEAVIEST}",
        "Shares of the tenants that jobs name, where they compete within a queue. One that is not listed weighs 1.",
    )

    _accounts: tuple[AccountSettings, ...] = PrivateAttr(())

    def listed(self) -> tuple[AccountSettings, ...]:
        """The accounts of the file, as it was when these settings were read; none without one."""
        return self._accounts

    @field_validator("tenants", mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        return dict(_pair(part) for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _readable(self) -> "QuotaSettings":
        self._accounts = _read(self.accounts_file) if self.accounts_file else ()
        if any(one.name == self.account for one in self._accounts):
            raise ValueError(
                f"STENOPOOL_ACCOUNTS_FILE has an account {self.account}, as STENOPOOL_ACCOUNT is called; rename one"
            )
        return self


def _pair(text: str) -> tuple[str, float]:
    name, equals, weight = text.strip().partition("=")
    try:
        heavy = float(weight)
    except ValueError:
        heavy = 0.0
    if not name or not equals or not 0.01 <= heavy <= HEAVIEST:
        raise ValueError(f"{text.strip()!r} is no name and weight")
    return name.strip(), heavy


def _read(path: Path) -> tuple[AccountSettings, ...]:
    """The accounts of a file. Raises ValueError, whose text quotes no key."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ValueError("STENOPOOL_ACCOUNTS_FILE names no readable file") from None
    except (UnicodeError, tomllib.TOMLDecodeError) as error:
        where = str(error) if isinstance(error, UnicodeError) else str(error).rsplit("(", 1)[-1].rstrip(")")
        raise ValueError(f"STENOPOOL_ACCOUNTS_FILE is not TOML ({where})") from None
    return tuple(_account(name, table, path.parent) for name, table in tables.items())


def _account(name: str, table: Any, folder: Path) -> AccountSettings:
    if not QUOTABLE.fullmatch(name):
        raise ValueError(
            "STENOPOOL_ACCOUNTS_FILE: a table's name is not up to 40 of a-z, 0-9, - and _, or begins as a key does"
        )
    if not NAME.fullmatch(name) or not isinstance(table, dict):
        raise ValueError(f"STENOPOOL_ACCOUNTS_FILE: {name!r} is not the name of a table: up to 40 of a-z, 0-9, - and _")
    given = dict(table)
    try:
        if "name" in given:
            raise ValueError("an account is called as its table is; leave `name` out")
        if "api_key" in given and "api_key_file" in given:
            raise ValueError("it has `api_key` and `api_key_file`; leave one out")
        if "api_key_file" in given:
            given["api_key"] = _key_beside(folder, given.pop("api_key_file"))
        return AccountSettings(name=name, **given)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        if not QUOTABLE.fullmatch(str(problem["loc"][0])):
            raise ValueError(f"STENOPOOL_ACCOUNTS_FILE: {name}: a field's name is not known") from None
        what, why = ".".join(map(str, problem["loc"])), str(problem["msg"]).removeprefix("Value error, ")
        raise ValueError(f"STENOPOOL_ACCOUNTS_FILE: {name}.{what}: {why[0].lower()}{why[1:]}") from None
    except ValueError as error:
        raise ValueError(f"STENOPOOL_ACCOUNTS_FILE: {name}: {error}") from None


def _key_beside(folder: Path, name: Any) -> str:
    try:
        return key_in(folder / str(name))
    except ValueError as error:
        raise ValueError(f"api_key_file: {error}") from None
