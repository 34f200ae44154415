import json
import logging
import threading
import time
from contextlib import contextmanager

import pytest

from emulator.background import BackgroundEmulator
from emulator.faults import Fault
from emulator.stack import free_port
from worker.recognition import (
    Chunk,
    ConnectFailed,
    ConnectionLost,
    Endpoint,
    Finished,
    InvalidRequest,
    Limits,
    MissingApiKey,
    RecognizerHooks,
    ServerFault,
    Started,
    Throttled,
    Unauthorized,
    UnknownModel,
    UpstreamSilent,
)
from worker.recognition.probe import warm_up

MODEL = "paraformer-realtime-v2"


@pytest.fixture
def make():
    """Hooks for the service at a URL; their I/O loops are stopped at the end."""
    made = []

    def make(url, *args, api_key="k", **shared):
        made.append(RecognizerHooks(Endpoint(url=url, api_key=api_key), *args, **shared))
        return made[-1]

    yield make
    for hooks in made:
        hooks.loop.close(10)


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


def test_the_life_of_a_recognizer_in_a_pool(make, serve, caplog):
    caplog.set_level(logging.DEBUG)
    hooks = make(serve(service) + "?token=secret", Limits(started=5.0), api_key="sk-secret")
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


def test_without_a_key_nothing_is_opened(make):
    with pytest.raises(MissingApiKey):
        make("ws://127.0.0.1:1/x", api_key="").open()


def test_a_bad_key_is_told_at_opening(make, serve, caplog):
    def refuse(peer):
        peer.hear_request()
        peer.sock.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")

    with pytest.raises(Unauthorized):
        make(serve(refuse), api_key="sk-secret").open()
    assert "secret" not in caplog.text


def test_an_aborted_recognizer_ends_its_task_and_is_not_reusable(make, serve, caplog):
    caplog.set_level(logging.INFO)

    def deaf(peer):
        peer.upgrade()
        while peer.sock.recv(1000):
            pass

    hooks = make(serve(deaf))
    recognizer = hooks.open()
    hooks.abort(recognizer)
    hooks.abort(recognizer)
    with pytest.raises(ConnectionLost):
        list(recognizer.transcribe(model="m", parameters={}, chunks=[], deadline=time.monotonic() + 10))
    assert not hooks.is_reusable(recognizer)
    hooks.close(recognizer)
    assert "aborted a connection to 127.0.0.1" in caplog.messages


# --------------------------------------------------------------------------------------------------------- warm-up


@pytest.fixture
def emulator():
    with BackgroundEmulator() as running:
        yield running


@pytest.fixture
def hooks(make, emulator):
    return make(emulator.url, Limits(started=0.5, finished=0.5), MODEL)


def outcomes(emulator):
    return [task.outcome for task in emulator.logbook.tasks]


def all_closed(emulator):
    return emulator.logbook.wait_until(lambda book: book.connections and not book.connections_open)


@pytest.mark.parametrize(("model", "audio_bytes"), [(MODEL, 32_000), ("paraformer-realtime-8k-v2", 16_000)])
def test_with_a_model_a_new_recognizer_has_done_a_task(make, emulator, caplog, model, audio_bytes):
    caplog.set_level(logging.INFO)
    hooks = make(emulator.url, None, model)
    recognizer = hooks.open()
    assert hooks.is_healthy(recognizer) and recognizer.tasks == 1
    hooks.close(recognizer)
    assert all_closed(emulator)
    (task,) = emulator.logbook.tasks
    assert (task.model, task.audio_bytes, task.outcome) == (model, audio_bytes, "finished")
    assert any(line.startswith(f"warmed up with {model} in ") for line in caplog.messages)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(kind="task_failed"), ServerFault),
        (Fault(kind="task_failed", value="ModelNotFound"), UnknownModel),
        (Fault(kind="task_failed", value="InvalidParameter", at="finish"), InvalidRequest),
        (Fault(kind="no_task_started"), UpstreamSilent),
        (Fault(kind="no_task_finished"), UpstreamSilent),
        (Fault(kind="abort", at="audio"), ConnectionLost),
    ],
)
def test_a_warm_up_that_fails_is_an_open_that_fails_and_leaves_no_connection(emulator, hooks, fault, kind):
    emulator.faults.add(fault)
    with pytest.raises(kind):
        hooks.open()
    assert all_closed(emulator)
    assert emulator.logbook.connections == 1
    hooks.close(hooks.open())  # and the next is warmed up as before
    assert emulator.logbook.wait_until(lambda book: outcomes(emulator)[1:] == ["finished"])


def test_a_warm_up_that_an_interrupt_strikes_leaves_no_connection(make, serve):
    class Interrupt(BaseException):
        pass

    class Striking(str):
        def __contains__(self, part):  # asked for at the beginning of the task
            raise Interrupt

    with pytest.raises(Interrupt):
        make(serve(service), None, Striking(MODEL)).open()
    serve.finish()  # the service has seen the end


def test_a_model_that_hears_no_speech_in_a_tone_is_not_warmed_up_again(emulator, hooks, caplog):
    emulator.faults.add(Fault(kind="task_failed", value="NO_VALID_AUDIO_ERROR", at="finish", times=9))
    first, second = hooks.open(), hooks.open()
    assert hooks.is_healthy(first) and hooks.is_healthy(second)
    assert (first.tasks, second.tasks) == (0, 0)
    hooks.close(first)
    hooks.close(second)
    assert emulator.logbook.wait_until(lambda book: book.connections == 3)
    assert all_closed(emulator) and outcomes(emulator) == ["failed"]
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [f"{MODEL} takes a tone for a task without speech: connections are not warmed up by a task"]


def test_openers_that_learn_it_at_the_same_time_say_it_once(make, serve, caplog):
    both = threading.Barrier(2)

    def hears_nothing(peer):
        peer.upgrade()
        opcode, heard = peer.hear()
        if opcode == 1:
            both.wait(10)
            header = {"task_id": json.loads(heard)["header"]["task_id"], "event": "task-failed"}
            peer.say(1, json.dumps({"header": header | {"error_code": "NO_VALID_AUDIO_ERROR"}}).encode())
            while opcode != 8:
                opcode, heard = peer.hear()
        peer.say(8, heard)

    hooks = make(serve(hears_nothing, connections=4), None, MODEL)
    opened = []
    openers = [threading.Thread(target=lambda: opened.append(hooks.open())) for _ in range(2)]
    for opener in openers:
        opener.start()
    for opener in openers:
        opener.join(20)
    for recognizer in opened:
        hooks.close(recognizer)
    assert len(opened) == 2 and len(caplog.messages) == 1


# ------------------------------------------------------------------------------------------------------------ load


def test_the_load_tells_what_the_loop_does(make, emulator):
    hooks = make(emulator.url)
    assert hooks.load.figures()["loop_messages"] == 0
    recognizer = hooks.open()
    warm_up(recognizer, MODEL, deadline=time.monotonic() + 10)
    hooks.close(recognizer)
    figures = hooks.load.figures()
    assert (figures["loop_streams"], figures["loop_audio_bytes"]) == (0, 32_000)
    assert figures["loop_messages"] >= 14  # run-task, ten chunks, finish-task, and at least two events
    assert {"late_share", "throttled"} < set(figures)


def test_all_recognizers_of_the_hooks_share_one_load(make, emulator):
    hooks = make(emulator.url)
    recognizers = [hooks.open() for _ in range(2)]
    emulator.faults.add(Fault(kind="task_failed", value="Throttling.RateQuota", times=2))
    for recognizer in recognizers:
        with pytest.raises(Throttled):
            warm_up(recognizer, MODEL, deadline=time.monotonic() + 10)
        hooks.close(recognizer)
    assert hooks.load.figures()["throttled"] == 2


def test_a_throttled_warm_up_counts_once(emulator, hooks):
    emulator.faults.add(Fault(kind="task_failed", value="Throttling.RateQuota"))
    with pytest.raises(Throttled):
        hooks.open()
    assert hooks.load.figures()["throttled"] == 1


@pytest.mark.parametrize(("status", "limits"), [(429, ("quota",)), (503, ())])
def test_a_handshake_that_is_throttled_is_the_quota_s(emulator, hooks, status, limits):
    emulator.faults.add(Fault(kind="http_status", value=status))
    with pytest.raises((Throttled, ServerFault)):
        hooks.open()
    assert hooks.load.limits() == limits


# ------------------------------------------------------------------------------------------------------------ gate


class FakeGate:
    """Gives leave for warm-up tasks, or not; notes what it is told, and what of a task before it ended."""

    def __init__(self, gives_leave=True):
        self.noted = []
        self._gives_leave = gives_leave

    def opened(self):
        self.noted.append("opened")

    def failed(self, *, refused, retry_after):
        self.noted.append(("refused" if refused else "unreachable", retry_after))

    @contextmanager
    def warm_up(self, model):
        self.noted.append(f"wants {model}")
        try:
            yield self if self._gives_leave else None
        finally:
            self.noted.append("left")

    def ended(self, *, well):
        self.noted.append("ended well" if well else "ended badly")

    def refused(self, retry_after):
        self.noted.append(("throttled", retry_after))


def test_who_watches_is_told_of_each_connection(make, emulator):
    gate = FakeGate()
    hooks = make(emulator.url, gate=gate)
    for times in (1, 2):
        hooks.close(hooks.open())
        assert gate.noted == ["opened"] * times


@pytest.mark.parametrize(
    ("fault", "kind", "told"),
    [
        (Fault(kind="http_status", value=429), Throttled, ("refused", None)),
        (Fault(kind="http_status", value=429, retry_after=7), Throttled, ("refused", 7.0)),
        (Fault(kind="http_status", value=503), ServerFault, ("refused", None)),
        (Fault(kind="http_status", value=503, retry_after=30), ServerFault, ("refused", 30.0)),
    ],
)
def test_a_handshake_that_the_service_declines_is_told_with_the_time_that_it_asks_for(
    make, emulator, fault, kind, told
):
    gate = FakeGate()
    emulator.faults.add(fault)
    with pytest.raises(kind):
        make(emulator.url, gate=gate).open()
    assert gate.noted == [told]


def test_a_service_that_cannot_be_reached_is_told_as_such(make):
    gate = FakeGate()
    with pytest.raises(ConnectFailed):
        make(f"ws://127.0.0.1:{free_port()}/x", gate=gate).open()
    assert gate.noted == [("unreachable", None)]


def test_a_service_that_does_not_accept_the_key_is_there(make, emulator):
    gate = FakeGate()
    emulator.faults.add(Fault(kind="http_status", value=401))
    with pytest.raises(Unauthorized):
        make(emulator.url, gate=gate).open()
    assert gate.noted == ["opened"]


def test_a_warm_up_asks_for_leave_and_tells_how_it_ended(make, emulator, caplog):
    caplog.set_level(logging.INFO)
    gate = FakeGate()
    hooks = make(emulator.url, None, MODEL, gate=gate)
    recognizer = hooks.open()
    assert gate.noted == ["opened", f"wants {MODEL}", "ended well", "left"] and recognizer.tasks == 1
    hooks.close(recognizer)


def test_without_leave_a_recognizer_is_handed_out_that_has_done_no_task(make, emulator, caplog):
    caplog.set_level(logging.INFO)
    gate = FakeGate(gives_leave=False)
    hooks = make(emulator.url, None, MODEL, gate=gate)
    for times in (1, 2):
        recognizer = hooks.open()
        assert hooks.is_healthy(recognizer) and recognizer.tasks == 0
        assert gate.noted == ["opened", f"wants {MODEL}", "left"] * times
        hooks.close(recognizer)
    assert outcomes(emulator) == [] and "warmed up" not in caplog.text


@pytest.mark.parametrize(
    ("fault", "kind", "told"),
    [
        (Fault(kind="task_failed", value="Throttling.RateQuota"), Throttled, [("throttled", None)]),
        (Fault(kind="task_failed", value="ModelNotFound"), UnknownModel, ["ended badly"]),
        (Fault(kind="task_failed"), ServerFault, ["ended badly"]),
        (Fault(kind="abort", at="audio"), ConnectionLost, []),
        (Fault(kind="no_task_started"), UpstreamSilent, []),
    ],
)
def test_a_warm_up_that_fails_is_told_if_the_service_itself_has_ended_it(make, emulator, fault, kind, told):
    """Else it may not have noticed yet: the stream counts for a while."""
    gate = FakeGate()
    emulator.faults.add(fault)
    with pytest.raises(kind):
        make(emulator.url, Limits(started=0.5, finished=0.5), MODEL, gate=gate).open()
    assert gate.noted == ["opened", f"wants {MODEL}", *told, "left"]
    assert all_closed(emulator)


def test_hooks_of_several_accounts_share_what_they_are_given(make, emulator):
    first = make(emulator.url)
    second = make(emulator.url, loop=first.loop, load=first.load)
    assert second.loop is first.loop and second.load is first.load
    recognizer = second.open()
    warm_up(recognizer, MODEL, deadline=time.monotonic() + 10)
    second.close(recognizer)
    assert first.load.figures()["loop_messages"] > 0
