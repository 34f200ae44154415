"""A place in a recording, as people write it."""

import re

import click

WRITTEN = re.compile(r"(?:\d{1,9}:){0,2}\d{1,9}(?:\.\d{1,9})?", re.ASCII)


def moment(context: click.Context, option: click.Parameter, value: str | None) -> int | None:
    """Milliseconds of what was given to an option: seconds, mm:ss or hh:mm:ss, with parts of a second.

    Raises:
        click.BadParameter: it is nothing of that kind.
    """
    if value is None:
        return None
    parts = [float(part) for part in value.split(":")] if WRITTEN.fullmatch(value) else []
    if not parts or any(part >= 60 for part in parts[1:]):
        raise click.BadParameter(f"{value!r} is no place in a recording; write seconds, mm:ss or hh:mm:ss.")
    return round(1000 * sum(part * unit for part, unit in zip(reversed(parts), (1, 60, 3600), strict=False)))
