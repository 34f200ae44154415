"""What the options of all tasks are checked for, and how what is wrong with them is said in one sentence."""

import json
from typing import Any

from pydantic import BaseModel, ValidationError

from tasks.errors import BadInput

MOST_BYTES = 64 * 1024
"""How large `metadata` and `parameters` may be, as JSON: they come back in the result and stay in Redis."""

LONGEST_NAME = 80
"""Characters of an option's name that a sentence repeats."""


def check_json(name: str, value: dict[str, Any]) -> None:
    """Refuse now what would break the result, or the request to the service, after that was paid for."""
    try:
        size = len(json.dumps(value, allow_nan=False, ensure_ascii=False).encode())
    except (TypeError, ValueError, RecursionError):  # UnicodeEncodeError is a ValueError
        raise BadInput("bad_request", f"{name} is not valid: it must be plain JSON.") from None
    if size > MOST_BYTES:
        raise BadInput("bad_request", f"{name} is {size} bytes as JSON; at most {MOST_BYTES} are allowed.")


def sentence(error: ValidationError, kind: type[BaseModel]) -> str:
    """The first thing that is wrong with a request of this kind."""
    problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
    name = ascii(".".join(str(part) for part in problem["loc"]))[1:-1][:LONGEST_NAME]
    if not name:
        return "The name of an option is not valid: it must be plain text."
    if problem["type"] == "extra_forbidden":
        return f"{name} is not an option of this task; the options are {', '.join(kind.model_fields)}."
    if problem["type"] == "missing":
        return f"{name} is missing; give it as the first argument."
    return f"{name} is not valid: {problem['msg'][0].lower()}{problem['msg'][1:]}."
