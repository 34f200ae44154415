import json
import runpy
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import compact as module
from tasks.compact import compact, quick, standard

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
WAYS = pytest.mark.parametrize("write", [quick, standard])


def test_with_the_extra_it_is_orjson_that_writes():
    assert compact is quick


def test_without_the_extra_it_is_the_standard_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "orjson", None)
    found = runpy.run_path(module.__file__)
    assert found["compact"] is found["standard"]


@WAYS
@given(value=VALUES)
def test_what_is_written_is_read_as_it_was(write, value):
    assert json.loads(write(value, "strict")) == value


@WAYS
def test_it_takes_no_more_room_than_it_needs(write):
    assert write({"text": "Grüße", "words": [1, 2]}, "strict") == '{"text":"Grüße","words":[1,2]}'.encode()


@WAYS
def test_half_a_surrogate_pair_becomes_what_was_asked_for(write):
    assert write("a\ud83d", "replace") == b'"a?"'
    assert write("a\ud83d", "surrogatepass").decode("utf-8", "surrogatepass") == '"a\ud83d"'


@WAYS
def test_what_json_cannot_carry_is_a_type_error(write):
    with pytest.raises(TypeError):
        write(object(), "strict")
