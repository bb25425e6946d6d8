"""Which tools a route may list, and how the model sees them."""

from typing import Annotated, Any, Literal

import pytest

from sip_agent.handlers.realtime.playout import text_until
from sip_agent.handlers.realtime.tools import load_tools


def everything(  # noqa: PLR0917  (one parameter of each kind)
    text: str,
    count: Annotated[int, "How many."],
    share: float,
    sure: bool,
    names: list[str],
    extra: dict[str, Any],
    size: Literal["small", "large"] = "small",
    note: str | None = None,
) -> None:
    """Take everything.

    And more.
    """


def no_annotation(text) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Say nothing about the parameter."""


def unknown_type(text: bytes) -> None:
    """Take what JSON has not."""


def positional(*texts: str) -> None:
    """Take what has no name."""


HERE = f"{__name__}:"


def test_schema() -> None:
    """The parameters of a function become JSON Schema; what has a default is not required."""
    (tool,) = load_tools([HERE + "everything"]).values()

    assert {
        "type": "function",
        "name": "everything",
        "description": "Take everything.\n\nAnd more.",
        "parameters": {
            "type": "object",
            "properties": {
                "text": {"type": "string"},
                "count": {"type": "integer", "description": "How many."},
                "share": {"type": "number"},
                "sure": {"type": "boolean"},
                "names": {"type": "array", "items": {"type": "string"}},
                "extra": {"type": "object"},
                "size": {"type": "string", "enum": ["small", "large"]},
                "note": {"type": "string"},
            },
            "required": ["text", "count", "share", "sure", "names", "extra"],
        },
    } == tool.definition()


def test_given_schema() -> None:
    """A table says what the function does not."""
    parameters = {"type": "object", "properties": {"text": {"type": "string"}}}
    table = {"function": HERE + "unknown_type", "name": "other", "description": "Else.", "parameters": parameters}
    (tool,) = load_tools([table]).values()

    assert ("other", "Else.", parameters) == (tool.name, tool.description, tool.parameters)


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        (["no_colon"], "entry 1: a function is named module:function, not 'no_colon'"),
        ([HERE + "nothing"], "cannot be imported: AttributeError"),
        ([HERE + "HERE"], "is no function"),
        ([HERE + "no_annotation"], "the parameter text has no annotation"),
        ([HERE + "unknown_type"], "the parameter text is <class 'bytes'>"),
        ([HERE + "positional"], "the parameter texts cannot be given by name"),
        ([{"name": "a"}], "either function or url"),
        ([{"name": "a", "url": "ftp://host"}], "url begins with http:// or https://"),
        ([{"name": "a b", "url": "http://host"}], "a tool's name is 1 to 64 letters"),
        ([{"name": "a", "url": "http://host", "method": "PUT"}], "method is no key of a tool"),
        (["hang_up", "hang_up"], "entry 2: there is another tool called hang_up"),
        ([5], "entry 1:"),
    ],
)
def test_wrong(entries: list[Any], problem: str) -> None:
    """What is wrong with a tool is said when the route is checked, and of which entry."""
    with pytest.raises(ValueError) as caught:
        load_tools(entries)

    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("share", "heard"),
    [(0.0, ""), (0.3, "one"), (0.5, "one two"), (0.99, "one two three"), (1.0, "one two three four")],
)
def test_text_until(share: float, heard: str) -> None:
    """What was heard of a text ends with a whole word."""
    assert heard == text_until("one two three four", share)
