"""The values in scripts: texts, names, durations, patterns, addresses; each says what to write instead."""

import re
from datetime import timedelta
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, GetJsonSchemaHandler, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from sip_agent.config import parse_duration
from sip_agent.digits import DTMF_DIGITS
from sip_agent.script.matching import Keys, compile_regex
from sip_agent.script.templates import references

T = TypeVar("T")

BUILT_IN = {
    "heard": "what was heard last, as text",
    "digits": "the DTMF keys that were heard last",
    "caller": "user part of the From URI",
    "called": "user part of the To URI",
    "run_id": "id of the test run",
    "scenario_id": "id of the scenario",
    "result_id": "id of the result",
    "call_uuid": "our id of the call",
}
"""Variables that every script has."""


def _to_text(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, dict):
        raise ValueError('write a text; one that begins with { goes in quotes, like "{name}"')  # noqa: TRY004
    return value


def _check_template(text: str) -> str:
    references(text)
    return text


def _check_reference(name: str) -> str:
    if "{" in name or "|" in name:
        raise ValueError("write the name alone, without { }")
    references(f"{{{name}}}")
    return name


def _check_name(name: str) -> str:
    if not name.isascii() or not name.isidentifier():
        raise ValueError("write a name of letters, digits and _ (a hyphen makes it a header)")
    if name in BUILT_IN:
        raise ValueError(f"is built in ({BUILT_IN[name]}): take another name")
    return name


def _check_regex(pattern: str) -> str:
    compile_regex(pattern)
    return pattern


def _check_keys(pattern: str) -> str:
    Keys.parse(pattern)
    return pattern


def _check_digits(digits: str) -> str:
    if not digits or set(re.sub(r"\{[^{}]*\}", "", digits).upper()) - DTMF_DIGITS:
        raise ValueError("write DTMF digits: 0-9 * # A-D, in quotes if there is a #")
    return digits


def _check_sip_uri(uri: str) -> str:
    if not uri.lower().startswith(("sip:", "sips:", "tel:")) and not uri.startswith("{"):
        raise ValueError("write a URI, like sip:support@example.com")
    return uri


def _check_tool(target: str) -> str:
    if target.lower().startswith(("http://", "https://")):
        return _check_address(target)
    module, _, function = target.partition(":")
    if not function.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise ValueError("write an address that begins with http:// or https://, or module:function")
    return target


def _check_address(address: str) -> str:
    try:
        parts = urlsplit(address)
        host = (parts.hostname or "").encode("idna")
        usable = host and parts.port != 0 and not re.search(r"\s", parts.netloc)
    except ValueError:  # brackets, a name or a port that cannot be
        usable = False
    if not usable:
        raise ValueError("write a whole address, like https://example.com/book or http://127.0.0.1:8000/book")
    if parts.username or parts.password:
        raise ValueError("take the password out of the address: it would be seen in records")
    return address


def _one_or_more(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


PlainText = Annotated[
    str, BeforeValidator(_to_text), WithJsonSchema({"type": ["string", "number", "boolean"]}), Field(max_length=5000)
]
Template = Annotated[PlainText, AfterValidator(_check_template)]
VariableName = Annotated[str, AfterValidator(_check_name)]
Reference = Annotated[str, AfterValidator(_check_reference)]
Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": ["string", "number"], "description": 'like "5s", "500ms", "1m30s", or seconds'}),
]


class _OneOrMore:
    """Lets the JSON Schema take a single item for a list of it."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        written = handler(schema)
        return {"anyOf": [written["items"], written]}


OneOrMore = Annotated[list[T], BeforeValidator(_one_or_more), Field(min_length=1), _OneOrMore()]
RegexText = Annotated[PlainText, AfterValidator(_check_regex)]
KeyPattern = Annotated[PlainText, AfterValidator(_check_keys)]
Digits = Annotated[Template, AfterValidator(_check_digits)]
UriTemplate = Annotated[Template, AfterValidator(_check_sip_uri)]
ToolTarget = Annotated[str, AfterValidator(_check_tool)]
