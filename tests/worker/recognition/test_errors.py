import pickle

import pytest

import worker.recognition as package
from worker.recognition import errors


def concrete(kind):
    for child in kind.__subclasses__():
        yield child
        yield from concrete(child)


CLASSES = [
    errors.RecognitionError,
    # Text models have kinds of their own, which are not this package's.
    *(kind for kind in concrete(errors.RecognitionError) if kind.__module__.startswith(package.__name__)),
]
PUBLIC = [kind for kind in CLASSES if not kind.__name__.startswith("_")]
RETRYABLE = {
    "ConnectFailed",
    "ConnectionLost",
    "NoDataTimeout",
    "OutOfStep",
    "RemoteProtocolError",
    "ServerFault",
    "ServiceError",
    "SilenceTimeout",
    "Throttled",
    "TransportError",
    "UpstreamSilent",
}


def test_what_may_be_tried_again():
    assert {kind.__name__ for kind in PUBLIC if kind.retryable} == RETRYABLE


def test_each_class_has_its_own_code():
    codes = [kind.code for kind in PUBLIC]
    assert len(set(codes)) == len(codes)
    assert all(code.islower() and code.isidentifier() for code in codes)


@pytest.mark.parametrize("kind", PUBLIC)
def test_each_class_is_public_and_in_the_drawing(kind):
    assert getattr(package, kind.__name__) is kind
    assert kind.__name__ in errors.__doc__


@pytest.mark.parametrize("kind", CLASSES)
def test_the_text_is_one_sentence(kind):
    for error in (kind(), kind("a detail")):
        text = str(error)
        assert text.endswith(".") and ". " not in text and "\n" not in text and text[0].isupper()
    assert "(a detail)." in str(kind("a detail"))


@pytest.mark.parametrize("kind", CLASSES)
def test_each_error_survives_the_way_to_another_process(kind):
    for error in (kind(), kind("a detail")):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), copy.args, str(copy), vars(copy)) == (kind, error.args, str(error), vars(error))


def test_what_an_error_knows_besides_survives_too():
    assert pickle.loads(pickle.dumps(errors.Throttled("d", 2.5))).retry_after == 2.5
    assert pickle.loads(pickle.dumps(errors.ServerFault("d", 2.5))).retry_after == 2.5
    assert pickle.loads(pickle.dumps(errors.ConnectionLost("d", 1011))).close_code == 1011


def test_everything_exported_exists():
    assert sorted(package.__all__) == list(dict.fromkeys(sorted(package.__all__)))
    assert all(hasattr(package, name) for name in package.__all__)


def test_a_missing_key_says_which_variables_to_set():
    text = str(errors.MissingApiKey())
    assert "DASHSCOPE_API_KEY" in text and "DASHSCOPE_API_KEY_FILE_PATH" in text
