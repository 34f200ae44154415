"""Flower, started as the Procfile does, shows the jobs."""

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emulator.stack import free_port

Site = Any


def test_flower_shows_a_job_redacted(
    sites: Callable[..., Site], counter: Callable[[float], Path], eventually: Callable[..., None]
) -> None:
    site = sites("threads")
    port = free_port()
    command = [sys.executable, "-m", "celery", "-A", "worker.app", "flower", "--conf=docker/flowerconfig.py"]
    env = site.env | {"FLOWER_UNAUTHENTICATED_API": "true"}
    flower = site.stack.run("flower", [*command, f"--port={port}"], env)
    address = f"http://127.0.0.1:{port}"
    eventually(lambda: workers(address), "Flower sees the worker", timeout=60)

    result = site.transcribe(counter(1).as_uri(), pace=0, metadata={"customer": "Mrs Miller"})

    eventually(lambda: shown(address, result["job_id"]).get("state") == "SUCCESS", "Flower shows the job's end")
    task = shown(address, result["job_id"])
    assert task["name"] == "tasks.transcribe"
    assert result["audio"] in task["args"] and result["job_id"] in task["result"]
    assert "Miller" not in json.dumps(task) and "0-15999" not in json.dumps(task)
    assert flower.stop() in (0, -15)


def read(address: str) -> Any:
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return json.load(answer)
    except (urllib.error.URLError, ConnectionError):
        return {}


def workers(address: str) -> Any:
    return read(f"{address}/api/workers?refresh=true")


def shown(address: str, job_id: str) -> Any:
    return read(f"{address}/api/task/info/{job_id}")
