"""The text-generation endpoint: a deterministic answer, whole or as server-sent events; or what a fault makes of it."""

import asyncio
import json
import uuid
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from emulator.faults import Fault

__all__ = ["Question", "answer", "error_body", "reply", "spoilt", "until_gone"]

WORDS_REPEATED = 12


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: the last prompt, and how the answer is to be shaped."""

    prompt: str
    as_message: bool
    incremental: bool

    @classmethod
    def from_wire(cls, wire: object) -> "Question":
        """Read a request body. Raises ValueError that names the field."""
        body = wire if isinstance(wire, dict) else {}
        if not isinstance(body.get("model"), str):
            raise ValueError("Missing required parameter 'model'.")
        given = body.get("input")
        prompt = _prompt(given if isinstance(given, dict) else {})
        parameters = body.get("parameters") or {}
        as_message = parameters.get("result_format") == "message"
        return cls(prompt, as_message, parameters.get("incremental_output") is True)


def _prompt(given: dict[str, Any]) -> str:
    if isinstance(given.get("prompt"), str):
        return str(given["prompt"])
    messages = given.get("messages")
    if isinstance(messages, list) and messages and isinstance(messages[-1], dict):
        return str(messages[-1].get("content", ""))
    raise ValueError("Missing required parameter 'input.messages' or 'input.prompt'.")


def answer(prompt: str) -> str:
    """The emulator's answer: how long the prompt is, and its first dozen words."""
    words = prompt.split()
    return f"You said {len(words)} words: {' '.join(words[:WORDS_REPEATED])}"


def error_body(code: str, message: str) -> dict[str, str]:
    """An error as the HTTP side of the service words it."""
    return {"code": code, "message": message, "request_id": str(uuid.uuid4())}


def result_body(question: Question, text: str, said: str, done: bool, request_id: str) -> dict[str, Any]:
    """One answer, `text` of it in this body and `said` in all so far. Tokens are words."""
    reason = "stop" if done else "null"
    message = {"finish_reason": reason, "message": {"role": "assistant", "content": text}}
    output = {"choices": [message]} if question.as_message else {"text": text, "finish_reason": reason}
    asked, told = len(question.prompt.split()), len(said.split())
    usage = {"input_tokens": asked, "output_tokens": told, "total_tokens": asked + told}
    return {"request_id": request_id, "output": output, "usage": usage}


async def reply(request: web.Request) -> web.StreamResponse:
    """Answer a POST; as events if the client's headers ask for them."""
    try:
        question = Question.from_wire(await request.json())
    except ValueError as exc:
        return web.json_response(error_body("InvalidParameter", str(exc)), status=400)
    request_id = str(uuid.uuid4())
    if not _wants_events(request):
        said = answer(question.prompt)
        return web.json_response(result_body(question, said, said, True, request_id))
    return await _stream(request, question, request_id)


def _wants_events(request: web.Request) -> bool:
    asked = request.headers.get("X-DashScope-SSE", "").lower() == "enable"
    return asked or "text/event-stream" in request.headers.get("Accept", "")


async def _stream(request: web.Request, question: Question, request_id: str) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream;charset=UTF-8"})
    await response.prepare(request)
    words = answer(question.prompt).split(" ")
    for number, word in enumerate(words, 1):
        said = " ".join(words[:number])
        piece = (word if number == 1 else f" {word}") if question.incremental else said
        body = result_body(question, piece, said, number == len(words), request_id)
        data = json.dumps(body)
        await response.write(f"id:{number}\nevent:result\n:HTTP_STATUS/200\ndata:{data}\n\n".encode())
    return response


async def spoilt(request: web.Request, fault: Fault) -> web.StreamResponse | None:
    """What a fault sends in the answer's place; None, if it only delays the answer."""
    match fault.kind:
        case "generation_status":
            headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            return web.json_response(error_body(fault.code, fault.message), status=fault.number(503), headers=headers)
        case "generation_garbage":
            return web.Response(text=fault.text("<html>Bad Gateway</html>"), content_type="application/json")
        case "generation_cut":
            return await _cut(request)
        case "generation_silent":
            await until_gone(request)
            return web.Response()
    await asyncio.sleep(fault.number(1000) / 1000)
    return None


async def _cut(request: web.Request) -> web.StreamResponse:
    """The beginning of an answer, and the end of its connection.

    The request is read first: a close with some of it unread would be a reset, which may take the beginning along.
    """
    await request.read()
    response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"output":{"choices":[{"mess')
    if request.transport is not None:
        request.transport.close()
    return response


async def until_gone(request: web.Request) -> None:
    """Answer nothing until the client has hung up; the server's stop cancels this."""
    while request.transport is not None and not request.transport.is_closing():
        await asyncio.sleep(0.1)
