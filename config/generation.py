"""Where text models are asked, and how long for."""

from pydantic import field_validator

from config.group import Group, checked_address, setting


class GenerationSettings(Group):
    """Where text models are asked, and how long for."""

    url: str = setting(
        "DASHSCOPE_HTTP_BASE_URL",
        "https://dashscope.aliyuncs.com/api/v1",
        "an http:// or https:// address",
        "Where text models are asked (`tasks.generate`). Keys and models belong to a region.",
        pattern=r"^https?://[^/]+",
    )
    timeout: float = setting(
        "STENOPOOL_GENERATION_TIMEOUT",
        300.0,
        "seconds, more than 0",
        "Longest wait for a text model's answer, which comes as a whole when it is finished.",
        gt=0,
    )

    @field_validator("url")
    @classmethod
    def _reachable(cls, url: str) -> str:
        return checked_address(url).rstrip("/")
