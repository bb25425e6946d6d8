"""Reading the settings: the TOML file, then the environment, then validation."""

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from sip_agent.config.describe import is_model, plain
from sip_agent.config.environment import Override, apply_override, read_environment
from sip_agent.config.keys import Keys, dotted
from sip_agent.config.problems import Origin, explain
from sip_agent.config.settings import Settings
from sip_agent.config.values import Loading, SettingSource
from sip_agent.errors import SettingsError

DEFAULT_FILE = Path("sip-agent.toml")
CONFIG_VARIABLE = "SIP_AGENT_CONFIG"


def load_settings(path: Path | None = None) -> Settings:
    """Read the settings file, let the environment override it, and validate the whole.

    The file is `path`, else what SIP_AGENT_CONFIG names, else `sip-agent.toml` in the working folder if
    there is one. Raises SettingsError with one line for each thing that is wrong.
    """
    named = path or (Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else None)
    file = named or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    document = {} if file is None else _read_toml(file)
    base_dir = Path.cwd() if file is None else file.resolve().parent
    overrides, problems = read_environment(os.environ)

    merged = deepcopy(document)
    for override in overrides:
        problems += apply_override(override, merged)
    _add_missing_sections(Settings, merged)
    loading = Loading(base_dir=base_dir, file=file, sources=_sources(document, overrides))
    try:
        settings = Settings.model_validate(merged, context=loading)
    except ValidationError as error:
        origin = Origin(file=file, overrides=tuple(overrides))
        for details in error.errors(include_url=False):
            problems += explain(details, origin)
    if problems:
        raise SettingsError("\n".join(problems))
    return settings


def _add_missing_sections(model: type[BaseModel], document: dict[str, Any]) -> None:
    """Name every section, so that its defaults are validated (and its paths resolved) like the rest."""
    for name, info in model.model_fields.items():
        annotation = plain(info.annotation)
        if is_model(annotation) and isinstance(document.setdefault(name, {}), dict):
            _add_missing_sections(annotation, document[name])


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise SettingsError(
            f"{file}: no such settings file: create it, or correct --config or {CONFIG_VARIABLE}"
        ) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        column = error.start - error.object.rfind(b"\n", 0, error.start)
        raise SettingsError(f"{file}:{line}:{column}: not UTF-8 text: save the file as UTF-8") from None
    except OSError as error:
        raise SettingsError(f"{file}: {(error.strerror or 'cannot be read').lower()}") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message, line, column = _toml_position(str(error), text)
        raise SettingsError(f"{file}:{line}:{column}: {message}") from None


def _toml_position(message: str, text: str) -> tuple[str, int, int]:
    """Split a message of tomllib into what is wrong, the line and the column."""
    found = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", message, re.DOTALL)
    if found:
        return found[1], int(found[2]), int(found[3])
    lines = text.split("\n")
    return message.replace(" (at end of document)", " at the end of the file"), len(lines), len(lines[-1]) + 1


def _sources(document: Mapping[str, Any], overrides: Iterable[Override]) -> dict[str, SettingSource]:
    """Return where each key that is not a default came from; a secret comes from where its file is named."""
    sources: dict[str, SettingSource] = {}

    def mark(keys: Keys, value: Any, source: SettingSource) -> None:
        key = dotted(keys)
        sources[key] = source
        if key.endswith("_file"):
            sources[key.removesuffix("_file")] = source
        else:
            sources.pop(f"{key}_file", None)
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for inner, item in items:
            mark((*keys, inner), item, source)

    for section, value in document.items():
        mark((section,), value, SettingSource.FILE)
    for override in overrides:
        mark(override.keys, override.value, SettingSource.ENVIRONMENT)
        for length in range(1, len(override.keys)):
            sources[dotted(override.keys[:length])] = SettingSource.ENVIRONMENT
    return sources
