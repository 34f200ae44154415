import pytest

from emulator.faults import CONNECTION_KINDS, TASK_KINDS, Fault, Faults


def test_a_fault_fires_as_often_as_ordered_and_then_disappears():
    faults = Faults()
    faults.add(Fault(kind="close", times=2))
    assert [faults.take(TASK_KINDS) is not None for _ in range(3)] == [True, True, False]
    assert repr(faults) == "<Faults none>"


def test_the_oldest_suitable_fault_is_taken():
    faults = Faults()
    faults.add(Fault(kind="close"), Fault(kind="no_pong"), Fault(kind="abort"))
    taken = faults.take(CONNECTION_KINDS)
    assert taken is not None and taken.kind == "no_pong"
    assert repr(faults) == "<Faults close x1, abort x1>"
    faults.clear()
    assert faults.pending == ()


def test_a_fault_with_a_marker_waits_for_the_task_that_has_it():
    faults = Faults()
    faults.add(Fault(kind="abort", marker="mine"), Fault(kind="close"))
    taken = [faults.take(TASK_KINDS, marker) for marker in ("yours", "yours", None, "mine", "mine")]
    assert [fault and fault.kind for fault in taken] == ["close", None, None, "abort", None]


def test_a_fault_without_a_taker_happens_at_once():
    faults = Faults()
    done: list[Fault] = []
    faults.add(Fault(kind="close_idle"))  # no server yet: nothing to close
    faults.on_now(done.append)
    faults.add(Fault(kind="close_idle", value=1001))
    assert [fault.value for fault in done] == [1001]
    assert faults.pending == ()


def test_audio_to_wait_for_sets_the_moment():
    assert Fault(kind="close", after_ms=100).at == "audio"
    assert Fault(kind="close").at == "start"


@pytest.mark.parametrize(
    ("wire", "said"),
    [
        ([], "JSON object"),
        ({}, "kind is missing"),
        ({"kind": "nonsense"}, "kind='nonsense' must be one of"),
        ({"kind": "close", "when": 1}, "unknown field 'when'"),
        ({"kind": "close", "at": "never"}, "at='never' must be one of"),
        ({"kind": "close", "times": 0}, "times=0 must be"),
        ({"kind": "close", "after_ms": -1}, "after_ms=-1 must be"),
        ({"kind": "close", "after_ms": "1"}, "after_ms='1' must be"),
        ({"kind": "close", "value": "x"}, "value='x' must be an integer"),
        ({"kind": "task_failed", "value": 5}, "value=5 must be an error code"),
        ({"kind": "abort", "marker": 5}, "marker=5 must be text"),
        ({"kind": "no_pong", "marker": "x"}, "marker='x' must be text, and kind one of abort"),
    ],
)
def test_a_wrong_fault_says_what_is_allowed(wire, said):
    with pytest.raises(ValueError, match="^.*" + said.replace("(", ".")):
        Fault.from_wire(wire)


def test_a_fault_survives_json():
    fault = Fault(kind="task_failed", value="X", after_ms=5, keep_open=True)
    assert Fault.from_wire(fault.to_wire()) == fault
