"""The only reader of the environment: frozen, typed, checked; one group per consumer.

Values come from the environment or a `.env` file in the working folder; the environment wins. `load()` reads them once.
"""

import os
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from dotenv import dotenv_values
from pydantic import SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import NoDecode

from config.callback import CallbackSettings
from config.generation import GenerationSettings
from config.group import Group, about, checked_address, checked_key, key_in, setting
from config.pool import PoolSettings
from config.quota import AccountSettings, QuotaSettings
from config.storage import OssSettings


class SettingsError(ValueError):
    """Raised when a setting is wrong; its text names each variable, its value and what is allowed."""


class UpstreamSettings(Group):
    """The recognition service and how long we wait for it."""

    api_key: SecretStr | None = setting(
        "DASHSCOPE_API_KEY",
        None,
        "the key's text",
        "The account's key. Without one every job fails with `missing_api_key`.",
        secret=True,
    )
    api_key_file: Path | None = setting(
        "DASHSCOPE_API_KEY_FILE_PATH",
        None,
        "a readable file",
        "A file that holds the key; used when the key itself is not given.",
    )
    workspace_id: str | None = setting(
        "DASHSCOPE_WORKSPACE_ID", None, "a workspace's id", "Sent as `X-DashScope-WorkSpace`."
    )
    url: str = setting(
        "DASHSCOPE_WEBSOCKET_BASE_URL",
        "wss://dashscope.aliyuncs.com/api-ws/v1/inference",
        "a ws:// or wss:// address",
        "Where recognisers connect. Keys and models belong to a region.",
        pattern=r"^wss?://[^/]+",
    )
    connect_timeout: float = setting(
        "DASHSCOPE_CONNECTION_TIMEOUT",
        10.0,
        "seconds, more than 0",
        "Longest wait for TCP, TLS and the WebSocket handshake together.",
        gt=0,
    )
    read_timeout: float = setting(
        "DASHSCOPE_READ_TIMEOUT",
        60.0,
        "seconds, more than 0",
        "Longest silence of the service after the last audio, before the stream counts as lost.",
        gt=0,
    )
    write_timeout: float = setting(
        "DASHSCOPE_WRITE_TIMEOUT",
        20.0,
        "seconds, more than 0",
        "Longest wait to hand one chunk of audio to the network.",
        gt=0,
    )
    started_timeout: float = setting(
        "STENOPOOL_STARTED_TIMEOUT",
        10.0,
        "seconds, more than 0",
        "Longest wait for the service to accept a recognition.",
        gt=0,
    )
    quiet: float = setting(
        "STENOPOOL_UPSTREAM_QUIET",
        20.0,
        "seconds, more than 0",
        "When the service has sent nothing at all for this long in mid-stream, it is pinged.",
        gt=0,
    )
    pong: float = setting(
        "STENOPOOL_UPSTREAM_PONG",
        10.0,
        "seconds, more than 0",
        "Longest wait for anything after that ping, before the stream counts as lost.",
        gt=0,
    )

    def key(self) -> str | None:
        """The key, from the variable or from the file; None when neither is given."""
        if self.api_key is not None:
            return self.api_key.get_secret_value()
        return key_in(self.api_key_file) if self.api_key_file else None

    @field_validator("api_key")
    @classmethod
    def _sendable(cls, key: SecretStr | None) -> SecretStr | None:
        return SecretStr(checked_key(key.get_secret_value())) if key is not None else None

    @field_validator("api_key_file")
    @classmethod
    def _readable(cls, path: Path | None) -> Path | None:
        if path is not None:
            key_in(path)
        return path

    @field_validator("url")
    @classmethod
    def _reachable(cls, url: str) -> str:
        return checked_address(url)


class RedisSettings(Group):
    """Broker, results and jobs live in one Redis."""

    url: str = setting(
        "STENOPOOL_REDIS_URL",
        "redis://127.0.0.1:6379/0",
        "redis:// or rediss://, a host, and at the end the number of a database",
        "Broker, results and jobs.",
        secret=True,
        pattern=r"^rediss?://[^/?\s]+(/\d+)?$",
    )
    visibility_timeout: int = setting(
        "STENOPOOL_VISIBILITY_TIMEOUT",
        30,
        "whole seconds, at least 5",
        "After this long without a sign of the worker that holds a message, the message is given to another.",
        ge=5,
    )
    patience: float = setting(
        "STENOPOOL_REDIS_PATIENCE",
        900.0,
        "seconds, more than 0",
        "How long a job that has come to its end waits for a Redis that is away, before it is left to be done again.",
        gt=0,
    )

    @field_validator("url")
    @classmethod
    def _reachable(cls, url: str) -> str:
        return checked_address(url)


class AudioSettings(Group):
    """What a job may name as its recording."""

    roots: Annotated[tuple[Path, ...], NoDecode] = setting(
        "STENOPOOL_AUDIO_ROOTS",
        (),
        f"absolute folders, joined by `{os.pathsep}`",
        "Folders that `file:` references may name. None by default.",
    )
    allow_private: bool = setting(
        "STENOPOOL_AUDIO_ALLOW_PRIVATE",
        False,
        "true or false",
        "Whether references may lead to private, loopback and shared addresses, such as a store of your own.",
    )
    connect_timeout: float = setting(
        "STENOPOOL_AUDIO_CONNECT_TIMEOUT",
        5.0,
        "seconds, more than 0",
        "Longest wait for the audio's server to answer the call.",
        gt=0,
    )
    read_timeout: float = setting(
        "STENOPOOL_AUDIO_READ_TIMEOUT",
        10.0,
        "seconds, more than 0 and less than 20",
        "Longest wait for the next bytes of audio. The service gives up on a stream after 23 seconds without audio.",
        gt=0,
        lt=20,
    )
    max_bytes: int = setting(
        "STENOPOOL_AUDIO_MAX_BYTES", 4 * 1024**3, "whole bytes, at least 1", "Largest recording that is fetched.", ge=1
    )
    max_seconds: float = setting(
        "STENOPOOL_AUDIO_MAX_SECONDS", 43_200.0, "seconds, more than 0", "Longest recording that is transcribed.", gt=0
    )
    decode_seconds: float = setting(
        "STENOPOOL_AUDIO_DECODE_SECONDS",
        30.0,
        "seconds, more than 0",
        "Processor time that decoding may take beyond the length of the sound that it gives.",
        gt=0,
    )

    @field_validator("roots", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part for part in value.split(os.pathsep) if part) if isinstance(value, str) else value

    @field_validator("roots")
    @classmethod
    def _folders(cls, roots: tuple[Path, ...]) -> tuple[Path, ...]:
        for root in roots:
            if not root.is_absolute() or not root.is_dir():
                raise ValueError(f"there is no folder {root}, or its path is not absolute")
        return tuple(root.resolve() for root in roots)


class JobSettings(Group):
    """How long a job may take, how often it is tried, how long its results stay."""

    ttl: int = setting(
        "STENOPOOL_JOB_TTL",
        86_400,
        "whole seconds, at least 60",
        "How long a job's keys stay in Redis after the last change.",
        ge=60,
    )
    deadline: float = setting(
        "STENOPOOL_JOB_DEADLINE",
        86_400.0,
        "seconds, more than 0",
        "Longest time from the moment that a job is first begun to its end.",
        gt=0,
    )
    lease: float = setting(
        "STENOPOOL_LEASE_SECONDS",
        15.0,
        "seconds, from 2 to 300",
        "A job whose worker gives no sign for this long may be taken over by another.",
        ge=2,
        le=300,
    )
    stall: float = setting(
        "STENOPOOL_JOB_STALL",
        120.0,
        "seconds, more than 0",
        "Longest time that a stream may stand still, neither sending nor hearing anything, before it is begun anew.",
        gt=0,
    )
    drain: float = setting(
        "STENOPOOL_DRAIN_SECONDS",
        30.0,
        "seconds, from 2 to 3600",
        "A worker that is told to stop has ended after this long. Jobs go on with another worker.",
        ge=2,
        le=3600,
    )
    upkeep: float = setting(
        "STENOPOOL_UPKEEP_SECONDS",
        60.0,
        "seconds, from 1 to 86400",
        "How often one worker of all looks for jobs whose worker and message were both lost.",
        ge=1,
        le=86_400,
    )
    live: float = setting(
        "STENOPOOL_LIVE_SECONDS",
        0.25,
        "seconds, from 0 to 60",
        "Shortest time between two partial results of a job that publishes them.",
        ge=0,
        le=60,
    )
    retries: int = setting(
        "STENOPOOL_JOB_RETRIES",
        5,
        "a whole number from 0 to 100",
        "How often a job is tried again after a fault, counted anew from each finished sentence.",
        ge=0,
        le=100,
    )
    backoff: float = setting(
        "STENOPOOL_JOB_BACKOFF",
        2.0,
        "seconds, more than 0",
        "Longest wait before the first new try; it doubles each time, with jitter.",
        gt=0,
    )
    backoff_max: float = setting(
        "STENOPOOL_JOB_BACKOFF_MAX", 120.0, "seconds, more than 0", "Longest wait before any new try.", gt=0
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """All groups; hand a consumer its own group, never this."""

    upstream: UpstreamSettings
    pool: PoolSettings
    redis: RedisSettings
    audio: AudioSettings
    oss: OssSettings
    job: JobSettings
    quota: QuotaSettings
    generation: GenerationSettings
    callback: CallbackSettings

    def accounts(self) -> tuple[AccountSettings, ...]:
        """All accounts, that of the vendor's own variables first; it is there, without a key, if there is no other."""
        listed, key = self.quota.listed(), self.upstream.key()
        if key is None and listed:
            return listed
        own = AccountSettings(
            name=self.quota.account, api_key=SecretStr(key or ""), workspace_id=self.upstream.workspace_id
        )
        return (own, *listed)


GROUPS: dict[str, type[Group]] = {
    "upstream": UpstreamSettings,
    "pool": PoolSettings,
    "redis": RedisSettings,
    "audio": AudioSettings,
    "oss": OssSettings,
    "job": JobSettings,
    "quota": QuotaSettings,
    "generation": GenerationSettings,
    "callback": CallbackSettings,
}
_G = TypeVar("_G", bound=Group)


@cache
def settings() -> Settings:
    """The process's settings, read on the first call. Raises `SettingsError` as `load` does."""
    return load()


def load() -> Settings:
    """Read and check every setting.

    Raises:
        SettingsError: one line for each wrong setting.
    """
    wrong: list[str] = []
    groups = {name: _read(group, wrong) for name, group in GROUPS.items()}
    if wrong:
        raise SettingsError("\n".join(wrong))
    made = Settings(**{field.name: groups[field.name] for field in fields(Settings)})  # type: ignore[arg-type]
    return made


def _read(group: type[_G], wrong: list[str]) -> _G | None:
    try:
        return group()
    except UnicodeError:
        wrong[:] = [".env in the working folder is not UTF-8 text; write it again as such."]
        return None
    except ValidationError as error:
        by_name = {field.validation_alias: field for field in group.model_fields.values()}
        wrong.extend(_sentence(problem, by_name) for problem in error.errors())
        return None


def _sentence(problem: Any, by_name: dict[Any, FieldInfo]) -> str:
    name = problem["loc"][0] if problem["loc"] else None
    reason = str(problem["msg"]).removeprefix("Value error, ")
    if name not in by_name:
        return reason
    told = about(by_name[name])
    shown = "" if told["secret"] else f"={problem['input']}"
    return f"{name}{shown} is not valid: {reason[0].lower()}{reason[1:]}. Allowed: {told['allowed']}."


def unknown() -> list[str]:
    """Variables that look like ours and mean nothing to this version: most likely typing errors."""
    known = {field.validation_alias for group in GROUPS.values() for field in group.model_fields.values()}
    given = os.environ.keys() | dotenv_values(".env").keys()
    return sorted(name for name in given if name.startswith("STENOPOOL_") and name not in known)
