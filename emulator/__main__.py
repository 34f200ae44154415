"""python -m emulator: run the emulator until SIGTERM or SIGINT."""

import argparse
import asyncio
import signal
import ssl
import sys
from collections.abc import Sequence

from emulator.engines import Engine
from emulator.engines.script import ScriptEngine
from emulator.limits import Limits
from emulator.server import INFERENCE_PATH, Server

__all__ = ["main"]

DEFAULTS = Limits()


class Unusable(Exception):
    """The command cannot run; the text says why, in one sentence."""


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0 after a signal, 1 when it cannot start; wrong flags exit with 2."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        limits = _limits(options)
    except ValueError as exc:
        parser.error(str(exc))
    try:
        server = Server(_engine(options), limits, options.api_key, _tls(options), options.keep_audio)
        asyncio.run(_serve(server, options))
    except Unusable as exc:
        print(f"emulator: {exc}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m emulator",
        description="A local emulator of DashScope real-time recognition and text generation.",
        epilog="A limit of 0 is no limit.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8095, help="port, 0 for any free one (%(default)s)")
    parser.add_argument("--engine", choices=("script", "moonshine"), default="script", help="(%(default)s)")
    parser.add_argument("--sentence-ms", type=int, default=1000, help="script engine: length of a sentence")
    parser.add_argument("--api-key", help="accept this key only; by default any key that is not empty")
    parser.add_argument("--certificate", help="PEM file with the certificate chain: serve wss and https")
    parser.add_argument("--key", help="PEM file with the certificate's private key")
    parser.add_argument("--keep-audio", action="store_true", help="keep every task's audio in memory")
    _add_limits(parser)
    return parser


def _add_limits(parser: argparse.ArgumentParser) -> None:
    limits = parser.add_argument_group("limits")
    for flag, default, text in (
        ("--idle-seconds", DEFAULTS.idle_seconds, "close a connection so long after its last task"),
        ("--no-data-seconds", DEFAULTS.no_data_seconds, "fail a task that gets no data for so long"),
        ("--silence-seconds", DEFAULTS.silence_seconds, "fail a task after so much silent audio"),
        ("--first-task-seconds", 0.0, "close a connection that starts no task for so long"),
        ("--penalty-seconds", 0.0, "after one start or upgrade over its rate, refuse all of them for so long"),
    ):
        limits.add_argument(flag, type=float, default=default, help=f"{text} (%(default)s)")
    limits.add_argument("--heartbeat-seconds", type=float, default=DEFAULTS.heartbeat_seconds, help="(%(default)s)")
    limits.add_argument("--starts-per-second", type=int, default=DEFAULTS.starts_per_second, help="(%(default)s)")
    limits.add_argument("--opens-per-second", type=int, default=0, help="upgrades for each account (%(default)s)")
    limits.add_argument("--max-streams", type=int, default=0, help="tasks at once for each account (%(default)s)")
    limits.add_argument("--close-code", type=int, default=DEFAULTS.close_code, help="after task-failed (%(default)s)")


def _limits(options: argparse.Namespace) -> Limits:
    return Limits(
        idle_seconds=options.idle_seconds or None,
        no_data_seconds=options.no_data_seconds or None,
        silence_seconds=options.silence_seconds or None,
        first_task_seconds=options.first_task_seconds or None,
        heartbeat_seconds=options.heartbeat_seconds,
        starts_per_second=options.starts_per_second or None,
        opens_per_second=options.opens_per_second or None,
        penalty_seconds=options.penalty_seconds or None,
        max_streams=options.max_streams or None,
        close_code=options.close_code,
    )


def _engine(options: argparse.Namespace) -> Engine:
    if options.engine == "script":
        try:
            return ScriptEngine(options.sentence_ms)
        except ValueError as exc:
            raise Unusable(str(exc)) from exc
    try:
        # Only here: the package is large and the script engine does without it.
        from emulator.engines.moonshine import MoonshineEngine

        return MoonshineEngine()
    except (ImportError, OSError) as exc:
        raise Unusable(f"the moonshine engine needs the package moonshine-voice==0.0.73 ({exc})") from exc


def _tls(options: argparse.Namespace) -> ssl.SSLContext | None:
    if not options.certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(options.certificate, options.key)
    except OSError as exc:
        raise Unusable(f"cannot use the certificate {options.certificate}: {exc}") from exc
    return context


async def _serve(server: Server, options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        port = await server.start(options.host, options.port)
    except (OSError, OverflowError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise Unusable(f"cannot listen on {options.host}:{options.port}: {reason}") from exc
    scheme = "wss" if options.certificate else "ws"
    where = f"{scheme}://{options.host}:{port}{INFERENCE_PATH}"
    print(f"emulator listening on {where} (engine {server.engine.name})", file=sys.stderr, flush=True)
    await stop.wait()
    await server.stop()


if __name__ == "__main__":
    sys.exit(main())
