"""Which pjsua2 is under us: our own build (native) or the PyPI wheel (light), and what each can carry.

The native engine is built by `deploy/pjsua2/build.sh` and is imported as `pjsua2_native`; the light one is
the PyPI wheel `pjsua2-python`, imported as `pjsua2`. Both may be installed; a process uses one of them.
"""

import importlib
import importlib.util
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from typing import Any

from sip_agent.errors import SettingsError

NATIVE_MAX_CALLS = 1024
LIGHT_MAX_CALLS = 4


class EngineName(StrEnum):
    """The two builds of pjsua2 that the agent runs on."""

    NATIVE = "native"
    LIGHT = "light"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What one engine is and where its limits lie; `limits` are sentences for people."""

    name: EngineName
    version: str
    max_calls: int
    codecs: tuple[str, ...]
    tls: str
    limits: tuple[str, ...]


_MODULES = {EngineName.NATIVE: "pjsua2_native", EngineName.LIGHT: "pjsua2"}
_DISTRIBUTIONS = {EngineName.NATIVE: "pjsua2", EngineName.LIGHT: "pjsua2-python"}
_INFO: dict[EngineName, dict[str, Any]] = {
    EngineName.NATIVE: {
        "max_calls": NATIVE_MAX_CALLS,
        "codecs": ("PCMU", "PCMA", "G722", "opus"),
        "tls": "OpenSSL 3",
        "limits": (),
    },
    EngineName.LIGHT: {
        "max_calls": LIGHT_MAX_CALLS,
        "codecs": ("PCMU", "PCMA", "G722"),
        "tls": "OpenSSL 1.0.2 (end of life)",
        "limits": (
            "at most 4 calls at once",
            "no Opus",
            "an INVITE takes a call slot before it is checked",
            "audio frames pass through Python on the media clock: expect glitches under load",
        ),
    },
}

_selected: EngineName | None = None


def available() -> tuple[EngineName, ...]:
    """Return the engines that can be imported here, the better one first."""
    return tuple(name for name, module in _MODULES.items() if importlib.util.find_spec(module) is not None)


def select(wanted: str = "auto") -> EngineName:
    """Decide which engine this process uses: `native`, `light`, or `auto` for the best one installed.

    Raises SettingsError if it is not installed, or if the process already runs on the other one.
    """
    global _selected  # noqa: PLW0603  (pjsua2 is one per process, so is the choice of it)
    found = available()
    if not found:
        raise SettingsError(
            "no SIP engine is installed: run `make setup`, or `pip install pjsua2-python` (Python 3.11, 3.12)"
        )
    name = (_selected or found[0]) if wanted == "auto" else EngineName(wanted)
    if name not in found:
        hint = "run deploy/pjsua2/build.sh" if name is EngineName.NATIVE else "pip install pjsua2-python"
        raise SettingsError(f"media.engine: the {name} engine is not installed ({hint})")
    if _selected is not None and _selected is not name:
        raise SettingsError(f"media.engine: this process already runs on the {_selected} engine")
    _selected = name
    return name


def load() -> Any:
    """Import and return the pjsua2 module of the selected engine (`auto` if none was selected)."""
    return importlib.import_module(_MODULES[_selected or select()])


def is_native() -> bool:
    """Tell whether the selected engine has the ring ports, the invite gate and the bridge clock."""
    return (_selected or select()) is EngineName.NATIVE


def describe_engine(wanted: str = "auto") -> EngineInfo:
    """Return what the engine for `wanted` is; raises SettingsError as `select` does."""
    name = select(wanted)
    return EngineInfo(name=name, version=metadata.version(_DISTRIBUTIONS[name]), **_INFO[name])
