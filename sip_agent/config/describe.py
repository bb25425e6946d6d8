"""Every setting with its type, default and reason, for the documentation and for `config show`."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr

from sip_agent.config.durations import format_duration
from sip_agent.config.settings import Settings

ENVIRONMENT_PREFIX = "SIP_AGENT_"


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingDescription:
    """One setting, as the documentation lists it; `default` is written as in the settings file."""

    key: str
    type: str
    default: str
    description: str
    environment: str


def describe_settings() -> list[SettingDescription]:
    """Return every setting there is, in the order of the settings file."""
    return list(_describe(Settings, "", ENVIRONMENT_PREFIX))


def _describe(model: type[BaseModel], prefix: str, variable: str) -> Iterator[SettingDescription]:
    for name, info in model.model_fields.items():
        key, environment = f"{prefix}{name}", f"{variable}{name.upper()}"
        annotation = plain(info.annotation)
        item = (
            plain(get_args(annotation)[-1 if get_origin(annotation) is dict else 0]) if get_args(annotation) else None
        )
        if is_model(annotation):
            yield from _describe(annotation, f"{key}.", f"{environment}__")
        elif is_model(item) and get_origin(annotation) is tuple:
            yield from _describe(item, f"{key}[].", f"{environment}__0__")
        elif is_model(item):
            yield from _describe(item, f"{key}.NAME.", f"{environment}__NAME__")
        else:
            default = "" if info.is_required() else toml_value(info.get_default(call_default_factory=True))
            yield SettingDescription(
                key=key,
                type=_type_name(annotation),
                default=default,
                description=info.description or "",
                environment=environment,
            )


def plain(annotation: Any) -> Any:
    """Return the type behind `Annotated[...]` and `... | None`."""
    if get_origin(annotation) is Annotated:
        return plain(get_args(annotation)[0])
    if get_origin(annotation) in {Union, UnionType}:
        return plain(next(part for part in get_args(annotation) if part is not type(None)))
    return annotation


def is_model(annotation: Any) -> TypeGuard[type[BaseModel]]:
    """Say whether a type is a section, or another table with known keys."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


_TYPE_NAMES: Mapping[Any, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "text",
    timedelta: "duration",
    Path: "path",
    SecretStr: "secret",
    Any: "anything",
}


def _type_name(annotation: Any) -> str:
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return " | ".join(annotation)
    if get_origin(annotation) is tuple:
        items = get_args(annotation)
        kind = _type_name(plain(items[0]))
        return f"list of {kind}" if items[-1] is Ellipsis else f"pair of {kind}s"
    if get_origin(annotation) is dict:
        return f"table of {_type_name(plain(get_args(annotation)[1]))}"
    return _TYPE_NAMES[annotation]


def toml_value(value: object) -> str:
    """Write a value as in the settings file; secrets are masked."""
    if isinstance(value, SecretStr):
        return '"***"' if value.get_secret_value() else '""'
    if value is None:
        return '""'
    if isinstance(value, timedelta):
        return toml_value(format_duration(value))
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    if isinstance(value, Mapping):
        items = (f"{_toml_key(str(key))} = {toml_value(item)}" for key, item in value.items())
        return f"{{ {', '.join(items)} }}" if value else "{}"
    return json.dumps(value, ensure_ascii=False, default=str)


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def effective_values(settings: Settings, *, mask: str) -> Iterator[tuple[str, Any]]:
    """Yield each setting with its value as JSON has it; a secret that is set shows `mask` instead."""
    return _values(settings, "", mask)


def _values(model: BaseModel, prefix: str, mask: str) -> Iterator[tuple[str, Any]]:
    for name in type(model).model_fields:
        value, key = getattr(model, name), f"{prefix}{name}"
        if isinstance(value, BaseModel):
            yield from _values(value, f"{key}.", mask)
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            for index, item in enumerate(value):
                yield from _values(item, f"{key}[{index}].", mask)
        elif isinstance(value, dict) and any(isinstance(item, BaseModel) for item in value.values()):
            for item_name, item in value.items():
                yield from _values(item, f"{key}.{item_name}.", mask)
        else:
            yield key, _as_json(value, mask)


def _as_json(value: Any, mask: str) -> Any:  # noqa: PLR0911  (one kind of value each)
    match value:
        case None:
            return ""
        case timedelta():
            return format_duration(value)
        case SecretStr():
            return mask if value.get_secret_value() else ""
        case Path():
            return str(value)
        case dict():
            return {key: _as_json(item, mask) for key, item in value.items()}
        case tuple() | list():
            return [_as_json(item, mask) for item in value]
        case _:
            return value
