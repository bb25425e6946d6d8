"""`{name}` in texts: looked up, never computed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sip_agent.script.templates import TEXT_CHARS_MAX, expand, references

VARIABLES = {"name": "Ada", "x-id": "7", "empty": "", "answer": {"list": [1, {"a-b": True}], "text": "t"}, "none": None}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("Hello {name}!", "Hello Ada!"),
        ("{X-Id}{x-id}", "77"),
        ("{nobody}", ""),
        ("{nobody|a guest}, {empty|b}, {none|c}", "a guest, b, c"),
        ("{{name}} {{{name}}}", "{name} {Ada}"),
        ("{answer.text} {answer.list.0} {answer.list.1.a-b}", "t 1 true"),
        ("{answer.list} {answer.list.9}{answer.text.x}{name.__class__}", '[1, {"a-b": true}] '),
    ],
)
def test_expand(text: str, expanded: str) -> None:
    """Variables, headers in any letter case, fields of JSON, defaults, braces."""
    assert expanded == expand(text, VARIABLES)


def test_what_is_put_in_is_not_expanded() -> None:
    """What a caller says stays what it said."""
    assert "{name} {{" == expand("{heard}", {"heard": "{name} {{", "name": "Ada"})


def test_no_text_grows_without_end() -> None:
    """A script that doubles a text comes to a limit."""
    text = "x" * TEXT_CHARS_MAX

    assert TEXT_CHARS_MAX == len(expand("{a}{a}", {"a": text}))


@given(st.text("{}|.-_ab0 \n", max_size=20))
def test_what_is_checked_can_be_expanded(text: str) -> None:
    """A text that is not refused expands."""
    try:
        names = references(text)
    except ValueError:
        return
    assert isinstance(expand(text, dict.fromkeys(names, "v")), str)
