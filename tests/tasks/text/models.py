"""A stand-in of the process's client of text models, whose every request ends as a test says."""

import json
import time
from collections.abc import Callable
from concurrent.futures import Future

from worker.generation import Caller, Prompt, Reply


def said(text: str, reason: str = "stop") -> Reply:
    """A reply with this answer, of one token for each word, and why it ended."""
    choice = {"finish_reason": reason, "message": {"content": text}}
    usage = {"input_tokens": 1, "output_tokens": len(text.split())}
    return Reply(status=200, body=json.dumps({"output": {"choices": [choice]}, "usage": usage}).encode())


def refused(status: int, code: str = "", retry_after: float | None = None) -> Reply:
    return Reply(status=status, body=json.dumps({"code": code}).encode(), retry_after=retry_after)


class Models:
    """Ends a request at once with what `script` has for its text, first to last, the last for ever: a reply, or an
    error; None leaves it under way. What it has nothing for is answered by its own text in capitals.

    `room` is how many may be under way.
    """

    def __init__(self, room: int = 32, **script: list[Reply | Exception | None]) -> None:
        self.room = room
        self.script = script
        self.texts: list[str] = []
        self.alone: list[bool] = []
        self.under_way: list[Future[Reply]] = []
        self.most = 0
        self.on_begin: Callable[[], None] = lambda: None

    def begin(self, prompt: Prompt, caller: Caller, *, alone: bool, patience: float) -> "Future[Reply] | None":
        self.on_begin()
        self.under_way = [future for future in self.under_way if not future.done()]
        if len(self.under_way) >= self.room:
            return None
        self.texts.append(prompt.text)
        self.alone.append(alone)
        future: Future[Reply] = Future()
        script = self.script.get(prompt.text)
        end = said(prompt.text.upper()) if script is None else script.pop(0) if len(script) > 1 else script[0]
        if isinstance(end, Exception):
            future.set_exception(end)
        elif end is not None:
            future.set_result(end)
        else:
            self.under_way.append(future)
            self.most = max(self.most, len(self.under_way))
        return future

    def await_open(self) -> "Future[Reply]":
        """The request that is under way, as soon as there is one."""
        until = time.monotonic() + 10.0
        while not (found := [future for future in self.under_way if not future.done()]):
            assert time.monotonic() < until, "nothing is asked"
            time.sleep(0.001)
        return found[0]
