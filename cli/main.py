"""`stenopool`: transcribe, status, watch, doctor.

Progress goes to stderr, results to stdout; the exit code is 0 only if all went well.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import redis
from kombu.exceptions import OperationalError
from rich.console import Console

from cli.client import Client, Job, reference
from cli.doctor import examine
from cli.follow import Line, follow

stderr = Console(stderr=True, highlight=False)


def main() -> None:
    """The console script: faults that a user can mend become one sentence."""
    try:
        cli()
    except (redis.RedisError, OperationalError) as error:
        fail(
            f"Redis cannot be used ({type(error).__name__}); is it running at STENOPOOL_REDIS_URL? See stenopool doctor"
        )


def fail(sentence: str, code: int = 1) -> None:
    """Say what is wrong on stderr and leave."""
    stderr.print(sentence, style="red", markup=False)
    sys.exit(code)


def client() -> Client:
    """A client made from the settings; they are read here, so that `--help` needs none."""
    from config.settings import settings
    from worker.app import app
    from worker.runtime import redis_client

    return Client(app, redis_client(settings().redis.url), settings())


@click.group(help="Turn audio references into transcripts.")
@click.version_option(package_name="stenopool")
def cli() -> None:
    pass


@cli.command(help="Transcribe recordings: paths of this machine (inside STENOPOOL_AUDIO_ROOTS) or https: addresses.")
@click.argument("references", nargs=-1, required=True, metavar="REF...")
@click.option("--model", help="Recognition model.")
@click.option("--language", "languages", multiple=True, help="Language hint such as en; may be repeated.")
@click.option("--pace", type=click.FloatRange(0, 100), help="Audio seconds sent per second; 0 is as fast as possible.")
@click.option("--live", is_flag=True, help="Show the text while it is being spoken.")
@click.option("--format", "form", type=click.Choice(["txt", "json"]), default="txt", show_default=True)
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="Folder for one file a recording."
)
def transcribe(references: tuple[str, ...], form: str, output: Path | None, **given: Any) -> None:
    audio = [reference(text) for text in references]
    steno = client()
    jobs = [steno.send(one, options(**given)) for one in audio]
    for job in jobs:
        stderr.print(f"{job.name}: job {job.id}", style="dim", markup=False)
    deliver(steno, jobs, form, output)


def options(model: str | None, languages: tuple[str, ...], pace: float | None, live: bool) -> dict[str, Any]:
    """The task's options that were asked for; the rest stays the worker's default."""
    asked = {"model": model, "language_hints": list(languages) or None, "pace": pace, "live": live or None}
    return {name: value for name, value in asked.items() if value is not None}


@cli.command(help="Follow a job to its end and print its transcript.")
@click.argument("job_id", metavar="JOB")
@click.option("--format", "form", type=click.Choice(["txt", "json"]), default="txt", show_default=True)
def watch(job_id: str, form: str) -> None:
    steno = client()
    fields = known(steno, job_id)
    deliver(steno, [Job(job_id, fields.get("audio", ""), fields.get("audio", job_id).rsplit("/", 1)[-1])], form, None)


@cli.command(help="Print what is known of a job.")
@click.argument("job_id", metavar="JOB")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def status(job_id: str, as_json: bool) -> None:
    fields = known(client(), job_id)
    fields.pop("result", None)
    if as_json:
        click.echo(json.dumps(fields, ensure_ascii=False))
    else:
        width = max(map(len, fields))
        for name, value in fields.items():
            click.echo(f"{name:<{width}}  {value}")


@cli.command(help="Check settings, Redis, key and service, and say how to mend what is wrong.")
def doctor() -> None:
    sys.exit(0 if examine(stderr) else 1)


def known(steno: Client, job_id: str) -> dict[str, str]:
    """A job's record, or the end."""
    fields = steno.view(job_id).fields()
    if not fields:
        fail(f"Redis knows no job {job_id}: it has expired, has not started yet, or was never sent.")
    return fields


def deliver(steno: Client, jobs: list[Job], form: str, output: Path | None) -> None:
    """Follow jobs to their end, give out their transcripts, and leave with 1 if one failed."""
    try:
        lines = follow(steno, jobs, stderr)
    except KeyboardInterrupt:
        fail("The jobs go on. Come back with: " + "; ".join(f"stenopool watch {job.id}" for job in jobs), code=130)
        return
    write = to_folder(output, form) if output else to_stdout(form, headed=len(jobs) > 1)
    for line in lines:
        if line.fields["state"] == "succeeded":
            write(line)
        else:
            stderr.print(
                f"{line.job.name}: {line.fields.get('error', line.fields['state'])}", style="red", markup=False
            )
    sys.exit(0 if all(line.fields["state"] == "succeeded" for line in lines) else 1)


def to_stdout(form: str, *, headed: bool) -> Callable[[Line], None]:
    """Print results; several texts get a heading each, several JSON results a line each."""

    def write(line: Line) -> None:
        if headed and form == "txt":
            click.echo(f"== {line.job.name}")
        click.echo(rendered(line, form))

    return write


def to_folder(folder: Path, form: str) -> Callable[[Line], None]:
    """Write one file a recording, named after it."""
    folder.mkdir(parents=True, exist_ok=True)

    def write(line: Line) -> None:
        path = folder / f"{line.job.name}.{form}"
        path.write_text(rendered(line, form) + "\n", encoding="utf-8")
        stderr.print(f"wrote {path}", markup=False)

    return write


def rendered(line: Line, form: str) -> str:
    """A result as text or JSON."""
    result = line.fields["result"]
    return str(json.loads(result)["text"]) if form == "txt" else result
