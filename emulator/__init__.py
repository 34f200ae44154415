"""A local stand-in for DashScope real-time recognition: the world outside. Imports nothing of ours."""

from emulator.background import BackgroundEmulator
from emulator.faults import Fault, Faults
from emulator.limits import Limits
from emulator.logbook import Logbook, TaskRecord

__all__ = ["BackgroundEmulator", "Fault", "Faults", "Limits", "Logbook", "TaskRecord"]
