import io
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest

from tasks.audio.limits import AudioLimits
from tasks.audio.reference import SCHEMES, AudioReference
from tasks.audio.sources import OPENERS, AudioFile, LocalFile, _check_opened, open_source
from tasks.errors import BadInput, Unavailable
from worker.http import HttpPool


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "calls"
    folder.mkdir()
    (folder / "a b.wav").write_bytes(b"sound")
    (tmp_path / "secret.wav").write_bytes(b"secret")
    return folder


def read(path: object, roots: Sequence[Path], limits: AudioLimits | None = None) -> bytes:
    reference = AudioReference.parse(f"file://{path}")
    with open_source(reference, roots=roots, http=HttpPool(), limits=limits) as file:
        assert file.seekable() and file.size is not None
        return file.read(file.size)


def refusal(path: object, roots: Sequence[Path], limits: AudioLimits | None = None) -> BadInput:
    with pytest.raises(BadInput) as caught:
        read(path, roots, limits)
    return caught.value


def test_a_file_inside_a_root_is_read(root: Path, tmp_path: Path) -> None:
    assert read(f"{root}/a%20b.wav", [tmp_path / "other", root]) == b"sound"


def test_a_root_may_be_a_link_itself(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert read(f"{tmp_path}/link/a b.wav", [tmp_path / "link"]) == b"sound"


@pytest.mark.parametrize(
    "way", ["secret.wav", "calls/../secret.wav", "calls/%2e%2e/secret.wav", "callsnot/x", "missing.wav", "."]
)
def test_outside_the_roots_everything_sounds_the_same(root: Path, tmp_path: Path, way: str) -> None:
    error = refusal(f"{tmp_path}/{way}", [root])
    assert error.code == "forbidden_path"
    assert error.sentence.endswith("lies outside STENOPOOL_AUDIO_ROOTS; move it there or add its folder.")


@pytest.mark.parametrize("target", ["secret.wav", "missing.wav"])
def test_a_link_out_of_the_roots_is_not_followed(root: Path, tmp_path: Path, target: str) -> None:
    (root / "link.wav").symlink_to(tmp_path / target)
    (root / "folder").symlink_to(tmp_path)
    assert refusal(root / "link.wav", [root]).code == "forbidden_path"
    assert refusal(root / "folder" / target, [root]).code == "forbidden_path"


def test_a_link_inside_the_roots_is_followed(root: Path) -> None:
    (root / "link.wav").symlink_to("a b.wav")
    assert read(root / "link.wav", [root]) == b"sound"


def test_without_roots_the_setting_is_named(root: Path) -> None:
    error = refusal(root / "a b.wav", [])
    assert (error.code, "set STENOPOOL_AUDIO_ROOTS" in error.sentence) == ("forbidden_path", True)


@pytest.mark.parametrize("name", ["missing.wav", "a b.wav/more", "n" * 300])
def test_what_is_missing_is_named(root: Path, name: str) -> None:
    error = refusal(root / name, [root])
    assert (error.code, name in error.sentence) == ("audio_not_found", True)


def test_a_circle_of_links_ends(root: Path) -> None:
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("one")
    assert refusal(root / "one", [root]).code in ("not_a_file", "forbidden_path")


def test_only_regular_files_are_opened(root: Path) -> None:
    os.mkfifo(root / "pipe")
    for path, roots in ((root, [root]), (root / "pipe", [root]), ("/dev/zero", [Path("/dev")])):
        assert refusal(path, roots).code == "not_a_file"


@pytest.mark.parametrize(("swapped", "code"), [("secret.wav", "forbidden_path"), ("calls", "not_a_file")])
def test_what_was_swapped_between_the_look_and_the_opening_is_refused(
    root: Path, tmp_path: Path, swapped: str, code: str
) -> None:
    descriptor = os.open(tmp_path / swapped, os.O_RDONLY)
    try:
        with pytest.raises(BadInput) as caught:
            _check_opened(descriptor, str(root / "a b.wav"), "file:///a", [root])
    finally:
        os.close(descriptor)
    assert caught.value.code == code


def test_an_empty_file_is_refused(root: Path) -> None:
    (root / "empty").touch()
    assert refusal(root / "empty", [root]).code == "empty_audio"


def test_a_file_without_the_right_to_read_it_is_named(root: Path) -> None:
    (root / "a b.wav").chmod(0)
    root.parent.chmod(0o755)
    mighty = os.geteuid() == 0
    try:
        if mighty:
            root.chmod(0)
            os.seteuid(65534)
        assert refusal(root / "a b.wav", [root]).code == "audio_unreadable"
    finally:
        if mighty:
            os.seteuid(0)
            root.chmod(0o755)


@pytest.mark.parametrize(("allowed", "fits"), [(4, False), (5, True)])
def test_a_file_may_be_as_large_as_allowed(root: Path, allowed: int, fits: bool) -> None:
    limits = AudioLimits(max_bytes=allowed)
    if fits:
        assert read(root / "a b.wav", [root], limits) == b"sound"
    else:
        assert refusal(root / "a b.wav", [root], limits).code == "audio_too_large"


def test_a_disk_that_fails_midway_is_worth_another_try() -> None:
    # The kernel answers a read at address 0 of our own memory with an input/output error.
    with closing(LocalFile(os.open("/proc/self/mem", os.O_RDONLY), "file:///a", 10)) as file:
        with pytest.raises(Unavailable) as caught:
            file.read(10)
    assert caught.value.code == "audio_interrupted"


@pytest.mark.parametrize(
    ("offset", "whence", "place"), [(2, io.SEEK_SET, 2), (1, io.SEEK_CUR, 2), (-1, io.SEEK_END, 4)]
)
def test_a_file_is_read_from_any_place(root: Path, offset: int, whence: int, place: int) -> None:
    reference = AudioReference.parse(f"file://{root}/a b.wav")
    with open_source(reference, roots=[root], http=HttpPool()) as file:
        assert file.read(1) == b"s"
        assert file.seek(offset, whence) == place == file.tell()
        assert file.read(10) == b"sound"[place:]
        assert file.read(10) == b""


def test_a_read_never_moves_what_others_read_of_the_descriptor(root: Path) -> None:
    descriptor = os.open(root / "a b.wav", os.O_RDONLY)
    with closing(LocalFile(descriptor, "file:///a", 5)) as file:
        assert file.read(5) == b"sound"
        assert os.lseek(descriptor, 0, os.SEEK_CUR) == 0


def test_nothing_stays_open(root: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    read(root / "a b.wav", [root])
    refusal(root / "missing", [root])
    refusal(root, [root])
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("name", ["max_bytes", "max_seconds", "connect_timeout", "read_timeout"])
def test_a_limit_of_zero_is_a_mistake(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        AudioLimits(**{name: 0})
    assert (AudioLimits().max_bytes, AudioLimits().max_seconds) == (4 * 1024**3, 43200)


# ------------------------------------------------------------------------------------------------------ without a wait


def test_what_memory_holds_of_a_file_can_be_had_without_a_wait(root: Path) -> None:
    (root / "long").write_bytes(bytes(range(256)) * 400)  # just written: in memory
    with open_source(AudioReference.parse(f"file://{root}/long"), roots=[root], http=HttpPool()) as file:
        taken = file.read(10)
        while more := file.ready(999):
            assert len(more) <= 999
            taken += more
        assert taken == bytes(range(256)) * 400
        file.seek(300)
        assert file.ready(2) == bytes([300 % 256, 301 % 256])


@pytest.mark.parametrize("error", [BlockingIOError(), OSError(95, "not supported")])
def test_what_would_have_to_be_waited_for_is_left_to_a_reader(
    root: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def preadv(*given: object) -> int:
        raise error

    monkeypatch.setattr(os, "preadv", preadv)
    with open_source(AudioReference.parse(f"file://{root}/a b.wav"), roots=[root], http=HttpPool()) as file:
        assert file.ready(100) == b""
        assert file.read(100) == b"sound"


def test_a_system_that_cannot_say_so_has_nothing_ready(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.audio.sources._WITHOUT_WAIT", None)
    with open_source(AudioReference.parse(f"file://{root}/a b.wav"), roots=[root], http=HttpPool()) as file:
        assert file.ready(100) == b""


def test_a_file_that_was_closed_has_nothing_ready(root: Path) -> None:
    with open_source(AudioReference.parse(f"file://{root}/a b.wav"), roots=[root], http=HttpPool()) as file:
        pass
    assert file.ready(100) == b""


# ------------------------------------------------------------------------------------------- with the reference itself


def inline(text: str, limits: AudioLimits | None = None) -> AbstractContextManager[AudioFile]:
    return open_source(AudioReference.parse(text), roots=(), http=HttpPool(), limits=limits)


def test_a_recording_that_came_with_its_job_is_read_from_any_place() -> None:
    with inline("data:audio/wav;base64,c291bmQ=") as file:
        assert (file.size, file.seekable(), file.shown) == (5, True, "data:audio/wav,…")
        assert (file.ready(2), file.read(10)) == (b"so", b"und")
        assert (file.seek(-1, io.SEEK_END), file.tell(), file.read(10), file.ready(10)) == (4, 4, b"d", b"")


def test_a_reference_without_bytes_is_an_empty_recording() -> None:
    with pytest.raises(BadInput) as caught, inline("data:,"):
        raise AssertionError("opened")
    assert (caught.value.code, "data:…" in caught.value.sentence) == ("empty_audio", True)


@pytest.mark.parametrize(("allowed", "fits"), [(4, False), (5, True)])
def test_a_recording_that_came_with_its_job_is_bounded_too(allowed: int, fits: bool) -> None:
    if fits:
        with inline("data:,sound", AudioLimits(max_bytes=allowed)) as file:
            assert file.read(10) == b"sound"
    else:
        with pytest.raises(BadInput) as caught, inline("data:,sound", AudioLimits(max_bytes=allowed)):
            raise AssertionError("opened")
        assert caught.value.code == "audio_too_large"


def test_each_scheme_has_its_opener() -> None:
    assert set(OPENERS) == set(SCHEMES)
