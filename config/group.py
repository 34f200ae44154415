"""What a setting is: its variable, default, what is allowed, and what it means; and the checks that several share."""

from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from pydantic import Field
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict


def setting(name: str, default: Any, allowed: str, meaning: str, *, secret: bool = False, **constraints: Any) -> Any:
    """One setting: its variable, default, what is allowed in words, meaning, and whether its value must be hidden."""
    return Field(
        default,
        validation_alias=name,
        description=meaning,
        json_schema_extra={"allowed": allowed, "secret": secret},
        # Every wait has an end.
        allow_inf_nan=None if "gt" not in constraints else False,
        repr=not secret,
        **constraints,
    )


class Group(BaseSettings):
    """What all groups share."""

    model_config = SettingsConfigDict(
        frozen=True,
        env_file=".env",
        extra="ignore",
        env_ignore_empty=True,
        case_sensitive=True,
        hide_input_in_errors=True,
    )


def about(field: FieldInfo) -> dict[str, Any]:
    """What `setting` noted of a field beyond pydantic's own: `allowed`, in words, and whether it is `secret`."""
    return cast(dict[str, Any], field.json_schema_extra)


def key_in(path: Path) -> str:
    """The key that a file holds. Raises ValueError, whose text never quotes it."""
    try:
        return checked_key(path.read_text(encoding="utf-8"))
    except OSError:
        raise ValueError("there is no such readable file") from None
    except UnicodeError:
        raise ValueError("the file is not text") from None


def checked_key(text: str) -> str:
    """A key that a request can carry. Raises ValueError, whose text never quotes it."""
    key = text.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("a key is one word of plain characters")
    return key


def checked_address(url: str) -> str:
    """An address that can be connected to. Raises ValueError."""
    parts = urlsplit(url)
    try:
        usable = parts.hostname and parts.port != 0 and url.isascii() and url.isprintable() and " " not in url
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("it has no host, or a port or characters that no address can have")
    return url
