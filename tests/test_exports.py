"""What a package says it exports is what it has, and is documented."""

import importlib
import inspect

import pytest

PACKAGES = ["tasks.audio", "worker.generation", "worker.pool", "worker.recognition"]


@pytest.mark.parametrize("name", PACKAGES)
def test_every_exported_name_exists_and_says_what_it_is(name: str) -> None:
    package = importlib.import_module(name)
    assert package.__all__ == sorted(package.__all__)
    for exported in package.__all__:
        thing = getattr(package, exported)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), f"{name}.{exported} has no docstring"
