import json
import logging
import time

import pytest

from worker.recognition import Chunk, Endpoint, Finished, Limits, MissingApiKey, RecognizerHooks, Started, Unauthorized


def service(peer):
    """Serves tasks until the client leaves."""
    peer.upgrade()
    answers = {"run-task": "task-started", "finish-task": "task-finished"}
    while (heard := peer.hear())[0] != 8:
        if heard[0] == 1:
            header = json.loads(heard[1])["header"]
            event = {"header": {"task_id": header["task_id"], "event": answers[header["action"]]}, "payload": {}}
            peer.say(1, json.dumps(event).encode())
    peer.say(8, heard[1])


def test_the_life_of_a_recognizer_in_a_pool(serve, caplog):
    caplog.set_level(logging.DEBUG)
    hooks = RecognizerHooks(Endpoint(url=serve(service) + "?token=secret", api_key="sk-secret"), Limits(started=5.0))
    recognizer = hooks.open()
    for count in (1, 2, 3):
        assert hooks.is_healthy(recognizer)
        chunks = [Chunk(0.0, b"hush"), Chunk(0.01, b"hush")]
        events = recognizer.transcribe(
            model="m", parameters={"format": "pcm"}, chunks=chunks, deadline=time.monotonic() + 10
        )
        assert [type(event) for event in events] == [Started, Finished]
        assert hooks.is_reusable(recognizer)
        assert recognizer.tasks == count
    hooks.close(recognizer)
    assert not hooks.is_healthy(recognizer)
    assert not hooks.is_reusable(recognizer)
    life = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert life[0].startswith("connected to 127.0.0.1 in ")
    assert life[1:] == ["closed a connection to 127.0.0.1 after 3 tasks"]
    assert "secret" not in caplog.text and "hush" not in caplog.text


def test_without_a_key_nothing_is_opened():
    with pytest.raises(MissingApiKey):
        RecognizerHooks(Endpoint(url="ws://127.0.0.1:1/x", api_key="")).open()


def test_a_bad_key_is_told_at_opening(serve, caplog):
    def refuse(peer):
        peer.hear_request()
        peer.sock.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")

    with pytest.raises(Unauthorized):
        RecognizerHooks(Endpoint(url=serve(refuse), api_key="sk-secret")).open()
    assert "secret" not in caplog.text
