"""The text that a task was given: as it is, or in the result of a transcription. Pure."""

from typing import Any

from tasks.errors import BadInput


def text_of(given: Any) -> str:
    """The text itself; of a transcript, a line for each sentence, which begins with its speaker where there are
    several channels.

    Raises:
        BadInput: there is no text in it.
    """
    if isinstance(given, str):
        return given
    if isinstance(given, dict) and isinstance(given.get("text"), str):
        return _lines(given.get("sentences")) or given["text"]
    raise BadInput(
        "bad_request", "The first argument is not valid: it must be a text, or the result of tasks.transcribe."
    )


def _lines(sentences: Any) -> str:
    """None, if these are not the sentences of a transcript."""
    if not isinstance(sentences, list) or not all(
        isinstance(one, dict) and isinstance(one.get("text"), str) for one in sentences
    ):
        return ""
    channels = sorted({one.get("channel", 0) for one in sentences if isinstance(one.get("channel", 0), int)})
    if len(channels) < 2:
        return "\n".join(one["text"] for one in sentences)
    return "\n".join(f"Speaker {one.get('channel', 0) + 1}: {one['text']}" for one in sentences)
