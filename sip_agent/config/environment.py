"""Settings from the environment: SIP_AGENT_<SECTION>__<KEY>."""

import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

from sip_agent.config.describe import ENVIRONMENT_PREFIX, is_model, plain
from sip_agent.config.keys import Keys, hint_at_variable
from sip_agent.config.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """A setting that an environment variable sets."""

    variable: str
    keys: Keys
    value: Any


def read_environment(environment: Mapping[str, str]) -> tuple[list[Override], list[str]]:
    """Return the settings that variables set, outer ones first, and what is wrong with the others.

    A variable of ours has a double underscore (SIP_AGENT_SIP__UDP_PORT), except for the two lists of
    tables, SIP_AGENT_ACCOUNTS and SIP_AGENT_ROUTES. An empty variable counts as not set.
    """
    overrides: list[Override] = []
    problems: list[str] = []
    for variable in sorted(environment):
        text = environment[variable]
        segments = variable.removeprefix(ENVIRONMENT_PREFIX).split("__")
        ours = len(segments) > 1 or segments[0] in {"ACCOUNTS", "ROUTES"}
        if not variable.startswith(ENVIRONMENT_PREFIX) or not ours or not text:
            continue
        try:
            keys, annotation = _locate(segments)
            overrides.append(Override(variable=variable, keys=keys, value=_decode(annotation, text)))
        except LookupError:
            problems.append(f"{variable}: no such setting{hint_at_variable(segments)}")
        except ValueError as error:
            problems.append(f"{variable}: {error}")
    return sorted(overrides, key=lambda override: len(override.keys)), problems


def _locate(segments: Iterable[str]) -> tuple[Keys, Any]:
    """Return the keys that the parts of a variable's name lead to, and the type expected there."""
    keys: list[str | int] = []
    annotation: Any = Settings
    for segment in segments:
        annotation = plain(annotation)
        if is_model(annotation):
            info: FieldInfo = annotation.model_fields[segment.lower()]
            keys.append(segment.lower())
            annotation = info.annotation
        elif get_origin(annotation) is dict:
            keys.append(segment)
            annotation = get_args(annotation)[1]
        elif get_origin(annotation) is tuple and is_model(get_args(annotation)[0]) and segment.isdecimal():
            keys.append(int(segment))
            annotation = get_args(annotation)[0]
        else:
            raise LookupError(segment)
    return tuple(keys), plain(annotation)


def _decode(annotation: Any, text: str) -> Any:
    """Read a variable's text as what the setting wants: lists also as a,b and tables as JSON or TOML."""
    if get_origin(annotation) is tuple and not text.lstrip().startswith("[") and not is_model(get_args(annotation)[0]):
        return [part.strip() for part in text.split(",")]
    if get_origin(annotation) in {tuple, dict} or is_model(annotation):
        return _decode_structure(text)
    if annotation is Any:
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _decode_structure(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        raise ValueError("write a list or table as JSON, or as in the settings file") from None


def apply_override(override: Override, document: dict[str, Any]) -> Iterator[str]:
    """Put one override into the document; yield what stands in the way."""
    container: Any = document
    for index, key in enumerate(override.keys):
        if not _can_hold(container, key):
            return  # what the file has here is wrong, and validation will say so
        if isinstance(key, int) and key > len(container):
            there = f"there are {len(container)} {override.keys[index - 1]}"
            yield f"{override.variable}: {there}: write __{len(container)}__ for one more"
            return
        if isinstance(key, int) and key == len(container):
            container.append({})
        if index + 1 < len(override.keys):
            following = override.keys[index + 1]
            missing: Any = [] if isinstance(following, int) else {}
            container = container[key] if isinstance(key, int) else container.setdefault(key, missing)
            continue
        if isinstance(key, str):
            # The variable decides, whichever of the two ways to give a secret the file had used.
            container.pop(key.removesuffix("_file") if key.endswith("_file") else f"{key}_file", None)
        container[key] = override.value


def _can_hold(container: Any, key: str | int) -> bool:
    return isinstance(container, list if isinstance(key, int) else dict)
