import dataclasses
from typing import Any

import pytest

from worker.recognition.endpoint import Endpoint

URL = "wss://dashscope.aliyuncs.com/api-ws/v1/inference"


def test_the_defaults():
    endpoint = Endpoint(url=URL, api_key="k")
    assert endpoint.workspace_id is None
    assert (endpoint.connect_timeout, endpoint.write_timeout, endpoint.close_timeout) == (10.0, 10.0, 1.0)


@pytest.mark.parametrize(
    ("url", "host", "port", "secure"),
    [
        (URL, "dashscope.aliyuncs.com", 443, True),
        ("ws://127.0.0.1/x", "127.0.0.1", 80, False),
        ("ws://127.0.0.1:8095/x", "127.0.0.1", 8095, False),
        ("wss://[::1]:8443/x", "::1", 8443, True),
    ],
)
def test_the_parts_of_the_url(url, host, port, secure):
    endpoint = Endpoint(url=url, api_key="k")
    assert (endpoint.host, endpoint.port, endpoint.is_secure) == (host, port, secure)


def test_the_headers_of_the_upgrade():
    assert Endpoint(url=URL, api_key="k").headers() == ["Authorization: Bearer k", "User-Agent: stenopool/0.1.0"]
    assert Endpoint(url=URL, api_key="k", workspace_id="ws-1").headers()[2:] == ["X-DashScope-WorkSpace: ws-1"]


def test_the_repr_holds_no_secret():
    endpoint = Endpoint(url="wss://user:secret@host/path?token=secret", api_key="secret", workspace_id="secret")
    assert repr(endpoint) == "<Endpoint wss://host:443/path>"


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": ""},
        {"url": "https://host/x"},
        {"url": "WSS://host/x"},
        {"url": "wss:///x"},
        {"url": "wss://host:0/x"},
        {"url": "wss://host:99999/x"},
        {"url": "wss://host/a b"},
        {"url": "wss://host/x\r\nEvil: 1"},
        {"api_key": "secret\r\nEvil: 1"},
        {"api_key": "sécret"},
        {"api_key": "sec ret"},
        {"workspace_id": "secret\n"},
    ],
)
def test_what_no_request_can_carry_is_refused_and_not_quoted(wrong):
    with pytest.raises(ValueError) as caught:
        Endpoint(**{"url": URL, "api_key": "k"} | wrong)
    assert "secret" not in str(caught.value)


def test_it_is_frozen():
    endpoint: Any = Endpoint(url=URL, api_key="k")
    with pytest.raises(dataclasses.FrozenInstanceError):
        endpoint.api_key = "other"
