"""What tells a recording from others."""

from hashlib import sha256
from pathlib import Path

import pytest

from tasks.audio.digest import digest
from tasks.audio.limits import AudioLimits
from tasks.audio.reference import AudioReference
from worker.http import HttpPool

SOUND = bytes(range(256)) * 4000
SHA256 = sha256(SOUND).hexdigest()


def digest_of(path: Path, check: object = None) -> str:
    reference = AudioReference.parse(path.as_uri())
    asked = check if callable(check) else lambda: None
    return digest(reference, asked, roots=[path.parent], http=HttpPool(), limits=AudioLimits())


@pytest.mark.parametrize(
    ("name", "told"), [("a.wav", SHA256), ("b", SHA256), ("a.ul", f"{SHA256}.ul"), ("a.G722", f"{SHA256}.g722")]
)
def test_it_is_all_bytes_and_the_ending_where_only_that_says_what_they_mean(
    tmp_path: Path, name: str, told: str
) -> None:
    (tmp_path / name).write_bytes(SOUND)
    assert digest_of(tmp_path / name) == told


def test_it_can_be_ended_on_the_way(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(SOUND)
    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        digest_of(tmp_path / "a.wav", check)
