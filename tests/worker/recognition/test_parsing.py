import json
import runpy
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.recognition import parsing
from worker.recognition.parsing import loads, quick

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def test_with_the_extra_it_is_orjson_that_reads():
    assert loads is quick


def test_without_the_extra_it_is_the_standard_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "orjson", None)
    assert runpy.run_path(parsing.__file__)["loads"] is json.loads


@settings(max_examples=50)
@given(VALUES, st.booleans())
def test_both_read_the_same(value, ascii):
    text = json.dumps(value, ensure_ascii=ascii)
    assert quick(text) == json.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        r'"\ud800"',
        r'{"text": "\udc00 half a pair"}',
        "NaN",
        "-Infinity",
        "1e400",
        "-0",
        "-0.0",
        "1.0",
        r'"\u0000"',
        '{"a": 1, "a": 2}',
        " [1]\n",
    ],
)
def test_what_only_one_of_them_takes_is_read_all_the_same(text):
    assert repr(quick(text)) == repr(json.loads(text))


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**30])
def test_what_no_machine_counts_in_is_read_roughly(number):
    assert quick(str(number)) == pytest.approx(number, rel=1e-15)


@pytest.mark.parametrize("text", ["", " ", "{", "[1,]", "{'a': 1}", "tru", "\ufeff{}", '"\n"', "[1] 2", "\x00"])
def test_what_none_of_them_takes_is_a_value_error(text):
    for read in (quick, json.loads):
        with pytest.raises(ValueError):
            read(text)


@given(st.text(max_size=30))
def test_they_agree_about_what_is_json(text):
    def outcome(read):
        try:
            read(text)
        except ValueError:
            return False
        return True

    assert outcome(quick) == outcome(json.loads)


def test_what_is_nested_without_end_is_refused():
    for read in (quick, json.loads):
        with pytest.raises((ValueError, RecursionError)):
            read("[" * 100_000)
