"""What was heard, tried on what is waited for."""

import asyncio

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from sip_agent.script.matching import Fit, Keys, RegexTooSlow, has_words, search


@pytest.mark.parametrize(
    ("heard", "wanted", "found"),
    [
        ("Yes, please!", "yes", True),
        ("well... YES PLEASE", "yes please", True),
        ("yesterday", "yes", False),
        ("yes and please", "yes please", False),
        ("I don\u2019t know", "don't", True),
        ("Grüße aus Köln", "grüße", True),
        ("a" * 5000 + " yes", "yes", False),
        ("", "yes", False),
        ("yes", "...", False),
    ],
)
def test_words(heard: str, wanted: str, found: bool) -> None:
    """Whole words in their order; letter case, punctuation and kinds of apostrophe do not matter."""
    assert found == has_words(heard, wanted)


async def test_regular_expressions() -> None:
    """Any letter case, anywhere in the text; named groups come back, empty ones too."""
    assert {"people": "Two", "hour": ""} == await search(
        r"(?<people>\w+) people(?: at (?<hour>\w+))?", "For Two people."
    )
    assert await search("three", "for two") is None


async def test_a_regular_expression_without_end() -> None:
    """It is given up, and the event loop goes on meanwhile."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    counting = asyncio.create_task(count())
    with pytest.raises(RegexTooSlow, match="is there a repeat in a repeat"):
        await search("(a|a?)+(b|a+)+$", "a" * 1000 + "!")
    counting.cancel()

    assert turns


@pytest.mark.parametrize(
    ("pattern", "pressed", "fit"),
    [
        ("12#", "1", Fit.BEGUN),
        ("12#", "12#", Fit.WHOLE),
        ("12#", "13", Fit.NO),
        ("12#", "12#1", Fit.NO),
        ("XXXX", "012", Fit.BEGUN),
        ("XXXX", "0123", Fit.WHOLE),
        ("XX", "1*", Fit.NO),
        ("X+", "1", Fit.WHOLE_AND_MORE),
        ("X+#", "123", Fit.BEGUN),
        ("X+#", "123#", Fit.WHOLE),
        ("*X+1", "*121", Fit.WHOLE_AND_MORE),
        ("any", "#", Fit.WHOLE),
        ("d", "D", Fit.WHOLE),
    ],
)
def test_keys(pattern: str, pressed: str, fit: Fit) -> None:
    """A pattern says whether keys fit it, may yet fit it, or never will."""
    assert fit == Keys.parse(pattern).fit(pressed)


@given(st.from_regex(r"(?:[0-9*#A-D]|X\+?){1,6}", fullmatch=True), st.text("0123456789*#ABCD", max_size=8))
def test_keys_are_a_regular_language(pattern: str, pressed: str) -> None:
    """The same as a regular expression with partial matching says."""
    same = regex.compile(
        "".join(
            r"\d+" if each == "X+" else r"\d" if each == "X" else regex.escape(each)
            for each in regex.findall(r"X\+|.", pattern)
        )
    )
    found = same.fullmatch(pressed, partial=True)
    fit = Keys.parse(pattern).fit(pressed)

    assert (found is None) == (fit is Fit.NO)
    assert (found is not None and not found.partial) == (fit in {Fit.WHOLE, Fit.WHOLE_AND_MORE})
