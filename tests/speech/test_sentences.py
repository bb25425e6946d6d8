"""Text divided into sentences."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sip_agent.speech.sentences import LONGEST, split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        (" \n ", []),
        ("Hello.", ["Hello."]),
        (
            "Good evening, this is Luigi's. How many people will come? We have two tables left!",
            ["Good evening, this is Luigi's.", "How many people will come?", "We have two tables left!"],
        ),
        ("Yes. That is quite possible. Thanks.", ["Yes. That is quite possible.", "Thanks."]),
        ("I should like to speak to Dr. Smith, please.", ["I should like to speak to Dr. Smith, please."]),
        ("The book was written by J. Austen in 1813.", ["The book was written by J. Austen in 1813."]),
        ("It costs exactly 12.50 for everybody.", ["It costs exactly 12.50 for everybody."]),
        ('He said: "I will come tomorrow." She smiled.', ['He said: "I will come tomorrow."', "She smiled."]),
        ("A heading without a stop\nand what follows it", ["A heading without a stop", "and what follows it"]),
        ("你好，这里是一家很好的餐厅，请问您几位？我们还有两张桌子。", None),  # noqa: RUF001
    ],
)
def test_where_a_text_is_divided(text: str, sentences: list[str] | None) -> None:
    """A text is divided after its sentences: not after abbreviations, nor for the sake of a word."""
    if sentences is None:
        sentences = ["你好，这里是一家很好的餐厅，请问您几位？", "我们还有两张桌子。"]  # noqa: RUF001
    assert sentences == split_sentences(text)


def test_a_long_sentence() -> None:
    """A sentence without end is divided between words."""
    pieces = split_sentences("word " * 1000)

    assert all(len(piece) <= LONGEST for piece in pieces)
    assert ["word"] * 1000 == " ".join(pieces).split()


@given(st.text(alphabet="ab .!?\n…。\"'", max_size=1000))
def test_nothing_is_lost(text: str) -> None:
    """Whatever the text, its characters are all said, in order, in pieces of limited length."""
    pieces = split_sentences(text)

    assert "".join(text.split()) == "".join("".join(pieces).split())
    assert all(piece.strip() and len(piece) <= LONGEST for piece in pieces)
