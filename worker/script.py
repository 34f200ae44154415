"""Small programs that Redis runs, in Lua: each is one step to all who look on, and one command to send."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import redis
from redis.exceptions import NoPermissionError, NoScriptError

Value = str | bytes | int | float
"""What a script can be given."""


PASSING = ("BUSY", "CLUSTERDOWN", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM", "READONLY", "TRYAGAIN")
"""How an error begins with which Redis says that it cannot now. Another one of no class of its own says that the
command is wrong, and will be again.
"""


def is_passing(error: redis.RedisError) -> bool:
    """Whether the same command may succeed later."""
    wrong = type(error) is redis.ResponseError and not str(error).startswith(PASSING)
    return not wrong and not isinstance(error, NoPermissionError)


class Script:
    """A program in Lua, called by its digest, so that its text travels only to a Redis that does not know it yet."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def call(self, keys: Sequence[str], *args: Value) -> "Call":
        """A call of it: to be run now, or carried by a heartbeat."""
        return Call(self, (len(keys), *keys, *args))


class Call(NamedTuple):
    """A script with the number of its keys, the keys, and its arguments."""

    script: Script
    given: tuple[Value, ...]

    @property
    def words(self) -> tuple[Value, ...]:
        """The command, for a Redis that knows the script."""
        return ("EVALSHA", self.script.digest, *self.given)

    def run(self, client: "redis.Redis") -> Any:
        """Run it now, in one round trip. Raises redis.RedisError."""
        send: Callable[..., Any] = client.execute_command  # which is untyped, and cheaper than `evalsha`
        try:
            return send(*self.words)
        except NoScriptError:  # Redis is new, or was started anew; from now on it knows the script
            return send("EVAL", self.script.text, *self.given)
