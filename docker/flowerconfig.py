"""Flower's configuration, for `celery -A worker.app flower --conf=docker/flowerconfig.py`."""

from typing import Any

from config.logs import redacted

# Flower shows the jobs and can stop them: it listens beyond this machine only when told so (`--address`).
address = "127.0.0.1"
port = 5555
max_tasks = 10_000
tasks_columns = "uuid,state,args,received,runtime,worker"


def format_task(task: Any) -> Any:
    """Workers redact what they report; clients report what they sent, and that may hold signed addresses."""
    task.args, task.kwargs = (redacted(text) if isinstance(text, str) else text for text in (task.args, task.kwargs))
    return task
