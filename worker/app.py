"""The Celery object: `celery -A worker.app worker`. Names its tasks by string; imports none."""

from celery import Celery

from config.celeryconfig import celery_options
from config.settings import SettingsError, settings
from worker import lifecycle, steps

__all__ = ["app", "lifecycle"]


def _create() -> Celery:
    try:
        options = celery_options(settings())
    except SettingsError as error:
        raise SystemExit(f"stenopool cannot start:\n{error}") from None
    made = Celery("stenopool", include=["tasks.transcribe", "tasks.diagnose", "tasks.generate", "tasks.notify"])
    made.config_from_object(options)
    steps.install(made)
    return made


app = _create()
