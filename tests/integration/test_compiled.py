"""This layer runs what the image runs: the way of a chunk as C extensions (`make compiled`)."""

import importlib
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPILED: dict[str, tuple[str, ...]] = runpy.run_path(str(ROOT / "setup.py"), run_name="read")["COMPILED"]


@pytest.mark.parametrize("module", [f"{folder}/{name}" for folder, names in COMPILED.items() for name in names])
def test_a_module_on_the_way_of_a_chunk_is_compiled(module: str) -> None:
    found = importlib.import_module(module.replace("/", ".")).__file__
    assert found is not None and found.endswith(".so")
