"""Sentences such as the service tells them, and such as nobody ever told."""

from hypothesis import strategies as st

from tasks.transcript.assemble import Sentence, Word

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)
"""Half surrogate pairs, line ends and control characters too."""

_TOKENS = (
    "it was the best of times, worst age wisdom. of Really? « » -- --> <b> {\\an8} & 1984 "
    "supercalifragilisticexpialidocious 欢迎 使用 识别， 服务。 「はい」 ちょっと データ、 여러분 안녕하세요. 👩‍👩‍👧"
).split()
TALK = st.builds(
    lambda words, space: space.join(words), st.lists(st.sampled_from(_TOKENS), max_size=40), st.sampled_from(["", " "])
)
TEXT = TALK | ANY_TEXT


def one(begin: int, end: int, text: str, channel: int = 0, words: list[Word] | None = None) -> Sentence:
    return Sentence(begin_time=begin, end_time=end, text=text, channel=channel, words=words or [])


def told(begin: int, end: int, text: str, channel: int = 0) -> Sentence:
    """A sentence whose words share its time, with a little silence after each."""
    tokens = text.split()
    step = (end - begin) // max(1, len(tokens))
    words = [
        Word(
            begin_time=begin + place * step,
            end_time=begin + place * step + step * 9 // 10,
            text=token.rstrip(".,!?"),
            punctuation=token[len(token.rstrip(".,!?")) :],
        )
        for place, token in enumerate(tokens)
    ]
    return one(begin, end, text, channel, words)


_MS = st.integers(-500, 20_000)
_WORD = st.builds(
    lambda begin, end, text, mark: Word(begin_time=begin, end_time=end, text=text, punctuation=mark),
    _MS,
    _MS,
    st.text(max_size=12),
    st.sampled_from(["", ".", "，"]),
)
_ANY = st.builds(one, _MS, _MS, TEXT, st.integers(0, 1), st.lists(_WORD, max_size=5))
_TOLD = st.builds(
    lambda begin, length, text, channel: told(begin, begin + length, text, channel),
    _MS,
    st.integers(0, 30_000),
    TALK,
    st.integers(0, 1),
)

SENTENCES = st.lists(_ANY | _TOLD, max_size=4)
