"""Where `oss:` references lead, and with which key. S3 has the settings of its own tools, which its library reads."""

from pydantic import SecretStr, field_validator

from config.group import Group, checked_address, setting


class OssSettings(Group):
    """Alibaba Cloud's object store. Its own names of variables, where there are any."""

    access_key_id: str | None = setting(
        "OSS_ACCESS_KEY_ID", None, "the key's id", "With whose rights `oss:` references are read."
    )
    access_key_secret: SecretStr | None = setting(
        "OSS_ACCESS_KEY_SECRET", None, "the key's secret", "Its secret.", secret=True
    )
    session_token: SecretStr | None = setting(
        "OSS_SESSION_TOKEN", None, "the token's text", "Its token, if the key is a temporary one.", secret=True
    )
    region: str | None = setting(
        "STENOPOOL_OSS_REGION",
        None,
        "a region's name, such as cn-hangzhou",
        "Where the buckets of `oss:` references are.",
        pattern=r"^[a-z0-9-]+$",
    )
    endpoint: str | None = setting(
        "STENOPOOL_OSS_ENDPOINT",
        None,
        "an https:// or http:// address",
        "Where that store answers. Default: the region's public address. The internal one is on a private network.",
        pattern=r"^https?://[^/?#]+$",
    )

    @field_validator("endpoint")
    @classmethod
    def _reachable(cls, url: str | None) -> str | None:
        return checked_address(url) if url is not None else None
