import collections
import itertools
import os
import runpy
import sys
from typing import Any

import pytest
import websocket
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.recognition.peer import Peer
from worker.recognition import frames
from worker.recognition.errors import RemoteProtocolError
from worker.recognition.frames import (
    BINARY,
    CLOSE,
    KEY_SIZE,
    LONGEST,
    PING,
    PONG,
    TEXT,
    Dry,
    Parser,
    apply_mask,
    encoded,
    mask,
    slow_mask,
)

CONT = 0
MASKS: list[Any] = [slow_mask, apply_mask]
SIZES = [0, 1, 2, 3, 4, 5, 7, 125, 126, 127, 3200, 65535, 65536, 65537, 300_000]


def unmasked(frame):
    """(first byte, payload) of a client's frame, read as RFC 6455 has it; nothing may follow."""
    first, second = frame[:2]
    assert second & 0x80, "a client must mask"
    extent = {126: 2, 127: 8}.get(second & 0x7F, 0)
    length = int.from_bytes(frame[2 : 2 + extent], "big") if extent else second & 0x7F
    key, masked = frame[2 + extent : 6 + extent], frame[6 + extent :]
    assert len(masked) == length and (extent == 0 or length >= (126 if extent == 2 else 65536))
    return first, bytes(byte ^ key[at % 4] for at, byte in enumerate(masked))


# --------------------------------------------------------------------------------------------------------- encoding


def test_with_the_extra_it_is_c_that_masks():
    assert apply_mask is not None and mask is apply_mask


def test_without_the_extra_it_is_python_that_masks(monkeypatch):
    monkeypatch.setitem(sys.modules, "websockets.speedups", None)
    plain = runpy.run_path(frames.__file__)
    assert plain["mask"] is plain["slow_mask"]
    assert unmasked(plain["encoded"](memoryview(b"abcde"), BINARY)) == (0x82, b"abcde")


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("size", SIZES)
def test_a_frame_of_every_length_form(mask, size):
    data = os.urandom(size)
    for opcode in (TEXT, BINARY, PING, PONG):
        assert unmasked(encoded(data, opcode, mask)) == (0x80 | opcode, data)


@given(st.binary(max_size=3000), st.binary(min_size=4, max_size=4))
def test_both_mask_alike(data, key):
    expected = bytes(byte ^ key[at % 4] for at, byte in enumerate(data))
    for given_as in (data, memoryview(data), memoryview(b"x" + data + b"y")[1:-1]):
        assert [mask(given_as, key) for mask in MASKS] == [expected] * 2


@pytest.mark.parametrize("mask", MASKS)
def test_masking_leaves_the_audio_as_it_was(mask):
    data = bytearray(os.urandom(100))
    before = bytes(data)
    assert unmasked(encoded(memoryview(data), BINARY, mask))[1] == before == bytes(data)


@pytest.mark.parametrize("size", [0, 5, 126, 3200, 70_000])
def test_a_frame_is_as_websocket_client_makes_it(size):
    data = os.urandom(size)
    ours = encoded(data, BINARY)
    theirs = websocket.ABNF.create_frame(data, BINARY)
    theirs.get_mask_key = lambda _: ours[len(ours) - size - 4 : len(ours) - size]
    assert ours == theirs.format()


def test_no_two_frames_have_the_same_key_but_by_chance():
    keys = collections.Counter(encoded(b"", BINARY)[-4:] for _ in range(5000))
    assert len(keys) > 4990


def test_keys_in_store_are_forgotten_in_a_forked_child():
    keys = frames._Keys()
    keys()
    stored = next(keys._keys)
    keys.forget()
    assert next(keys._keys, None) is None
    assert len(keys()) == len(stored) == KEY_SIZE


# From Python 3.12 on a fork beside other threads is warned of. The child of this test uses nothing that they hold.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_keys_of_its_own():
    reader, writer = os.pipe()
    encoded(b"", BINARY)  # so that some are in store
    if (child := os.fork()) == 0:
        os.write(writer, b"".join(encoded(b"", BINARY)[-4:] for _ in range(100)))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as theirs:
        heard = theirs.read()
    assert os.waitpid(child, 0)[1] == 0
    ours = b"".join(encoded(b"", BINARY)[-4:] for _ in range(100))
    assert len(heard) == 400 and heard != ours and heard[:4] != ours[:4]


# ---------------------------------------------------------------------------------------------------------- parsing


def parsed(pieces):
    """All messages in these pieces; Dry is raised after each piece, as by a socket that has no more for now."""
    source = iter([part for piece in pieces for part in (piece, None)])

    def read():
        piece = next(source)
        if piece is None:
            raise Dry
        return piece

    parser, messages = Parser(read), []
    for _ in pieces:
        with pytest.raises(Dry):
            while True:
                messages.append(parser.message())
    with pytest.raises(StopIteration):
        parser.message()
    return messages, parser


def cut(whole, places):
    edges = sorted({0, len(whole), *(place % (len(whole) + 1) for place in places)})
    return [whole[begin:end] for begin, end in itertools.pairwise(edges)]


CONTROL = st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125))
MESSAGE = st.tuples(
    st.sampled_from([TEXT, BINARY]),
    st.lists(st.binary(max_size=300), min_size=1, max_size=4),  # its fragments
    st.lists(CONTROL, max_size=2),  # what comes between them
)


def written(message):
    """(the frames of a message, what a parser is to make of them)."""
    opcode, fragments, between = message
    frames, expected = b"", []
    for at, fragment in enumerate(fragments):
        last = at == len(fragments) - 1
        frames += Peer.frame(opcode if at == 0 else CONT, fragment, fin=last)
        if not last:
            frames += b"".join(Peer.frame(*control) for control in between)
            expected += between
    return frames, [*expected, (opcode, b"".join(fragments))]


@given(st.lists(MESSAGE | CONTROL.map(lambda control: (control[0], [control[1]], [])), max_size=5), st.data())
def test_messages_in_fragments_with_control_frames_between_however_they_are_cut(messages, data):
    both = [written(message) for message in messages]
    whole, expected = b"".join(frames for frames, _ in both), [event for _, events in both for event in events]
    places = data.draw(st.lists(st.integers(0, len(whole)), max_size=12))
    for pieces in ([whole], cut(whole, places)):
        heard, parser = parsed([piece for piece in pieces if piece])
        assert heard == expected
        assert parser.is_dry


@pytest.mark.parametrize("payload", [b"", b"a", bytes(125), bytes(126), bytes(range(256)) * 2])
def test_byte_by_byte(payload):
    whole = Peer.frame(TEXT, payload[:3], fin=False) + Peer.frame(PING, b"p") + Peer.frame(CONT, payload[3:])
    assert parsed([whole[at : at + 1] for at in range(len(whole))])[0] == [(PING, b"p"), (TEXT, payload)]


@pytest.mark.parametrize("size", SIZES)
def test_a_message_of_every_length_form_glued_to_others(size):
    payload = os.urandom(size)
    whole = Peer.frame(TEXT, b"before") + Peer.frame(BINARY, payload) + Peer.frame(TEXT, b"after")
    assert parsed([whole])[0] == [(TEXT, b"before"), (BINARY, payload), (TEXT, b"after")]


def test_a_frame_of_the_service_may_be_masked_too():
    assert parsed([encoded(b"abcde", TEXT)])[0] == [(TEXT, b"abcde")]


def test_it_is_dry_when_nothing_is_left_of_what_was_read():
    frame = Peer.frame(TEXT, b"a")
    pieces = iter([frame + frame[:1], frame[1:]])
    parser = Parser(lambda: next(pieces))
    assert parser.is_dry
    assert parser.message() == (TEXT, b"a") and not parser.is_dry
    assert parser.message() == (TEXT, b"a") and parser.is_dry


def test_what_ends_the_source_goes_through():
    def read():
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        Parser(read).message()


@pytest.mark.parametrize(
    "frames",
    [
        Peer.frame(CONT, b"a"),  # of nothing
        Peer.frame(TEXT, b"a", fin=False) + Peer.frame(TEXT, b"b"),
        Peer.frame(TEXT, b"a", fin=False) + Peer.frame(BINARY, b"b", fin=False),
        Peer.frame(3, b""),
        Peer.frame(11, b""),
        Peer.frame(PING, b"", fin=False),
        Peer.frame(CLOSE, b"\x03"),
        Peer.frame(CLOSE, b"\x03\xee"),  # 1006 is never sent
        b"\xc1\x00",  # a reserved bit
    ],
)
def test_what_is_no_frame_is_raised(frames):
    with pytest.raises(websocket.WebSocketException):
        parsed([frames])


LONG_FRAME = Peer.frame(TEXT, bytes(65536))[:2] + (LONGEST + 1).to_bytes(8, "big")
LARGEST = Peer.frame(TEXT, bytes(65536))[:2] + LONGEST.to_bytes(8, "big")


def test_a_frame_that_says_it_is_too_long_is_not_waited_for():
    with pytest.raises(RemoteProtocolError, match="more than 16777216 bytes"):
        parsed([LONG_FRAME])


def test_the_longest_message_is_read():
    payload = bytes(LONGEST)
    assert parsed([LARGEST, *(payload[at : at + 2**20] for at in range(0, LONGEST, 2**20))])[0] == [(TEXT, payload)]


def test_a_message_whose_fragments_grow_too_long_is_given_up():
    part = bytes(2**20)
    pieces = [Peer.frame(TEXT, part, fin=False)] + [Peer.frame(CONT, part, fin=False)] * 16
    with pytest.raises(RemoteProtocolError, match="more than 16777216 bytes"):
        parsed(pieces)


def test_who_does_not_pause_may_not_send_more_either():
    """The check is made where a read ends, so it needs one; a look at the socket is one read of some kilobytes."""
    part = Peer.frame(TEXT, bytes(65536), fin=False), Peer.frame(CONT, bytes(65536), fin=False)
    pieces = [part[0]] + [part[1]] * 257
    with pytest.raises(RemoteProtocolError):
        parsed(pieces)
