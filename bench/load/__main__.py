"""python -m bench.load"""

import argparse
import gc
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.load.script import Script
from bench.load.server import Server


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description="A cheap stand-in of the service.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (%(default)s)")
    parser.add_argument("--certificate", type=Path, metavar="PEM", help="speak wss, with this key and certificate")
    parser.add_argument(
        "--final-every", type=float, default=3.0, metavar="SECONDS", help="a final after so much audio (%(default)g)"
    )
    parser.add_argument(
        "--first-after", type=float, default=0.25, metavar="SECONDS", help="of a task, its first event (%(default)g)"
    )
    options = parser.parse_args(argv)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    server = Server(options.port, options.certificate, Script(options.final_every, options.first_after))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    print(f"listening on {server.url}, figures on {server.figures_url}", flush=True)
    gc.freeze()
    server.serve()
    server.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
