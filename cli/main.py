"""`stenopool`: transcribe, status, watch, cancel, pool, quota, doctor.

Progress goes to stderr, results to stdout; the exit code is 0 only if all went well.
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import redis
from kombu.exceptions import OperationalError
from rich.console import Console

from cli.batch import Batch
from cli.client import Client, Job, name_of
from cli.deliver import AGAIN, deliver
from cli.doctor import examine
from cli.follow import MOST, POLL
from cli.moment import moment
from cli.output import FORMATS, MANY, fail, tell, to_stdout
from cli.pool import NOBODY, look, table
from cli.pool import watch as watch_pool
from cli.quota import is_empty, nothing, picture, plain, view
from cli.quota import watch as watch_quota
from cli.references import Recording, recordings
from cli.screen import stdout
from config.queues import BULK, INTERACTIVE
from tasks.errors import BadInput, Unavailable
from tasks.job.keys import ENDED
from worker.report import Reports

TURNS = {"interactive": INTERACTIVE, "bulk": BULK}
"""The queues that one can ask for."""

CANCEL_TAKES = 5.0
"""Seconds to wait for a running job to end. It is asked once a second."""


def main() -> None:
    """The console script: faults that a user can mend become one sentence."""
    try:
        cli()
    except (redis.RedisError, OperationalError, Unavailable):
        fail("Redis cannot be used; is it running at STENOPOOL_REDIS_URL? See: stenopool doctor")
    except BadInput as error:
        fail(error.sentence)


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


@cli.command(
    short_help="Transcribe recordings.",
    help="Transcribe recordings. REF is a file or a folder of this machine (inside STENOPOOL_AUDIO_ROOTS), a pattern "
    "such as 'calls/**/*.mp3', an address such as https://host/call.mp3, @FILE for a list of all these, or - for one "
    "on stdin. With -o, the same command again goes on where it ended.",
)
@click.argument("references", nargs=-1, required=True, metavar="REF...")
@click.option("--model", help="Recognition model.")
@click.option("--language", "languages", multiple=True, help="Language hint such as en; may be repeated.")
@click.option("--start", "start_ms", metavar="TIME", callback=moment, help="Begin here: seconds, mm:ss or hh:mm:ss.")
@click.option("--end", "end_ms", metavar="TIME", callback=moment, help="End here.")
@click.option("--channels", type=click.Choice(["mix", "split"]), help="Each channel by itself, or all together.")
@click.option("--pace", type=click.FloatRange(0, 100), help="Audio seconds sent per second; 0 is as fast as possible.")
@click.option("--live", is_flag=True, help="Show the text while it is being spoken.")
@click.option("--queue", type=click.Choice(list(TURNS)), help="Jobs that somebody waits for, or that have time.")
@click.option("--tenant", help="For whom: tenants have their turns one after the other.")
@click.option("--account", help="Account of the service; by default the one with the most free quota.")
@click.option(
    "--format", "forms", type=click.Choice(FORMATS), multiple=True, help="By default txt; with -o may be repeated."
)
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="Folder for the files of each recording."
)
@click.option(
    "--jobs", "most", type=click.IntRange(1, 1000), default=MOST, show_default=True, help="Most jobs sent at a time."
)
def transcribe(
    references: tuple[str, ...], forms: tuple[str, ...], output: Path | None, queue: str | None, most: int, **given: Any
) -> None:
    wanted = list(dict.fromkeys(forms)) or ["txt"]
    if len(wanted) > 1 and not output:
        raise click.UsageError("Several forms need files; give a folder with -o.")
    asked, found, turn = options(**given), recordings(references), TURNS.get(queue or "")
    steno = client()
    if not output:
        write = to_stdout(wanted[0], headed=len(found) > 1)
        deliver(steno, sent(steno, found, asked, turn), write, total=len(found), most=most)
    with closing(Batch(steno, output, wanted, found, asked, turn)) as batch:
        left = len(batch.left)
        if left < len(found):
            tell(f"{len(found) - left} of {len(found)} were done before.")
        deliver(steno, batch.jobs(), batch.write, total=left, most=most, in_order=False, come_back=lambda _: AGAIN)


def options(languages: tuple[str, ...], live: bool, **asked: Any) -> dict[str, Any]:
    """The task's options that were asked for; the rest stays the worker's default."""
    if asked["end_ms"] is not None and asked["end_ms"] <= (asked["start_ms"] or 0):
        raise click.UsageError("--end must be later than --start.")
    asked |= {"language_hints": list(languages) or None, "live": live or None}
    return {name: value for name, value in asked.items() if value is not None}


def sent(steno: Client, found: Sequence[Recording], asked: Mapping[str, Any], queue: str | None) -> Iterator[Job]:
    """Each recording's job, sent as it is taken."""
    for recording in found:
        job = steno.send(recording.audio, dict(asked), queue, name=recording.name)
        if len(found) <= MANY:
            tell(f"{job.name}: job {job.id}", style="dim")
        yield job


@cli.command(help="Follow a job to its end and print its transcript.")
@click.argument("job_id", metavar="JOB")
@click.option("--format", "form", type=click.Choice(FORMATS), default="txt", show_default=True)
def watch(job_id: str, form: str) -> None:
    steno = client()
    fields = known(steno, job_id)
    audio = fields.get("audio", job_id)
    deliver(steno, [Job(job_id, audio, name_of(audio))], to_stdout(form, headed=False), total=1)


@cli.command(help="Print what is known of a job.")
@click.argument("job_id", metavar="JOB")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def status(job_id: str, as_json: bool) -> None:
    fields = known(client(), job_id)
    fields.pop("result", None)
    if as_json:
        click.echo(json.dumps({name: numeric(value) for name, value in fields.items()}, ensure_ascii=False))
    else:
        width = max(map(len, fields))
        for name, value in fields.items():
            click.echo(f"{name:<{width}}  {readable(name, value)}")


@cli.command(help="Stop a job. What it has transcribed so far is kept until it expires.")
@click.argument("job_id", metavar="JOB")
def cancel(job_id: str) -> None:
    steno = client()
    fields = steno.view(job_id).fields()
    if fields.get("state") in ENDED:
        fail(f"Nothing is left to cancel: the job is {fields['state']}.")
    steno.cancel(job_id)
    if fields.get("state") != "running":
        tell("The job is cancelled when its turn comes.")
    elif state_after(steno, job_id, CANCEL_TAKES) == "cancelled":
        tell("Cancelled.")
    else:
        tell("The job is asked to stop; see: stenopool status " + job_id)


def state_after(steno: Client, job_id: str, seconds: float) -> str | None:
    """A job's state as soon as it has ended, or what it is after so long."""
    until = time.monotonic() + seconds
    while (state := steno.view(job_id).fields().get("state")) not in ENDED and time.monotonic() < until:
        time.sleep(POLL)
    return state


def numeric(value: str) -> str | int | float:
    """A hash holds text; what is a number there is one in JSON."""
    try:
        return int(value) if value.isdecimal() else float(value)
    except ValueError:
        return value


def readable(name: str, value: str) -> str:
    """A moment in the hash is Unix seconds; people read a clock."""
    if not name.endswith(("_at", "_since")):
        return value
    return datetime.fromtimestamp(float(value)).astimezone().isoformat(" ", "seconds")


@cli.command(
    short_help="Show the recognisers of every process.",
    help="Show what the recognisers of every worker process do, and what limits it.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON, a list of all that each process reports.")
@click.option("--watch", "watching", is_flag=True, help="Draw the table each second, until Ctrl-C.")
def pool(as_json: bool, watching: bool) -> None:
    if as_json and watching:
        raise click.UsageError("--json prints once; leave out --watch.")
    reports = Reports(client().redis)
    if watching:
        with suppress(KeyboardInterrupt):
            watch_pool(reports, stdout())
        return
    found = look(reports)
    if as_json:
        click.echo(json.dumps([{"process": name, **report} for name, report in found.items()], ensure_ascii=False))
    elif found:
        console = stdout()
        console.print(table(found, console.width))
    if not found:
        fail(NOBODY)


@cli.command(
    short_help="Show the quota of every account.",
    help="Show what each account of the service may do, what all workers do with it, and who waits.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--watch", "watching", is_flag=True, help="Draw it each second, until Ctrl-C.")
def quota(as_json: bool, watching: bool) -> None:
    if as_json and watching:
        raise click.UsageError("--json prints once; leave out --watch.")
    looking = view(client().redis)
    if watching:
        with suppress(KeyboardInterrupt):
            watch_quota(looking, stdout())
        return
    found = looking.read(looking.names())
    if as_json:
        click.echo(json.dumps(plain(found), ensure_ascii=False))
    elif not is_empty(found):
        console = stdout()
        console.print(picture(found, console.width))
    if is_empty(found):
        fail(nothing(found))


@cli.command(
    short_help="Check what a worker needs.",
    help="Check settings, Redis, key and service, and say how to mend what is wrong.",
)
def doctor() -> None:
    sys.exit(0 if examine(Console(highlight=False, soft_wrap=True)) else 1)


def known(steno: Client, job_id: str) -> dict[str, str]:
    """A job's record, or the end."""
    fields = steno.view(job_id).fields()
    if not fields:
        fail(f"Redis knows no job {job_id}: it has expired, has not started yet, or was never sent.")
    return fields
