import pytest
import redis
from redis.exceptions import NoPermissionError, OutOfMemoryError, ResponseError

from worker.script import Script, is_passing

ECHO = Script("return {KEYS[1], ARGV[1], ARGV[2]}")


def calls(client: redis.Redis, command: str) -> int:
    """How often a Redis was asked for this, since its statistics were reset."""
    found = client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})
    return int(found["calls"])


def test_a_script_is_sent_once_and_called_by_its_digest_from_then_on(client: redis.Redis) -> None:
    client.script_flush()
    client.config_resetstat()
    for _ in range(3):
        assert ECHO.call(["k"], 1, b"x").run(client) == [b"k", b"1", b"x"]
    assert (calls(client, "evalsha"), calls(client, "eval")) == (3, 1)


def test_a_redis_that_was_started_anew_gets_it_anew(client: redis.Redis) -> None:
    ECHO.call(["k"], 1, 2).run(client)
    client.script_flush()
    assert ECHO.call(["k"], 1, 2).run(client) == [b"k", b"1", b"2"]


def test_a_call_is_a_command_with_the_number_of_its_keys() -> None:
    assert ECHO.call(["a", "b"], 1).words == ("EVALSHA", ECHO.digest, 2, "a", "b", 1)


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (redis.ConnectionError(), True),
        (redis.TimeoutError(), True),
        (OutOfMemoryError("command not allowed"), True),
        (ResponseError("BUSY Redis is busy"), True),
        (ResponseError("WRONGTYPE Operation against a key"), False),
        (NoPermissionError("no permissions"), False),
    ],
)
def test_some_refusals_pass_and_some_do_not(error: redis.RedisError, passes: bool) -> None:
    assert is_passing(error) is passes
