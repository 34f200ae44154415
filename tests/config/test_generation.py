from collections.abc import Callable

import pytest

from config.settings import Settings, SettingsError

Given = Callable[..., Settings]


def test_by_default_text_models_are_asked_where_the_vendor_has_them(given: Given) -> None:
    found = given().generation
    assert (found.url, found.timeout) == ("https://dashscope.aliyuncs.com/api/v1", 300.0)


def test_a_slash_at_the_end_of_the_address_does_not_matter(given: Given) -> None:
    assert (
        given(DASHSCOPE_HTTP_BASE_URL="http://127.0.0.1:8095/api/v1/").generation.url == "http://127.0.0.1:8095/api/v1"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DASHSCOPE_HTTP_BASE_URL", "wss://host/api/v1"),
        ("DASHSCOPE_HTTP_BASE_URL", "https://"),
        ("DASHSCOPE_HTTP_BASE_URL", "https://ho st/"),
        ("STENOPOOL_GENERATION_TIMEOUT", "0"),
        ("STENOPOOL_GENERATION_TIMEOUT", "inf"),
    ],
)
def test_a_wrong_value_is_named(given: Given, name: str, value: str) -> None:
    with pytest.raises(SettingsError) as error:
        given(**{name: value})
    assert str(error.value).startswith(f"{name}={value} is not valid")
