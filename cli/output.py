"""What is said on stderr, and transcripts in the form that was asked for."""

import json
import os
import sys
from collections.abc import Callable
from typing import NoReturn

import click
from rich.console import Console

from cli.board import Line
from tasks.transcript.captions import FORMS, render

FORMATS = (FORMS[0], "json", *FORMS[1:])
"""What a transcript can be given out as."""

MANY = 20
"""Recordings. Of more than so many not each one is told about."""

Write = Callable[[Line], None]
"""Gives out one job's transcript."""

stderr = Console(stderr=True, highlight=False)


def fail(sentence: str, code: int = 1) -> NoReturn:
    """Say what is wrong on stderr and leave."""
    tell(sentence, style="red")
    sys.exit(code)


def tell(sentence: str, style: str = "") -> None:
    """A sentence on stderr, on one line however narrow the terminal, so that what it names can be copied."""
    stderr.print(sentence, style=style, markup=False, soft_wrap=True)


def rendered(line: Line, form: str) -> str:
    """A result as a file of this form."""
    result = line.fields["result"]
    return result + "\n" if form == "json" else render(form, json.loads(result)["sentences"])


def to_stdout(form: str, *, headed: bool) -> Write:
    """Print results; several get a heading each, but several JSON results are a line each."""

    def write(line: Line) -> None:
        heading = f"== {line.job.name}\n" if headed and form != "json" else ""
        try:
            click.echo(heading + rendered(line, form), nl=False)
        except BrokenPipeError:
            raise  # who reads it has seen enough
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else what is left fails again at the end
            not_written(line, "The output", error)

    return write


def not_written(line: Line, what: str, error: OSError) -> NoReturn:
    """Leave: a transcript cannot be given out. It is paid for and stays in Redis; the way to it is said."""
    kept = f"The transcript is kept: stenopool watch {line.job.id}"
    fail(f"{what} cannot be written: {error.strerror}. {kept}")
