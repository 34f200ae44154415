"""What parts of the fleet tell of themselves, flat: figures and a few names; and those of several parts as one."""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

Figures = Mapping[str, str | int | float]

WORST: Final = ("_max", "_p50", "_p95", "_share")
"""How times and shares are called, which cannot be summed: of them the worst counts."""


def number(figures: Figures, name: str) -> int | float:
    """A figure; 0 where a part has none: a process that reported may be of another version."""
    value = figures.get(name, 0)
    return 0 if isinstance(value, str) else value


def merged(parts: Collection[Figures], names: Iterable[str]) -> dict[str, int | float]:
    """The figures of these names of all parts, of which there is one at least, as one."""
    return {name: (max if name.endswith(WORST) else sum)(number(part, name) for part in parts) for name in names}
