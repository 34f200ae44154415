"""python -m bench.load: a cheap stand-in of the recognition service, for load, that judges how late the audio comes.

The emulator knows the service's rules and says whatever it could say; this one knows the good case only, and does
little more per frame of audio than to receive it.
"""

from bench.load.figures import Figures
from bench.load.server import Server

__all__ = ["Figures", "Server"]
