"""Caller and loop in any order: nothing is lost, doubled, early or forgotten."""

import math
import sys
from collections import deque
from functools import partial as partial_of

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.worker.recognition.flows import (
    EPSILON,
    FINISHED,
    HEARTBEAT,
    START,
    action,
    begun,
    final,
    news_of,
    partial,
    say,
)
from worker.recognition import (
    Chunk,
    Limits,
)
from worker.recognition.conversation import AHEAD, FAST_AHEAD, RECHECK

LARGEST = 20_000
STEPS = st.lists(
    st.one_of(
        st.sampled_from(["bring", "turn", "tell", "hold", "release", "until due", "partial", "final", "beat", "read"]),
        st.floats(0.0001, 0.7),
    ),
    max_size=200,
)


class Interleaved:
    """Caller, loop and network, each with steps of its own; and what must hold in whatever order these come."""

    def __init__(self, chunks):
        self.now = START
        self.talk = begun(limits=Limits(finished=math.inf, quiet=math.inf, write=math.inf))
        self.chunks = chunks
        self.left = deque(chunks)
        self.offered = 0
        self.told = False  # the loop has been told, and has not looked yet
        self.stuck = False
        self.is_held = False
        self.sent = []  # (when, data), "finish-task" last
        self.spacing = chunks[1].due if len(chunks) > 1 else 0.0
        self.said = ["Started"]
        self.heard = []

    def step(self, what):
        if isinstance(what, float):
            self.now += what
        elif what in ("partial", "final", "beat"):
            self.talk.hear({"partial": partial(), "final": final(), "beat": HEARTBEAT}[what], self.now)
            self.said += [] if what == "beat" else [what.capitalize()]
            self.turn()
        else:
            getattr(self, what.replace(" ", "_"))()

    def bring(self):
        if not self.talk.wants_audio:
            return
        if self.left:
            self.offered += len(self.left[0].data)
            self.talk.offer(self.left.popleft())
        else:
            self.talk.end_audio()
        self.told = self.told or self.talk.waits_for_audio
        most = FAST_AHEAD if not self.chunks or self.chunks[-1].due == 0 else AHEAD
        assert self.offered - self.talk.sent_bytes <= most + LARGEST

    def tell(self):
        if self.told:
            self.told = False
            self.talk.look()
            self.turn()

    def until_due(self):
        if self.talk.due() < math.inf:
            self.now = max(self.now, self.talk.due())
            self.turn()

    def hold(self):
        self.stuck = True

    def release(self):
        self.stuck = False
        self.turn()

    def read(self):
        self.heard += [type(news).__name__ for news in news_of(self.talk)]

    def turn(self):
        if self.is_held:
            if self.stuck:
                self.talk.held(self.now)
                assert self.talk.message(self.now) is None
                return
        self.talk.released(self.now)
        self.is_held = False
        while not self.is_held and (message := self.talk.message(self.now)) is not None:
            self.sent.append((self.now, action(message)))
            if self.stuck:
                self.talk.held(self.now)
                self.is_held = True

    def settle(self):
        self.release()
        for _ in range(10_000):
            if self.sent and self.sent[-1][1] == "finish-task":
                return
            wanted = self.talk.wants_audio
            self.bring()
            assert self.told or wanted or self.talk.due() < math.inf, "nobody would ever wake anybody"
            self.tell()
            if not wanted:
                self.until_due()
        raise AssertionError("it does not come to its end")

    def judge(self):
        assert [data for _, data in self.sent] == [*(chunk.data for chunk in self.chunks), "finish-task"]
        moments = [at for at, _ in self.sent]
        for later, chunk in enumerate(self.chunks):
            assert moments[later] >= START + chunk.due - EPSILON
            for earlier in range(later):
                # Never faster than twice the pace, counted from moments that may be missed by one chunk's length.
                least = (later - earlier) * self.spacing / 2 - self.spacing
                assert moments[later] - moments[earlier] >= least - EPSILON
        assert self.talk.sent_bytes == sum(len(chunk.data) for chunk in self.chunks)
        self.talk.hear(FINISHED, self.now)
        self.talk.end(None, self.now)
        self.read()
        assert self.heard == [*self.said, "Finished"]


@settings(max_examples=150, deadline=None)
@given(
    spacing=st.sampled_from([0.0, 0.02, 0.1, 0.5]), sizes=st.lists(st.integers(1, LARGEST), max_size=30), steps=STEPS
)
def test_whatever_the_order_all_audio_is_sent_once_in_order_and_at_its_time(spacing, sizes, steps):
    both = Interleaved([Chunk(number * spacing, bytes([number]) * size) for number, size in enumerate(sizes)])
    for what in steps:
        both.step(what)
    both.settle()
    both.judge()


# ------------------------------------------------------------------------------------------------------------- wake-ups


def interrupted(do, acts):
    """Do it, with each act after so many lines that it ran in the conversation; those that come too late right after"""
    lines, acts = 0, list(acts)

    def trace(frame, event, arg):
        nonlocal lines
        if frame.f_globals.get("__name__") != "worker.recognition.conversation":
            return None
        lines += event == "line"
        while acts and acts[0][0] < lines:
            sys.settrace(None)
            acts.pop(0)[1]()
            sys.settrace(trace)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        result = do()
    finally:
        sys.settrace(before)
    interruptions = len(acts)
    for _, act in acts:
        act()
    return result, interruptions


def never_parked():
    talk = begun()
    talk.offer(Chunk(0.0, b"first"))
    talk.look()
    assert talk.message(START) == b"first"
    return talk, START


def before_recheck():
    talk, now = never_parked()
    assert talk.message(now) is None and talk.due() == START + RECHECK
    return talk, START + RECHECK / 2


def at_recheck():
    talk, _ = before_recheck()
    return talk, START + RECHECK


def parked():
    talk, now = at_recheck()
    assert talk.message(now) is None and talk.waits_for_audio
    return talk, START + 1


LINES = 60  # more than a look has


def bring_it(talk, what):
    if what != "end":
        talk.offer(Chunk(0.0, b"second"))
    if what != "chunk":
        talk.end_audio()


def ask(talk, told):
    told.append(talk.waits_for_audio)


BRINGS = {
    "chunk": [b"second"],
    "end": ["finish-task"],
    "the last chunk": [b"second", "finish-task"],
}


@pytest.mark.parametrize("what", BRINGS)
@pytest.mark.parametrize("begin", [never_parked, before_recheck, at_recheck, parked])
def test_a_caller_between_any_two_lines_of_the_loop_is_not_overlooked(begin, what):
    """He brings something, and then asks whether the loop must be told; each at any line of the loop's look."""
    late = 0
    for brings in range(LINES):
        for asks in range(brings, LINES):
            talk, now = begin()
            told: list[bool] = []
            acts = [(brings, partial_of(bring_it, talk, what)), (asks, partial_of(ask, talk, told))]
            message, after = interrupted(partial_of(talk.message, now), acts)
            late += after == 2
            if message is None:
                if told[0]:
                    talk.look()
                assert talk.due() <= now + RECHECK, (brings, asks)
                message = talk.message(max(now, talk.due()))
            assert [action(message), *say(talk, now + RECHECK)] == BRINGS[what], (brings, asks)
    assert late  # so every line had its turn
