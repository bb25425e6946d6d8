"""The header fields that are added to a request or a response: each is the one line that it is given as."""

import re
from collections.abc import Iterable

FIELD_NAME = r"[A-Za-z0-9.!%*_+`'~-]+"
"""A regular expression: what the name of a header field is made of (RFC 3261 §25.1)."""

_NAME = re.compile(FIELD_NAME)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
"""What Python makes of bytes on the command line that are not UTF-8; it cannot be sent."""


def checked(headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return extra header fields as they may be sent; raises ValueError for what is not one line of UTF-8 text."""
    fields = tuple(headers)
    for name, value in fields:
        if not _NAME.fullmatch(name):
            raise ValueError(f"no name of a header field: {name[:80]!r}; write a word like X-Agent")
        if _CONTROL.search(value):
            raise ValueError(f"the value of {name} has control characters: {value[:80]!r}; take line ends out of it")
        if _SURROGATE.search(value):
            raise ValueError(f"the value of {name} is not UTF-8 text: {value[:80]!r}; write it in UTF-8")
    return fields
