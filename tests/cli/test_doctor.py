import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from celery import Celery
from rich.console import Console

from cli.doctor import Ailment, check_audio, check_key, check_redis, check_service, check_workers, examine
from config.settings import Settings, settings
from emulator.background import BackgroundEmulator
from emulator.faults import Fault
from emulator.stack import free_port

Start = Callable[..., Celery]
KEY = "sk-right"


@pytest.fixture
def emulator() -> Iterator[BackgroundEmulator]:
    with BackgroundEmulator(api_key=KEY) as running:
        yield running


@pytest.fixture
def loaded(emulator: BackgroundEmulator, start_app: Start) -> Callable[..., Settings]:
    """The settings of a healthy site, but for what is given."""

    def load(**variables: str) -> Settings:
        usual = {"DASHSCOPE_WEBSOCKET_BASE_URL": emulator.url, "DASHSCOPE_API_KEY": KEY}
        start_app(**usual | variables)
        return settings()

    return load


@pytest.fixture
def examined() -> Callable[[], tuple[bool, list[str]]]:
    """Examines, and says how it ended and what was printed."""

    def examination() -> tuple[bool, list[str]]:
        screen = io.StringIO()
        return examine(Console(file=screen, width=500)), screen.getvalue().splitlines()

    return examination


def nowhere() -> str:
    return f"redis://:hush@127.0.0.1:{free_port()}/0"


def ailment(check: Callable[[Settings], str], found: Settings) -> str:
    with pytest.raises(Ailment) as error:
        check(found)
    return str(error.value)


def test_a_healthy_site_gets_a_line_for_each_check(
    emulator: BackgroundEmulator, start_app: Start, hire: Callable[..., Any], examined: Any
) -> None:
    hire(start_app(DASHSCOPE_WEBSOCKET_BASE_URL=emulator.url, DASHSCOPE_API_KEY=KEY))

    well, lines = examined()

    assert well
    assert [line.split(":")[0] for line in lines] == [
        "✓ settings",
        "✓ redis",
        "✓ workers",
        "✓ key",
        "✓ service",
        "✓ audio",
    ]
    assert lines[2] == "✓ workers: celery@fake"


def test_a_wrong_setting_ends_the_examination(given: Callable[..., Settings], examined: Any) -> None:
    given()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECOGNITION_OBJECTPOOL_SIZE", "many")
        well, lines = examined()
    assert not well and len(lines) == 1
    assert lines[0].startswith("✗ settings: RECOGNITION_OBJECTPOOL_SIZE=many is not valid")


def test_every_check_runs_also_after_one_that_failed(loaded: Callable[..., Settings], examined: Any) -> None:
    loaded(STENOPOOL_REDIS_URL=nowhere(), DASHSCOPE_API_KEY="sk-wrong")

    well, lines = examined()

    assert not well
    assert [line.split(":")[0] for line in lines] == [
        "✓ settings",
        "✗ redis",
        "✗ workers",
        "✓ key",
        "✗ service",
        "✓ audio",
    ]
    assert lines[2] == "✗ workers: cannot be asked without Redis"
    assert not any(secret in line for line in lines for secret in ("hush", "sk-wrong"))


def test_redis_is_known_by_its_version(loaded: Callable[..., Settings], client: redis.Redis) -> None:
    about: Any = client.info()
    assert check_redis(loaded()) == f"Valkey {about['valkey_version']}"


@pytest.mark.parametrize(("version", "is_well"), [("6.0.16", False), ("6.2.0", True), ("10.0.1", True)])
def test_a_redis_that_is_too_old_is_an_ailment(
    loaded: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, version: str, is_well: bool
) -> None:
    monkeypatch.setattr(redis.Redis, "info", lambda _: {"redis_version": version})
    if is_well:
        assert check_redis(loaded()) == f"Redis {version}"
    else:
        assert ailment(check_redis, loaded()) == "Redis 6.0.16 is too old; take 6.2 or later, or Valkey"


def test_a_redis_that_does_not_answer_is_an_ailment(loaded: Callable[..., Settings]) -> None:
    text = ailment(check_redis, loaded(STENOPOOL_REDIS_URL=nowhere()))
    assert "no answer at STENOPOOL_REDIS_URL (ConnectionError)" in text and "hush" not in text


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_redis_that_throws_keys_away_is_an_ailment(
    loaded: Callable[..., Settings], client: redis.Redis, policy: str
) -> None:
    client.config_set("maxmemory-policy", policy)
    try:
        assert f"maxmemory-policy is {policy}" in ailment(check_redis, loaded())
    finally:
        client.config_set("maxmemory-policy", "noeviction")


def test_no_worker_is_an_ailment(loaded: Callable[..., Settings]) -> None:
    assert "celery -A worker.app worker" in ailment(check_workers, loaded())


def test_no_key_is_an_ailment(loaded: Callable[..., Settings]) -> None:
    assert "DASHSCOPE_API_KEY" in ailment(check_key, loaded(DASHSCOPE_API_KEY=""))


def test_a_key_is_never_shown(loaded: Callable[..., Settings]) -> None:
    assert check_key(loaded()) == "given"


def test_the_service_is_asked_for_one_whole_recognition(
    loaded: Callable[..., Settings], emulator: BackgroundEmulator
) -> None:
    text = check_service(loaded())

    assert text.startswith("handshake ") and ", recognition " in text
    (task,) = emulator.logbook.tasks
    assert (task.outcome, task.audio_bytes) == ("finished", 32_000)
    assert emulator.logbook.wait_until(lambda book: book.connections_open == 0)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(kind="http_status", value=503), "server_fault"),
        (Fault(kind="task_failed"), "server_fault"),
        (Fault(kind="close", value=1011), "connection_lost"),
    ],
)
def test_a_fault_of_the_service_is_an_ailment_and_leaves_no_connection(
    loaded: Callable[..., Settings], emulator: BackgroundEmulator, fault: Fault, code: str
) -> None:
    found = loaded()
    emulator.faults.add(fault)
    assert f"[{code}]" in ailment(check_service, found)
    assert emulator.logbook.wait_until(lambda book: book.connections_open == 0)


def test_a_wrong_key_is_an_ailment_and_is_not_shown(loaded: Callable[..., Settings]) -> None:
    text = ailment(check_service, loaded(DASHSCOPE_API_KEY="sk-wrong"))
    assert "[unauthorized]" in text and "sk-wrong" not in text


def test_a_service_without_a_key_is_an_ailment(loaded: Callable[..., Settings]) -> None:
    assert "[missing_api_key]" in ailment(check_service, loaded(DASHSCOPE_API_KEY=""))


def test_a_service_that_cannot_be_reached_is_an_ailment(loaded: Callable[..., Settings]) -> None:
    url = f"ws://127.0.0.1:{free_port()}/api-ws/v1/inference"
    assert "[connect_failed]" in ailment(check_service, loaded(DASHSCOPE_WEBSOCKET_BASE_URL=url))


def test_which_references_a_worker_takes_is_said(loaded: Callable[..., Settings], tmp_path: Any) -> None:
    assert "STENOPOOL_AUDIO_ROOTS" in check_audio(loaded())
    (tmp_path / "a").mkdir()
    roots = f"{tmp_path}:{tmp_path / 'a'}"
    folders = f"{tmp_path}, {tmp_path / 'a'}"
    assert check_audio(loaded(STENOPOOL_AUDIO_ROOTS=roots)) == f"https:, s3:, oss:, data:, files under {folders}"
