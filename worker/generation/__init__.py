"""Text models over pooled HTTP: a prompt in, an answer out."""

from worker.generation.client import Client
from worker.generation.errors import Garbled, Lost, Unanswered, Unreachable
from worker.generation.limits import REQUESTS, Limits
from worker.generation.messages import Answer, Caller, Prompt, Reply, decode

__all__ = [
    "Answer",
    "Caller",
    "Client",
    "Garbled",
    "Limits",
    "Lost",
    "Prompt",
    "REQUESTS",
    "Reply",
    "Unanswered",
    "Unreachable",
    "decode",
]
