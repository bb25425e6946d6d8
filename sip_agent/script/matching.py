"""What a script waits for, tried on what was heard: words, regular expressions, DTMF keys."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import regex

HEARD_CHARS_MAX = 2000
"""What a caller says is looked at so far; two minutes of speech."""

REGEX_TIMEOUT_S = 0.25
"""A regular expression that takes longer on such a text backtracks without end: it is the script's fault."""

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
_KEYS = "0123456789*#ABCD"
_ANY_DIGIT = frozenset("0123456789")
_DTMF = re.compile(r"(?:[0-9*#A-D]|X\+?)+")


class RegexTooSlow(Exception):  # noqa: N818  (a fact, turned into a failure of the script)
    """A regular expression took longer than REGEX_TIMEOUT_S."""


def has_words(heard: str, wanted: str) -> bool:
    """Tell whether the words of `wanted` stand in `heard` one after the other, whatever the case and punctuation."""
    words, phrase = _words(heard[:HEARD_CHARS_MAX]), _words(wanted)
    starts = range(len(words) - len(phrase) + 1 if phrase else 0)
    return any(words[start : start + len(phrase)] == phrase for start in starts)


def is_same(one: str, other: str) -> bool:
    """Tell whether two texts are the same, whatever the letter case and the space around them."""
    return one.strip().casefold() == other.strip().casefold()


def compile_regex(pattern: str) -> Any:
    """Return the compiled expression; any letter case. Raises ValueError that says where it is wrong."""
    try:
        return regex.compile(pattern, regex.IGNORECASE | regex.VERSION0)
    except regex.error as error:
        where = "" if error.pos is None else f" at its character {error.pos + 1}"
        raise ValueError(f"this is no regular expression: {error.msg}{where}; put it in single quotes") from error
    except (RecursionError, OverflowError, MemoryError) as error:
        raise ValueError("this regular expression is too large, or nested too deeply: write a simpler one") from error


async def search(pattern: str, heard: str) -> Mapping[str, str] | None:
    """Return the named groups of the first match, or None; raises RegexTooSlow.

    It runs in a thread without the interpreter lock, and not for ever: the text is a stranger's.
    """
    compiled = compile_regex(pattern)
    try:
        found = await asyncio.to_thread(
            compiled.search, heard[:HEARD_CHARS_MAX], timeout=REGEX_TIMEOUT_S, concurrent=True
        )
    except TimeoutError as error:
        raise RegexTooSlow(
            f"the regular expression {pattern!r} takes too long: is there a repeat in a repeat?"
        ) from error
    return None if found is None else {name: value or "" for name, value in found.groupdict().items()}


class Fit(Enum):
    """How far pressed keys fit a pattern."""

    NO = "no"
    BEGUN = "begun"
    WHOLE = "whole"
    WHOLE_AND_MORE = "whole, and it may go on"


@dataclass(frozen=True, slots=True)
class Keys:
    """A pattern of DTMF keys: `12#`, `XXXX` for four digits, `X+#` for digits up to the #, `any` for one key."""

    elements: Sequence[tuple[frozenset[str], bool]]

    @classmethod
    def parse(cls, text: str) -> "Keys":
        """Read a pattern; raises ValueError that says what to write."""
        if text.lower() == "any":
            return cls(((frozenset(_KEYS), False),))
        if not _DTMF.fullmatch(text.upper()):
            raise ValueError("write keys (0-9 * # A-D), X for any digit, X+ for several digits, or any for one key")
        found = re.findall(r"(.)(\+?)", text.upper())
        return cls(tuple((_ANY_DIGIT if key == "X" else frozenset(key), bool(plus)) for key, plus in found))

    def fit(self, pressed: str) -> Fit:
        """Tell how far `pressed` fits."""
        states = {0}
        for key in pressed:
            states = {state for start in states for state in self._after(start, key)}
        end = len(self.elements)
        if not states:
            return Fit.NO
        if end not in states:
            return Fit.BEGUN
        return Fit.WHOLE if states == {end} and not self.elements[-1][1] else Fit.WHOLE_AND_MORE

    def _after(self, state: int, key: str) -> set[int]:
        """Return the elements that may come next once `key` was pressed; a repeated one may come again."""
        after = set()
        if state < len(self.elements) and key in self.elements[state][0]:
            after.add(state + 1)
        if state and self.elements[state - 1][1] and key in self.elements[state - 1][0]:
            after.add(state)
        return after


def _words(text: str) -> list[str]:
    return [word.replace("\u2019", "'") for word in _WORD.findall(text.casefold())]
