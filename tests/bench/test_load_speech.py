"""The load server's protocol, without a socket: whole, cut at every byte, and wrong."""

import json
from typing import Any

import pytest

from bench.load.figures import Figures
from bench.load.script import Script
from bench.load.speech import MOST_REQUEST, MOST_TEXT, Malformed, Speech

UPGRADE = (
    b"GET /api-ws/v1/inference HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
BINARY, TEXT, CLOSE, PING, PONG = 0x82, 0x81, 0x88, 0x89, 0x8A
MASK = b"\x01\x80\xff\x37"


def masked(first: int, payload: bytes) -> bytes:
    size = len(payload)
    head = bytes([first, 0x80 | size]) if size < 126 else bytes([first, 0xFE]) + size.to_bytes(2, "big")
    return head + MASK + bytes(byte ^ MASK[at % 4] for at, byte in enumerate(payload))


def command(action: str, task_id: str = "t1") -> bytes:
    header = {"action": action, "task_id": task_id, "streaming": "duplex"}
    return masked(TEXT, json.dumps({"header": header, "payload": {}}).encode())


AUDIO = masked(BINARY, bytes(3200))
TASK = command("run-task") + AUDIO * 10 + masked(BINARY, b"1234") + command("finish-task")


class Client:
    """Feeds a speech, and reads what it says."""

    def __init__(self, script: Script | None = None) -> None:
        self.figures = Figures()
        self.speech = Speech(script or Script(), self.figures)
        self._said = b""

    def say(self, data: bytes, now: float = 0.0) -> None:
        self.speech.feed(bytearray(data) + b"left over of another client", len(data), now)
        self._said += b"".join(self.speech.out)
        self.speech.out.clear()

    @property
    def heard(self) -> list[tuple[int, bytes]]:
        """All frames but the answer to the upgrade."""
        data, frames = self._said.partition(b"\r\n\r\n")[2], []
        while data:
            begin, size = (4, data[2] << 8 | data[3]) if data[1] == 126 else (2, data[1])
            frames.append((data[0], data[begin : begin + size]))
            data = data[begin + size :]
        return frames

    @property
    def events(self) -> list[str]:
        return [self.read(text)["header"]["event"] for first, text in self.heard if first == TEXT]

    @staticmethod
    def read(text: bytes) -> dict[str, Any]:
        return dict(json.loads(text))


@pytest.fixture
def client() -> Client:
    made = Client()
    made.say(UPGRADE)
    return made


def test_the_upgrade_is_answered_with_the_proof_of_rfc_6455() -> None:
    client = Client()
    client.say(UPGRADE)
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in client._said


def test_a_task_is_started_heard_and_finished(client: Client) -> None:
    client.say(TASK)
    assert client.events == ["task-started", *["result-generated"] * 5, "task-finished"]
    assert client.figures.report() | {"seconds": 0, "cpu_seconds": 0} == {
        **dict.fromkeys(client.figures.report(), 0),
        **{"frames": 11, "audio_seconds": 32004 / 32000, "events": 5, "first_events": 1},
        **{"streams_max": 1, "tasks_started": 1, "tasks_finished": 1, "late_ms_p50": 1.0, "late_ms_p99": 1.0},
        "early_frames": 10,
    }


def test_the_next_task_begins_at_zero_on_the_same_connection(client: Client) -> None:
    client.say(TASK)
    first = client.heard
    client.say(TASK)
    assert client.heard == first * 2
    assert client.figures.tasks_finished == 2


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 3207, 3208, 3209])
def test_it_does_not_matter_how_the_bytes_are_cut(size: int) -> None:
    whole, cut, stream = Client(), Client(), UPGRADE + TASK * 2 + masked(PING, b"p") + masked(CLOSE, b"\x03\xe8")
    whole.say(stream)
    for at in range(0, len(stream), size):
        cut.say(stream[at : at + size])
    assert cut.heard == whole.heard
    assert cut.speech.is_over


def test_each_length_of_a_frame_is_understood(client: Client) -> None:
    long = bytes([BINARY, 0xFF]) + (70_000).to_bytes(8, "big") + MASK + bytes(70_000)
    client.say(command("run-task") + masked(BINARY, b"") + masked(BINARY, bytes(125)) + AUDIO + long)
    assert client.figures.audio_bytes == 125 + 3200 + 70_000


def test_the_first_event_may_come_early_and_the_others_keep_their_places() -> None:
    client = Client(Script(first_after=0.1))
    client.say(UPGRADE + command("run-task"))
    heard = []
    for _ in range(10):
        client.say(AUDIO)
        heard.append(client.figures.events)
    assert heard == [1, 1, 1, 1, 2, 2, 2, 3, 3, 4]


def test_pings_are_answered_also_within_a_task(client: Client) -> None:
    client.say(masked(PING, b"") + command("run-task") + masked(PING, b"word") + masked(PONG, b"unasked"))
    assert [frame for frame in client.heard if frame[0] == PONG] == [(PONG, b""), (PONG, b"word")]


def test_a_close_is_echoed_and_is_the_end(client: Client) -> None:
    client.say(masked(CLOSE, b"\x03\xe8bye") + masked(PING, b"too late"))
    assert client.heard == [(CLOSE, b"\x03\xe8bye")]
    assert client.speech.is_over


def test_audio_is_due_from_task_started_on(client: Client) -> None:
    client.say(command("run-task"), now=50.0)
    for number in range(3):
        client.say(AUDIO, now=50.0 + 0.1 * number)
    assert client.figures.report()["late_ms_max"] < 0.01
    client.say(AUDIO, now=50.4205)  # its audio begins 0.3 s after the task
    report = client.figures.report()
    assert (report["late_ms_p50"], report["late_ms_p99"], report["early_frames"]) == (1, 121, 0)
    assert report["late_ms_max"] == pytest.approx(120.5, abs=0.01)


def test_a_frame_in_two_parts_comes_with_its_last(client: Client) -> None:
    client.say(command("run-task") + AUDIO[:100], now=10.0)
    assert client.figures.frames == 0
    client.say(AUDIO[100:], now=10.3)
    assert client.figures.frames == 1
    assert client.figures.report()["late_ms_max"] == pytest.approx(300, abs=0.01)


def test_a_second_task_is_judged_by_its_own_beginning(client: Client) -> None:
    client.say(TASK, now=1.0)
    client.say(command("run-task", "t2"), now=100.0)
    client.say(AUDIO, now=100.04)
    assert client.figures.report()["late_ms_max"] == pytest.approx(40, abs=0.01)


@pytest.mark.parametrize(
    "wrong",
    [
        AUDIO,
        command("finish-task"),
        command("run-task") * 2,
        command("run-task") + command("finish-task", "t2"),
        command("continue-task"),
    ],
    ids=["audio", "finish", "run twice", "finish another", "unknown"],
)
def test_what_is_not_allowed_now_fails_the_task_and_hangs_up(client: Client, wrong: bytes) -> None:
    client.say(wrong)
    assert client.events[-1] == "task-failed"
    assert client.heard[-1] == (CLOSE, b"\x03\xe8")
    assert client.speech.is_over
    client.speech.end()
    assert (client.figures.errors, client.figures.streams) == (1, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        bytes([BINARY, 5]) + b"plain",
        bytes([0x02, 0x80]) + MASK,
        bytes([0x80, 0x80]) + MASK,
        bytes([0xC2, 0x80]) + MASK,
        bytes([BINARY, 0xFF]) + b"\xff" * 8 + MASK,
        bytes([TEXT, 0xFF]) + (MOST_TEXT + 1).to_bytes(8, "big") + MASK,
        bytes([PING, 0xFE]) + (126).to_bytes(2, "big") + MASK,
        masked(TEXT, b"not JSON"),
        masked(TEXT, b"[" * 60_000),
        masked(TEXT, b"\xff\xfe"),
        masked(TEXT, b'{"header": 1}'),
        masked(TEXT, b'{"header": {"action": "run-task", "task_id": 5}}'),
        masked(TEXT, b'{"header": {"action": "run-task", "task_id": ""}}'),
        masked(TEXT, b"5"),
    ],
)
def test_what_is_not_the_protocol_is_malformed(client: Client, wrong: bytes) -> None:
    with pytest.raises(Malformed):
        client.say(wrong)


@pytest.mark.parametrize(
    "request_",
    [
        b"POST /api-ws/v1/inference HTTP/1.1\r\n\r\n",
        UPGRADE.replace(b"inference", b"other"),
        UPGRADE.replace(b"dGhl", b""),
        b"\x16\x03\x01 a TLS hello\r\n\r\n",
        b"x" * (MOST_REQUEST + 1),
    ],
)
def test_only_a_request_to_upgrade_opens_it(request_: bytes) -> None:
    with pytest.raises(Malformed):
        Client().say(request_)
