"""Text divided where a speaker would breathe, so that the first word need not wait for the last."""

import re
import textwrap

SHORTEST = 20
"""A sentence with fewer characters is said together with the next."""

LONGEST = 300
"""Some 20 s of speech: a longer sentence is divided between two words."""

_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s)|[。！？]+|\n")  # noqa: RUF001  (what ends a Chinese or Japanese sentence)
_ABBREVIATION = re.compile(r"\b(?:[A-Z]|Mrs?|Ms|Dr|Prof|St|vs|e\.g|i\.e)\.$")


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text, none blank, each of `LONGEST` characters at most."""
    sentences: list[str] = []
    start = 0
    for end in (match.end() for match in _END.finditer(text)):
        sentence = text[start:end].strip()
        if len(sentence) >= SHORTEST and not _ABBREVIATION.search(sentence):
            sentences += textwrap.wrap(sentence, LONGEST)
            start = end
    return sentences + textwrap.wrap(text[start:].strip(), LONGEST)
