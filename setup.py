"""Makes the way of a chunk of audio C extensions where STENOPOOL_COMPILE=1 asks for it; pyproject.toml has the rest."""

import os
import shutil

from setuptools import setup

COMPILED = {
    "tasks/audio": ("pacing", "plain", "sources", "tap"),
    "worker/recognition": (
        "conversation",
        "flow",
        "frames",
        "load",
        "messages",
        "parsing",
        "reactor",
        "session",
        "transport",
        "wire",
    ),
}


def extensions() -> list[object]:
    if os.environ.get("STENOPOOL_COMPILE") != "1":
        return []
    from mypyc.build import mypycify

    shutil.rmtree("build", ignore_errors=True)  # what an earlier list of modules left there would be packed, too

    # What the modules of a folder share is a library of its own in that folder, and not beside it.
    groups = [
        ([f"{folder}/{name}.py" for name in names], f"{folder.replace('/', '.')}.compiled")
        for folder, names in COMPILED.items()
    ]
    return list(mypycify([path for paths, _ in groups for path in paths], opt_level="3", separate=groups))


if __name__ == "__main__":
    setup(ext_modules=extensions())
