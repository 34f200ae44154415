from collections.abc import Callable

import pytest

from config.settings import Settings, SettingsError

Given = Callable[..., Settings]


def test_the_secret_is_one_word_of_some_length_and_never_shown(given: Given) -> None:
    found = given(STENOPOOL_CALLBACK_SECRET=" 0123456789abcdef\n")
    assert found.callback.secret is not None and found.callback.secret.get_secret_value() == "0123456789abcdef"
    assert "0123456789" not in repr(found)


@pytest.mark.parametrize("secret", ["0123456789abcde", "0123456789 abcdefgh", "0123456789äbcdefgh"])
def test_another_stops_the_worker_without_being_quoted(given: Given, secret: str) -> None:
    with pytest.raises(SettingsError, match="STENOPOOL_CALLBACK_SECRET is not valid") as error:
        given(STENOPOOL_CALLBACK_SECRET=secret)
    assert secret not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STENOPOOL_CALLBACK_TIMEOUT", "0"),
        ("STENOPOOL_CALLBACK_TIMEOUT", "301"),
        ("STENOPOOL_CALLBACK_TIMEOUT", "nan"),
        ("STENOPOOL_CALLBACK_RETRIES", "-1"),
        ("STENOPOOL_CALLBACK_RETRIES", "101"),
        ("STENOPOOL_CALLBACK_BACKOFF", "0"),
        ("STENOPOOL_CALLBACK_BACKOFF", "inf"),
        ("STENOPOOL_CALLBACK_BACKOFF_MAX", "0"),
    ],
)
def test_a_wrong_value_is_named(given: Given, name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}={value} is not valid"):
        given(**{name: value})
