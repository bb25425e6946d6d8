"""What is wrong with a script, in words: where, what, and what to write."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic_core import ErrorDetails

from sip_agent.script.language import (
    STEPS,
    TAG,
    BranchCase,
    Limits,
    ListenCase,
    Part,
    Script,
)
from sip_agent.script.source import Place, place_of

_ALIKE = 0.6
"""Below this ratio a hint would puzzle more than it helps."""

Keys = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong, and where."""

    place: Place
    message: str


def hint(word: str, known: Iterable[str]) -> str:
    """Return a question for what an unknown word was probably meant to be; empty if nothing is like it."""
    nearest = difflib.get_close_matches(word, list(known), n=1, cutoff=_ALIKE)
    return f"did you mean {nearest[0]}?" if nearest else ""


_MESSAGES = {
    "dict_type": "write a mapping, like `name: text`",
    "enum": "write {expected}",
    "greater_than_equal": "write a number from {ge} on",
    "int_from_float": "write a whole number",
    "int_parsing": "write a whole number",
    "int_type": "write a whole number",
    "less_than_equal": "write a number up to {le}",
    "list_type": "write a list: each item on a line of its own that begins with a dash",
    "literal_error": "write {expected}",
    "missing": "is missing: add it",
    "model_type": "write a mapping, like `key: value`",
    "none_required": "takes nothing: leave what follows it away",
    "string_too_long": "is too long: at most {max_length} characters",
    "string_too_short": "must not be empty",
    "string_type": "write a text",
    "too_short": "must not be empty",
    "value_error": "{error}",
}


def explain(details: ErrorDetails, document: Any) -> Problem:
    """Turn one finding of pydantic into a problem with its place."""
    location, kind, found = details["loc"], details["type"], details["input"]
    keys = tuple(key for key in location if not str(key).startswith(TAG))
    if kind == "extra_forbidden":
        return Problem(place_of(document, keys, of_key=True), _unknown_key(location, str(keys[-1])))
    if kind == "union_tag_not_found":
        return _unknown_step(found, keys, document)
    context = details.get("ctx", {})
    message = _MESSAGES[kind].format(**context) if kind in _MESSAGES else details["msg"]
    name = next((key for key in reversed(keys) if isinstance(key, str) and key != "[key]"), "")
    is_key = keys[-1:] == ("[key]",)
    if is_key:
        keys, name = keys[:-1], str(found)
    place = place_of(document, keys[:-1] if kind == "missing" else keys, of_key=is_key)
    if kind == "value_error" and isinstance(found, dict):
        return Problem(place, message)
    return Problem(place, f"{name}: {message}" if name else message)


def _unknown_key(location: Keys, key: str) -> str:
    owner = str(location[-2]) if len(location) > 1 else ""
    if key in STEPS and owner.startswith(TAG):
        return f"{key}: a step does one thing; begin the next step with `- {key}:`"
    known = sorted(field.alias or name for name, field in _model_at(location[:-1]).model_fields.items())
    return f"{key}: there is no such key here; {hint(key, known) or 'write one of ' + ', '.join(known)}"


def _model_at(location: Keys) -> type[Part]:
    """Return the model of the mapping at a location of pydantic."""
    tags = [index for index, key in enumerate(location) if str(key).startswith(TAG)]
    if not tags:
        return Limits if location[:1] == ("limits",) else Script
    step = STEPS[str(location[tags[-1]]).removeprefix(TAG)]
    inner = location[tags[-1] + 1 :]
    if inner[:1] == ("listen",):
        return ListenCase
    return BranchCase if inner[:1] == ("branch",) else step


def _unknown_step(found: Any, keys: Keys, document: Any) -> Problem:
    place = place_of(document, keys)
    known = f"the steps are {', '.join(STEPS)}"
    if found is None:
        return Problem(place, f"there is no step behind this dash; {known}")
    if isinstance(found, str) and found in STEPS:
        return Problem(place, f"{found}: say what; write `- {found}: …`")
    word = str(next(iter(found), "")) if isinstance(found, dict) else str(found)
    if isinstance(found, list) or (" " in word and not isinstance(found, dict)):
        return Problem(place, f"a step begins with what it does, like `- say: …`; {known}")
    return Problem(place, f"{word}: there is no such step; {hint(word, STEPS) or known}")
