"""How a job's end is told to the address that the job names."""

from pydantic import SecretStr, field_validator

from config.group import Group, checked_key, setting

SHORTEST_SECRET = 16


class CallbackSettings(Group):
    """By which secret a callback is signed, and how long its receiver may be away."""

    secret: SecretStr | None = setting(
        "STENOPOOL_CALLBACK_SECRET",
        None,
        f"one word of at least {SHORTEST_SECRET} plain characters",
        "Signs callbacks; their receivers know it, too. Without it a job with `callback_url` is refused.",
        secret=True,
    )
    timeout: float = setting(
        "STENOPOOL_CALLBACK_TIMEOUT",
        15.0,
        "seconds, from 0.1 to 300",
        "Longest wait for the receiver of a callback to take the connection, to take what is sent (for which it has a "
        "second more for each 128 KiB), and to answer.",
        ge=0.1,
        le=300,
    )
    retries: int = setting(
        "STENOPOOL_CALLBACK_RETRIES",
        15,
        "a whole number from 0 to 100",
        "How often a callback is tried again whose receiver fails. By default that takes three to six hours.",
        ge=0,
        le=100,
    )
    backoff: float = setting(
        "STENOPOOL_CALLBACK_BACKOFF",
        5.0,
        "seconds, more than 0",
        "Longest wait before the second try; it doubles each time, with jitter.",
        gt=0,
    )
    backoff_max: float = setting(
        "STENOPOOL_CALLBACK_BACKOFF_MAX",
        3600.0,
        "seconds, more than 0",
        "Bound of that wait, and of the one that a receiver asks for by `Retry-After`, which comes before it.",
        gt=0,
    )

    @field_validator("secret")
    @classmethod
    def _strong(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is None:
            return None
        word = checked_key(secret.get_secret_value())
        if len(word) < SHORTEST_SECRET:
            raise ValueError(f"it has fewer than {SHORTEST_SECRET} characters")
        return SecretStr(word)
