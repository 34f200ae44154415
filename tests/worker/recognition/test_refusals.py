import pytest

from worker.recognition import refusals
from worker.recognition.errors import ConnectionLost, RecognitionError, ServerFault, Throttled
from worker.recognition.refusals import closed, handshake_error, not_started, quoted, refusal

# Written out again, from the vendor's pages and not from the table under test.
WORDS = """
    InvalidApiKey                   unauthorized
    AccessDenied                    access_denied
    AccessDenied.Unpurchased        access_denied
    Model.AccessDenied              access_denied
    Workspace.AccessDenied          access_denied
    AllocationQuota.FreeTierOnly    account_blocked
    Arrearage                       account_blocked
    InvalidParameter                invalid_request
    InvalidParameter.DataInspection invalid_request
    BadRequest                      invalid_request
    BadRequest.TooLarge             invalid_request
    BadRequest.ResourceNotExist     not_found
    ModelNotFound                   unknown_model
    model_not_found                 unknown_model
    Model.NotExist                  unknown_model
    WorkSpaceNotFound               not_found
    NotFound                        not_found
    ClientDisconnect                connection_lost
    Throttling                      throttled
    Throttling.RateQuota            throttled
    Throttling.BurstRate            throttled
    Throttling.AllocationQuota      throttled
    Throttling.Concurrency          throttled
    LimitRequests                   throttled
    CLIENT_ERROR                    no_data_timeout
    ResponseTimeout                 silence_timeout
    RequestTimeOut                  silence_timeout
    NO_VALID_AUDIO_ERROR            no_speech
    EmptyAudio                      no_speech
    NO_INPUT_AUDIO_ERROR            no_speech
    UNSUPPORTED_FORMAT              unsupported_audio
    DECODE_ERROR                    unsupported_audio
    InternalError                   server_fault
    InternalError.Algo              server_fault
    ModelServingError               server_fault
    ServiceUnavailable              server_fault
    ModelUnavailable                server_fault
    InvalidURL                      invalid_request
    DataInspectionFailed            invalid_request
    MissingSomething                invalid_request
    NeverHeardOf                    service_error
    Never.Heard.Of                  service_error
""".split()
BY_CODE = list(zip(WORDS[::2], WORDS[1::2], strict=True))


@pytest.mark.parametrize(("code", "ours"), BY_CODE)
def test_every_code_of_the_service_is_one_of_ours(code, ours):
    error = refusal(code, "some words")
    assert error.code == ours
    assert str(error).endswith(f"({code}: some words).")


def test_no_code_of_the_table_is_left_untested():
    assert set(refusals.BY_CODE) <= {code for code, _ in BY_CODE}


@pytest.mark.parametrize(
    ("message", "ours"),
    [
        ("Invalid action('run-task')! Please follow the protocol!", "out_of_step"),
        ("Missing required parameter 'payload.input'! Please follow the protocol!", "invalid_request"),
        ("task can not be null", "invalid_request"),
        ("Failed to decode audio.", "unsupported_audio"),
        ("NO_VALID_AUDIO_ERROR", "no_speech"),
        ("No effective audio received", "no_speech"),
        ("Requests rate limit exceeded, please try again later.", "throttled"),
        ("Model not found (x)!", "unknown_model"),
    ],
)
def test_a_telling_message_goes_before_a_vague_code(message, ours):
    assert refusal("InvalidParameter", message).code == ours


def test_a_refusal_without_code_and_words_is_a_service_error():
    assert refusal("", "").code == "service_error"
    assert "(" not in str(refusal("", ""))


@pytest.mark.parametrize(
    ("status", "ours", "retryable"),
    [
        (200, "connect_failed", True),
        (301, "connect_failed", True),
        (400, "connect_failed", True),
        (401, "unauthorized", False),
        (403, "access_denied", False),
        (404, "not_found", False),
        (408, "connect_failed", True),
        (426, "connect_failed", True),
        (429, "throttled", True),
        (500, "server_fault", True),
        (502, "server_fault", True),
        (503, "server_fault", True),
        (504, "server_fault", True),
    ],
)
def test_the_status_of_the_handshake(status, ours, retryable):
    error = handshake_error(status)
    assert (error.code, error.retryable, error.detail) == (ours, retryable, f"HTTP {status}")


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("seconds", [None, 0.0, 1.0, 30.0])
def test_who_asks_to_wait_says_how_long(status, seconds):
    error = handshake_error(status, seconds)
    assert isinstance(error, Throttled | ServerFault) and error.retry_after == seconds


@pytest.mark.parametrize(
    ("code", "reason", "ours"),
    [
        (None, "", "connection_lost"),
        (1000, "bye", "connection_lost"),
        (1001, "", "connection_lost"),
        (1007, "Invalid payload data", "connection_lost"),
        (1007, "Model not found", "unknown_model"),
        (1007, "task can not be null", "invalid_request"),
        (1008, "Invalid action('run-task')! Please follow the protocol!", "out_of_step"),
        (1011, "internal error", "connection_lost"),
        (4000, "", "connection_lost"),
    ],
)
def test_the_code_of_a_close_frame(code, reason, ours):
    error = closed(code, reason)
    assert error.code == ours
    assert f"close code {code or 1005}" in str(error) and reason in str(error)
    if ours == "connection_lost":
        assert isinstance(error, ConnectionLost) and error.close_code == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConnectionLost("close code 1007, bad", 1007), "invalid_request"),
        (ConnectionLost("close code 1011", 1011), "connection_lost"),
        (ConnectionLost("reset"), "connection_lost"),
        (Throttled("x"), "throttled"),
    ],
)
def test_only_1007_in_the_place_of_task_started_is_about_the_request(error, code):
    found = not_started(error)
    assert isinstance(found, RecognitionError) and found.code == code and error.detail in str(found)
    assert found is error or code == "invalid_request"


def test_quotations_are_one_line_of_200_characters_without_keys_and_queries():
    assert quoted("a\n b\t c") == "a b c"
    assert quoted("x" * 200) == "x" * 200
    assert quoted("x" * 201) == "x" * 199 + "…"
    assert quoted("Incorrect key sk-abc-123_x, see") == "Incorrect key sk-***, see"
    assert quoted("at https://h/a.wav?Signature=s&x=1 now") == "at https://h/a.wav now"
    assert len(refusal("c" * 500, "m" * 500).detail) == 64 + 2 + 200
