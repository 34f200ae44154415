"""A short conversation whose bytes are parted, or end, at each place that there is, in both directions."""

import json
from typing import Any

import pytest

from tests.worker.recognition.flows import FINISHED, STARTED, conversation, final, news_of, partial
from worker.recognition import Chunk, ConnectionLost, Final, Finished, Partial, Started, WebSocketTransport
from worker.recognition.flow import Flow
from worker.recognition.wire import Wire

NOW = 1000.0
CHUNKS = [b"one", b"second", bytes(130)]  # frames of both short forms of length
EVERYTHING = 10**9


def frame(text):
    data = text.encode()
    return b"\x81" + (bytes([len(data)]) if len(data) < 126 else b"\x7e" + len(data).to_bytes(2, "big")) + data


class Service:
    """Reads masked frames, says what a service says, and keeps the audio."""

    def __init__(self):
        self.audio = []
        self._rest = b""

    def hears(self, data):
        """What it answers to these bytes."""
        self._rest += data
        answer = b""
        while (message := self._message()) is not None:
            answer += self._answer(*message)
        return answer

    def _message(self):
        rest = self._rest
        if len(rest) < 2:
            return None
        size, at = rest[1] & 0x7F, 2
        if size == 126:
            size, at = int.from_bytes(rest[2:4], "big"), 4
        if len(rest) < at + 4 + size:
            return None
        mask, body = rest[at : at + 4], rest[at + 4 : at + 4 + size]
        self._rest = rest[at + 4 + size :]
        return rest[0] & 0x0F, bytes(byte ^ mask[place % 4] for place, byte in enumerate(body))

    def _answer(self, opcode, body):
        if opcode == 2:
            self.audio.append(body)
            text = f"heard {len(body)}"
            return frame(partial(text[:5])) + frame(final(text))
        if opcode == 1 and json.loads(body)["header"]["action"] == "run-task":
            return frame(STARTED)
        if opcode == 1:
            return frame(final("the end")) + frame(FINISHED)
        return b""  # a pong


class Socket:
    """Gives and takes `step` bytes a call, stops once at `pause`, and ends at `end`; places are counted by direction.

    `ending` is what a read says at the end: an exception, or no bytes.
    """

    def __init__(self, *, step=EVERYTHING, pause=(0, 0), end=(EVERYTHING, EVERYTHING), ending=b""):
        self.service = Service()
        self.up = self.down = 0
        self._step = step
        self._pause_up, self._pause_down = pause
        self._end_up, self._end_down = end
        self._ending = ending
        self._coming = b""

    def setblocking(self, flag):
        assert not flag

    def fileno(self):
        return 99

    def send(self, data):
        if self.up == self._end_up or self.down == self._end_down:
            raise BrokenPipeError
        if self.up == self._pause_up and self.up:
            self._pause_up = 0
            raise BlockingIOError
        size = min(len(data), self._step, self._end_up - self.up)
        if self._pause_up > self.up:
            size = min(size, self._pause_up - self.up)
        self._coming += self.service.hears(bytes(data[:size]))
        self.up += size
        return size

    def recv(self, size):
        if self.down == self._end_down or (self.up == self._end_up and not self._coming):
            if self._ending:
                raise self._ending
            return b""
        if not self._coming or (self.down == self._pause_down and self.down):
            self._pause_down = 0 if self.down == self._pause_down else self._pause_down
            raise BlockingIOError
        size = min(size, self._step, self._end_down - self.down)
        if self._pause_down > self.down:
            size = min(size, self._pause_down - self.down)
        data, self._coming = self._coming[:size], self._coming[size:]
        self.down += len(data)
        return data


def run(sock):
    """Turn after turn to the end: the news, and how it failed or None."""
    talk = conversation()
    flow = Flow(WebSocketTransport(Wire(sock, write_timeout=1.0), 1.0), talk)
    news: list[Any] = []
    chunks, now = list(CHUNKS), NOW
    try:
        for _ in range(10_000):
            flow.turn(now, True)
            if talk.over:
                return news + news_of(talk), None
            news += news_of(talk)
            if talk.wants_audio:
                talk.offer(Chunk(0.0, chunks.pop(0))) if chunks else talk.end_audio()
                talk.look()
            now += 0.00001
    except ConnectionLost as error:
        return news + news_of(talk), error
    raise AssertionError(f"it does not come to its end: {sock.up} and {sock.down} bytes")


def told(news):
    return [getattr(getattr(one, "sentence", None), "text", type(one).__name__) for one in news]


WHOLE = ["Started", *(text for size in (3, 6, 130) for text in ("heard", f"heard {size}")), "the end"]


@pytest.fixture(scope="module")
def lengths():
    sock = Socket()
    news, error = run(sock)
    assert error is None and told(news) == WHOLE and sock.service.audio == CHUNKS
    assert [type(one) for one in news] == [Started, *[Partial, Final] * 3, Final]
    return sock.up, sock.down


@pytest.mark.parametrize("step", [*range(1, 18), 125, 126, 127])
def test_any_few_bytes_at_a_time(step):
    sock = Socket(step=step)
    news, error = run(sock)
    assert (told(news), error, sock.service.audio) == (WHOLE, None, CHUNKS)


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_pause_at_each_byte(lengths, way):
    up, down = lengths
    for place in range(1, up + 1 if way == "up" else down + 1):
        sock = Socket(pause=(place, 0) if way == "up" else (0, place))
        news, error = run(sock)
        assert (told(news), error, sock.service.audio) == (WHOLE, None, CHUNKS), place
        assert (sock.up, sock.down) == lengths, place


@pytest.mark.parametrize("ending", [b"", ConnectionResetError()], ids=["end", "reset"])
@pytest.mark.parametrize("way", ["up", "down"])
def test_an_end_at_each_byte_is_a_lost_connection_after_all_that_came(lengths, way, ending):
    up, down = lengths
    for place in range(up if way == "up" else down):
        sock = Socket(end=(place, EVERYTHING) if way == "up" else (EVERYTHING, place), ending=ending, step=50)
        news, error = run(sock)
        assert error is not None and error.retryable, place
        assert told(news) == WHOLE[: len(news)], place
        assert not any(isinstance(one, Finished) for one in news), place
        # A whole frame that had come was not thrown away.
        if way == "down":
            assert len(news) == whole_frames(place), place


def whole_frames(place):
    words = [STARTED]
    for size in (3, 6, 130):
        words += [partial("heard"), final(f"heard {size}")]
    words.append(final("the end"))
    count = at = 0
    for word in words:
        at += len(frame(word))
        count += at <= place
    return count
