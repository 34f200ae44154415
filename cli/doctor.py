"""Checks, in the order in which things break, what a worker needs; says what is wrong and how to mend it."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import redis
from kombu.exceptions import OperationalError
from rich.console import Console

from cli.client import ALONE, online
from config.quota import AccountSettings
from config.settings import Settings, SettingsError, load, unknown
from tasks.diagnose import NOTHING, recognise_tone
from tasks.errors import JobError
from tasks.job.request import JobRequest
from tasks.stream import translated
from worker.objects import LIBRARIES, is_installed
from worker.recognition import Recognizer, RecognizerHooks
from worker.runtime import endpoint, limits, redis_client

OLDEST_REDIS = (6, 2)
"""The first that has BLMOVE, with which a worker waits for messages."""


class Ailment(Exception):
    """Raised by a check; its text says what is wrong and how to mend it."""


def examine(console: Console) -> bool:
    """Run every check that makes sense and print one line for each. True when all is well."""
    try:
        settings = load()
    except SettingsError as error:
        console.print(f"✗ settings: {error}", style="red", markup=False, soft_wrap=True)
        return False
    console.print("✓ settings", style="green")
    for name in unknown():
        console.print(f"! {name} is no setting of this version; is it a typing error?", style="yellow", markup=False)
    checks: dict[str, Callable[[Settings], str]] = {
        "redis": check_redis,
        "workers": check_workers,
        "key": check_key,
        "service": check_service,
        "audio": check_audio,
    }
    # Each one runs, also after one that failed.
    wells = [_report(console, name, check, settings) for name, check in checks.items()]
    return all(wells)


def _report(console: Console, name: str, check: Callable[[Settings], str], settings: Settings) -> bool:
    try:
        console.print(f"✓ {name}: {check(settings)}", style="green", markup=False, soft_wrap=True)
    except Ailment as ailment:
        console.print(f"✗ {name}: {ailment}", style="red", markup=False, soft_wrap=True)
        return False
    return True


def check_redis(settings: Settings) -> str:
    """Redis answers, and never throws away what it was given."""
    try:
        about = redis_client(settings.redis.url).info()
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise Ailment(
            f"no answer at STENOPOOL_REDIS_URL ({type(error).__name__}); start Redis or correct the address"
        ) from None
    except redis.RedisError as error:
        raise Ailment(
            f"it does not let us in ({type(error).__name__}); check user, password and database of STENOPOOL_REDIS_URL"
        ) from None
    policy = about.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise Ailment(f"maxmemory-policy is {policy}, so jobs can vanish; set it to noeviction")
    if "valkey_version" in about:
        return f"Valkey {about['valkey_version']}"
    version = str(about.get("redis_version", "of no version"))
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST_REDIS:
        raise Ailment(f"Redis {version} is too old; take 6.2 or later, or Valkey")
    return f"Redis {version}"


def check_workers(settings: Settings) -> str:
    """At least one worker answers."""
    from worker.app import app

    try:
        names = online(app)
    except OperationalError:
        raise Ailment("cannot be asked without Redis") from None
    if not names:
        raise Ailment(ALONE)
    return ", ".join(names)


def check_key(settings: Settings) -> str:
    """There is a key."""
    accounts = settings.accounts()
    if not accounts[0].api_key.get_secret_value():
        raise Ailment("none; set DASHSCOPE_API_KEY or DASHSCOPE_API_KEY_FILE_PATH")
    return "given" if len(accounts) == 1 else "given, for " + ", ".join(account.name for account in accounts)


def check_service(settings: Settings) -> str:
    """The service takes each key, and a short recognition to its end."""
    accounts = settings.accounts()
    told = {account.name: _recognised(settings, account) for account in accounts}
    return "; ".join(f"{name}: {times}" for name, times in told.items()) if len(told) > 1 else told[accounts[0].name]


def _recognised(settings: Settings, account: AccountSettings) -> str:
    begun = time.monotonic()
    try:
        with translated(), _recognizer(settings, account) as recognizer:
            opened = time.monotonic()
            recognise_tone(recognizer, JobRequest(audio=NOTHING))
    except JobError as error:
        raise Ailment(str(error) if len(settings.accounts()) == 1 else f"account {account.name}: {error}") from None
    ended = time.monotonic()
    return f"handshake {1000 * (opened - begun):.0f} ms, recognition {1000 * (ended - opened):.0f} ms"


def check_audio(settings: Settings) -> str:
    """Which references a worker with these settings takes."""
    folders = ", ".join(map(str, settings.audio.roots))
    files = f"files under {folders}" if folders else "no files (STENOPOOL_AUDIO_ROOTS is not set)"
    stores = [f"{name}:" if is_installed(name) else f"{name}: (install stenopool[{name}])" for name in LIBRARIES]
    return ", ".join(["https:", *stores, "data:", files])


@contextmanager
def _recognizer(settings: Settings, account: AccountSettings) -> Iterator[Recognizer]:
    hooks = RecognizerHooks(endpoint(settings, account), limits(settings))
    recognizer = hooks.open()
    try:
        yield recognizer
    finally:
        hooks.close(recognizer)
