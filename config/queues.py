"""The queues that workers listen to, and how they share what there is.

transcribe.interactive   somebody waits for the first word
transcribe               the default
transcribe.bulk          archives; may wait
celery                   where a client that knows nothing of ours sends
"""

from typing import Final

INTERACTIVE: Final = "transcribe.interactive"
QUEUE: Final = "transcribe"
"""Where our own clients send jobs."""
BULK: Final = "transcribe.bulk"
PLAIN_QUEUE: Final = "celery"
"""Where a Celery client that was configured with nothing but the broker's address sends jobs."""

QUEUES: Final = (INTERACTIVE, QUEUE, PLAIN_QUEUE, BULK)

CLASSES: Final = (INTERACTIVE, QUEUE, BULK)
"""Those with a share of their own. Jobs of any other queue belong to the default."""

WEIGHTS: Final = {INTERACTIVE: 8, QUEUE: 4, BULK: 1}
"""While jobs of all of them wait, of 13 that begin 8 are interactive, and 1 is bulk: nobody starves."""


def class_of(queue: str) -> str:
    """The class that a queue's jobs belong to."""
    return queue if queue in WEIGHTS else QUEUE


def weight(queue: str) -> int:
    return WEIGHTS[class_of(queue)]
