"""Bad input ends in one sentence and a code, at once, is not tried again, and harms nobody else."""

import socket
import threading
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Site = Any
Counter = Callable[[float], Path]


@pytest.fixture
def mute_server() -> Iterator[int]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def outside(stack: Any, name: str, content: bytes = b"secret") -> Path:
    path = Path(stack.folder) / name
    path.write_bytes(content)
    return path


def cut_in_half(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def linked(path: Path, target: Path) -> Path:
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    return path


BAD: dict[str, tuple[str, Callable[[Site, Counter], tuple[tuple[Any, ...], dict[str, Any]]]]] = {
    "a missing file": ("audio_not_found", lambda site, _: (((site.folder / "none.wav").as_uri(),), {})),
    "a folder": ("not_a_file", lambda site, _: ((site.folder.as_uri(),), {})),
    "a file outside": ("forbidden_path", lambda site, _: ((outside(site.stack, "out.wav").as_uri(),), {})),
    "dots that lead outside": (
        "forbidden_path",
        lambda site, _: ((f"{site.folder.as_uri()}/../{outside(site.stack, 'up.wav').name}",), {}),
    ),
    "a link that leads outside": (
        "forbidden_path",
        lambda site, _: ((linked(site.folder / "link.wav", outside(site.stack, "far.wav")).as_uri(),), {}),
    ),
    "an empty file": ("empty_audio", lambda site, _: ((written(site.folder / "empty.wav", b"").as_uri(),), {})),
    "not audio": (
        "not_audio",
        lambda site, _: ((written(site.folder / "a.wav", b"hello, world\n" * 99).as_uri(),), {}),
    ),
    "truncated audio": ("truncated_audio", lambda _, counter: ((cut_in_half(counter(4)).as_uri(),), {"pace": 0})),
    "an unknown scheme": ("unsupported_scheme", lambda *_: (("gopher://host/a.wav",), {})),
    "no reference": ("bad_request", lambda *_: ((), {})),
    "a reference of the wrong type": ("bad_request", lambda *_: ((7,), {})),
    "an unknown option": ("bad_request", lambda _, counter: ((counter(1).as_uri(),), {"modle": "x"})),
    "an option of the wrong type": ("bad_request", lambda _, counter: ((counter(1).as_uri(),), {"pace": "fast"})),
    "a part that ends before it begins": (
        "bad_request",
        lambda _, counter: ((counter(1).as_uri(),), {"start_ms": 2, "end_ms": 1}),
    ),
    "a private address": ("forbidden_address", lambda *_: (("http://127.0.0.1:1/a.wav",), {})),
    "an unknown model": (
        "unknown_model",
        lambda _, counter: ((counter(1).as_uri(),), {"model": "parrot-1", "pace": 0}),
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_fails_at_once_with_a_code(threads: Site, counter: Counter, name: str, marker: str) -> None:
    code, make = BAD[name]
    args, options = make(threads, counter)
    if name != "an unknown model":
        options = options | {"parameters": {"marker": marker}}

    found, sentence = threads.failure(*args, **options)

    assert found == code
    assert sentence.endswith(".") and "Traceback" not in sentence and len(sentence) < 400
    assert threads.tasks(marker) == []


@pytest.mark.parametrize("pool", ["prefork", "gevent", "solo"])
def test_bad_input_fails_alike_under_every_pool(sites: Callable[..., Site], pool: str) -> None:
    site = sites(pool)

    assert site.failure((site.folder / "none.wav").as_uri())[0] == "audio_not_found"
    assert site.failure(pace="fast")[0] == "bad_request"


def test_bad_input_is_not_tried_again_and_harms_no_other_job(threads: Site, counter: Counter) -> None:
    good = [threads.send(counter(1).as_uri(), pace=0) for _ in range(2)]
    bad = threads.send((threads.folder / "none.wav").as_uri())
    more = threads.send(counter(1).as_uri(), pace=0)

    bad.get(timeout=30, propagate=False)
    assert all(job.get(timeout=30)["text"] == "0-15999" for job in [*good, more])
    assert threads.record(bad.id).get("attempts", "1") == "1"


def test_a_server_that_says_nothing_ends_in_seconds(sites: Callable[..., Site], mute_server: int) -> None:
    site = sites("threads", STENOPOOL_AUDIO_ALLOW_PRIVATE="true", STENOPOOL_AUDIO_READ_TIMEOUT="1")

    code, sentence = site.failure(f"http://127.0.0.1:{mute_server}/call.mp3?signature=secret")

    assert code == "audio_timeout"
    assert "secret" not in sentence


def test_a_missing_page_is_a_missing_recording(sites: Callable[..., Site], stack: Any) -> None:
    site = sites("threads", STENOPOOL_AUDIO_ALLOW_PRIVATE="true", STENOPOOL_AUDIO_READ_TIMEOUT="1")

    code, _ = site.failure(f"{stack.http_url}/no/such/call.mp3")

    assert code == "audio_not_found"


def test_without_a_key_every_job_says_so(sites: Callable[..., Site], counter: Counter) -> None:
    site = sites("threads", DASHSCOPE_API_KEY="")

    code, sentence = site.failure(counter(1).as_uri())

    assert code == "missing_api_key"
    assert "DASHSCOPE_API_KEY" in sentence


def test_a_wrong_key_is_said_and_not_shown(sites: Callable[..., Site], counter: Counter) -> None:
    site = sites("threads", DASHSCOPE_API_KEY="sk-very-wrong")

    code, sentence = site.failure(counter(1).as_uri())

    assert code == "unauthorized"
    assert "sk-very-wrong" not in sentence + site.worker.output


def test_a_damaged_start_of_a_silent_file_is_not_a_hang(threads: Site, wav: Callable[..., Path]) -> None:
    path = wav(array("h", bytes(32_000)))
    path.write_bytes(path.read_bytes()[:30])

    code, _ = threads.failure(path.as_uri())

    assert code in {"not_audio", "truncated_audio", "damaged_audio", "no_audio_stream"}


def test_other_jobs_go_on_while_a_server_says_nothing(
    sites: Callable[..., Site], mute_server: int, counter: Counter
) -> None:
    site = sites("threads", STENOPOOL_AUDIO_ALLOW_PRIVATE="true", STENOPOOL_AUDIO_READ_TIMEOUT="1")
    stuck = threading.Thread(target=site.failure, args=(f"http://127.0.0.1:{mute_server}/a.wav",))
    stuck.start()

    assert site.transcribe(counter(1).as_uri(), pace=0)["text"] == "0-15999"
    stuck.join(30)
    assert not stuck.is_alive()
