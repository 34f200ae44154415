"""Celery shell of the self-test: one recognition end to end, from inside a worker."""

import contextlib
import time
from typing import Any

from celery import shared_task

from config.queues import INTERACTIVE
from tasks.errors import NotBegun, Unavailable
from tasks.job.request import JobRequest
from tasks.shell import JobTask
from tasks.stream import started, translated
from worker.quota import Wish
from worker.recognition import NoSpeech, Recognizer, hear_tone
from worker.runtime import runtime
from worker.stops import Stop

TIMEOUT = 60.0
"""Seconds for the whole test."""

NOTHING = "data:"
"""The audio of a test is made here; what is asked for is the rest of a job: model and parameters."""


@shared_task(base=JobTask, bind=True, name="tasks.diagnose", reject_on_worker_lost=False)
def diagnose(self: JobTask, /, *args: Any, **options: Any) -> dict[str, Any]:
    """Borrow a recogniser, let it hear a second of a tone, give it back; say how long each part took.

    Takes the options of a job, such as `model`, and no audio.

    Raises:
        JobError: what is wrong, and how to mend it.
    """
    request = JobRequest.parse((NOTHING, *args), options)
    house = runtime()
    begun = time.monotonic()
    stop, borrower = Stop(), f"diagnose {self.request.id}"
    wish = Wish(model=request.model, queue=INTERACTIVE, tenant=request.tenant, account=request.account)
    try:
        with translated(), house.accounts.place(wish, stop, lambda: None) as place:
            with place.recognizers.lease(TIMEOUT, borrower=borrower) as recognizer, started(place.slot, stop):
                leased, reused = time.monotonic(), recognizer.connected_at < begun
                recognise_tone(recognizer, request)
    except NotBegun:
        raise Unavailable("throttled", "The account's quota is in full use; ask again in a while.") from None
    return {
        "worker": self.request.hostname,
        "model": request.model,
        "reused_connection": reused,
        "borrow_ms": round(1000 * (leased - begun)),
        "recognition_ms": round(1000 * (time.monotonic() - leased)),
        "pool": house.accounts.stats(),
    }


def recognise_tone(recognizer: Recognizer, request: JobRequest) -> None:
    """One recognition of a second of a tone. It has no words; that the service took it to the end is the answer."""
    with contextlib.suppress(NoSpeech):
        hear_tone(
            recognizer,
            model=request.model,
            parameters=request.wire_parameters(),
            resources=request.wire_resources(),
            spacing=0.1,  # as a speaker would bring it
            deadline=time.monotonic() + TIMEOUT,
        )
