"""`{name}` in a script's texts: looked up, never computed.

Good evening, {caller}.          a variable of the script, or a built-in one
Run {X-Run-Id}                   a header of the INVITE: every name with a hyphen in it
{X-Customer|dear guest}          what to say when it is empty
{booking.table}                  a field of a tool's JSON answer
{{ and }}                        braces
"""

import json
import re
from collections.abc import Mapping
from typing import Any

NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_REFERENCE = re.compile(rf"({NAME}(?:\.[A-Za-z0-9_-]+)*)(?:\|(.*))?", re.DOTALL)

TEXT_CHARS_MAX = 10_000
"""No text of a script grows beyond this, whatever is put into it."""


def references(text: str) -> list[str]:
    """Return the names that a template asks for; raises ValueError for braces that make no sense."""
    names = []
    for found in _PART.finditer(text):
        if found[0] in {"{{", "}}"}:
            continue
        if found[1] is None:
            raise ValueError(f"a lone {found[0]}: write {found[0] * 2} for a brace, or {{name}} for a variable")
        reference = _REFERENCE.fullmatch(found[1])
        if reference is None:
            raise ValueError(
                f"{found[0]} is no variable: write {{name}}, {{name|what to say without it}}, {{X-Header}} "
                "or {tool.field}"
            )
        names.append(reference[1])
    return names


def expand(text: str, variables: Mapping[str, Any]) -> str:
    """Return the text with each `{name}` replaced; an unknown name is empty. At most TEXT_CHARS_MAX characters."""

    def replace(found: re.Match[str]) -> str:
        if found[0] in {"{{", "}}"}:
            return found[0][0]
        reference = _REFERENCE.fullmatch(found[1] or "")
        if reference is None:
            return found[0]
        return as_text(look_up(reference[1], variables)) or reference[2] or ""

    return _PART.sub(replace, text)[:TEXT_CHARS_MAX]


def look_up(name: str, variables: Mapping[str, Any]) -> Any:
    """Return a variable, a header in any letter case, or a field of a JSON value; None if there is none."""
    first, *fields = name.split(".")
    value = variables.get(first)
    if value is None and "-" in first:
        value = variables.get(first.lower())
    for field in fields:
        if isinstance(value, Mapping):
            value = value.get(field)
        elif isinstance(value, list) and field.isascii() and field.isdigit() and int(field) < len(value):
            value = value[int(field)]
        else:
            return None
    return value


def as_text(value: Any) -> str:
    """Write a value as it is to be said: text as it is, JSON for anything that is no text."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
