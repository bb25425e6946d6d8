"""What is wrong with settings, in words: the key, what was found, and what to write."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic_core import ErrorDetails

from sip_agent.config.describe import toml_value
from sip_agent.config.environment import Override
from sip_agent.config.keys import Keys, dotted, hint_at_key
from sip_agent.config.secret_files import WRONG_FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What was read, so that an error can say where the wrong value stands."""

    file: Path | None
    overrides: tuple[Override, ...]

    def of(self, keys: Keys) -> str:
        """Return where the value at `keys` stands, to be put behind a message."""
        for override in self.overrides:
            if override.keys == keys[: len(override.keys)]:
                return f" (from {override.variable})"
        return "" if self.file is None else f" (in {self.file})"


_MESSAGES: Mapping[str, str] = {
    "bool_parsing": "write true or false",
    "bool_type": "write true or false",
    "dict_type": 'write a table, like { name = "value" }',
    "enum": "write one of {expected}",
    "float_parsing": "write a number",
    "float_type": "write a number",
    "greater_than_equal": "write a number from {ge} on",
    "int_from_float": "write a whole number",
    "int_parsing": "write a whole number",
    "int_type": "write a whole number",
    "less_than_equal": "write a number up to {le}",
    "missing": "is missing: add it",
    "model_type": "write a table",
    "model_attributes_type": "write a table",
    "path_type": "write a path, in quotes",
    "string_pattern_mismatch": "write plain text without quotes, backslashes and control characters",
    "string_too_short": "must not be empty",
    "string_type": "write text, in quotes",
    "too_long": "write {max_length} values, not {actual_length}",
    "tuple_type": 'write a list, like ["a", "b"]',
    "value_error": "{error}",
}


def explain(details: ErrorDetails, origin: Origin) -> Iterator[str]:
    """Turn one finding of pydantic into lines that name the key, what was found, and what to write."""
    keys, kind, found = details["loc"], details["type"], details["input"]
    where = origin.of(keys)
    context = details.get("ctx", {})
    message = _MESSAGES[kind].format(**context) if kind in _MESSAGES else details["msg"]
    if not keys:
        yield from message.splitlines()
    elif kind == "extra_forbidden":
        yield f"{dotted(keys)}: no such setting{hint_at_key(keys)}{where}"
    elif kind == WRONG_FILE:
        yield f"{dotted(keys)}_file: {message}{where}"
    elif kind == "missing" or isinstance(found, Mapping):
        yield f"{dotted(keys)}: {message}{where}"
    else:
        yield f"{dotted(keys)} = {_show_found(keys, found)}: {message}{where}"


_SECRET_KEY = re.compile(r"(^|\.)(password|token|api_key|fingerprint_salt|users(\..*)?)$")
_LONGEST_FOUND = 80


def _show_found(keys: Keys, found: object) -> str:
    if _SECRET_KEY.search(dotted(keys)):
        return "(hidden)"
    text = re.sub(r"//[^/@\s]*@", "//***@", toml_value(found))
    return text if len(text) <= _LONGEST_FOUND else f"{text[:_LONGEST_FOUND]}…"
