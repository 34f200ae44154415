"""A client without manners, and audio whose order can be read off."""

import json
import uuid
from typing import Any

import numpy
import websocket

SECOND = 32000  # bytes of 16-bit audio at 16 kHz


def counter(samples: int, first: int = 1) -> bytes:
    """Audio whose samples count up, modulo 65536."""
    return ((numpy.arange(samples) + first) % 65536).astype("<u2").tobytes()


def run_task(task_id: str, **changes: Any) -> dict[str, Any]:
    """A good run-task; `changes` replace payload fields, None removes one."""
    payload: dict[str, Any] = {
        "task_group": "audio",
        "task": "asr",
        "function": "recognition",
        "model": "paraformer-realtime-v2",
        "parameters": {"format": "pcm", "sample_rate": 16000},
        "input": {},
    } | changes
    payload = {name: value for name, value in payload.items() if value is not None}
    return {"header": {"action": "run-task", "task_id": task_id, "streaming": "duplex"}, "payload": payload}


def command(action: str, task_id: str) -> dict[str, Any]:
    return {"header": {"action": action, "task_id": task_id, "streaming": "duplex"}, "payload": {"input": {}}}


class Client:
    """A plain WebSocket client that does what it is told, right or wrong."""

    def __init__(self, url: str, key: str = "secret-key", **options: Any) -> None:
        self.ws = websocket.create_connection(url, timeout=10, header=[f"Authorization: Bearer {key}"], **options)
        self.task_id = ""

    def send(self, message: dict[str, Any]) -> None:
        self.ws.send(json.dumps(message))

    def start(self, task_id: str | None = None, **changes: Any) -> str:
        self.task_id = task_id or uuid.uuid4().hex
        self.send(run_task(self.task_id, **changes))
        return self.task_id

    def begin(self, **changes: Any) -> str:
        self.start(**changes)
        assert self.event() == "task-started"
        return self.task_id

    def audio(self, data: bytes, size: int = 3200) -> None:
        for at in range(0, len(data), size):
            self.ws.send_binary(data[at : at + size])

    def finish(self) -> None:
        self.send(command("finish-task", self.task_id))

    def receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.ws.recv())
        return message

    def event(self) -> str:
        return str(self.receive()["header"]["event"])

    def until_end(self) -> list[dict[str, Any]]:
        """All events up to the task's last one."""
        events = [self.receive()]
        while events[-1]["header"]["event"] not in ("task-finished", "task-failed"):
            events.append(self.receive())
        return events

    def failure(self) -> tuple[str, str]:
        header = self.until_end()[-1]["header"]
        assert header["event"] == "task-failed"
        return header["error_code"], header["error_message"]

    def close_code(self) -> int:
        opcode, data = self.ws.recv_data()
        assert opcode == websocket.ABNF.OPCODE_CLOSE
        return int.from_bytes(data[:2], "big")

    def finals(self) -> list[str]:
        sentences = [event["payload"]["output"].get("sentence", {}) for event in self.until_end()]
        return [sentence["text"] for sentence in sentences if sentence.get("sentence_end")]

    def transcribe(self, data: bytes) -> list[str]:
        self.begin()
        self.audio(data)
        self.finish()
        return self.finals()
