"""Conversation handlers: the built-in ones, and how any handler is found.

A handler is named by an entry point of the group `sip_agent.handlers`, or by `module:Class`. It is built
with the options of its route as keyword arguments.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, cast

from sip_agent.call import ConversationHandler
from sip_agent.errors import SettingsError
from sip_agent.handlers.options import check_types
from sip_agent.imports import import_object, look_in

GROUP = "sip_agent.handlers"


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerInfo:
    """One installed handler: its name, where it comes from, what it does and which options it takes."""

    name: str
    target: str
    summary: str
    options: tuple[str, ...]


def installed_handlers() -> list[HandlerInfo]:
    """List every handler that an installed package offers, by name."""
    return [_describe(point) for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)]


def find_handler(name: str) -> type[ConversationHandler]:
    """Return the handler class for an entry point's name or `module:Class`.

    Raises SettingsError naming what was looked for and what there is.
    """
    if ":" not in name and not entry_points(group=GROUP, name=name):
        known = ", ".join(sorted(point.name for point in entry_points(group=GROUP)))
        raise SettingsError(f"no handler is called {name!r}; installed: {known}; or write module:Class")
    try:
        found = _load(name)
    except Exception as error:  # a stranger's module may fail in any way when it is imported
        raise SettingsError(f"the handler {name!r} cannot be imported: {type(error).__name__}: {error}") from error
    if not inspect.iscoroutinefunction(getattr(found, "handle", None)):
        raise SettingsError(f"the handler {name!r} has no method `async def handle(self, call)`")
    return cast("type[ConversationHandler]", found)


def _load(name: str) -> Any:
    if ":" not in name:
        return next(iter(entry_points(group=GROUP, name=name))).load()
    return import_object(name)


def handler_factory(name: str, options: Mapping[str, Any], base_dir: Path) -> Callable[[], ConversationHandler]:
    """Return what builds a handler for each call, after building one to check the options.

    `base_dir` is where relative paths in options (`file`, `…_file`) start, and where `module:Class` is looked for
    when it is not installed. Raises SettingsError for an unknown handler, and for options that it does not take.
    """
    look_in(base_dir)  # for `module:Class` here, and `module:function` in options
    handler = find_handler(name)
    build = partial(handler, **{key: _resolve(key, value, base_dir) for key, value in options.items()})
    try:
        check_types(handler, options)
        build()
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"the handler {name!r} does not take the options {dict(options)!r}: {error}; "
            f"it takes: {', '.join(_options(handler)) or 'none'}"
        ) from error
    return build


def _resolve(key: str, value: Any, base_dir: Path) -> Any:
    is_path = (key == "file" or key.endswith("_file")) and isinstance(value, str)
    return str(base_dir / Path(value).expanduser()) if is_path else value


def _options(handler: type) -> tuple[str, ...]:
    if handler.__init__ is object.__init__:  # type: ignore[misc]
        return ()
    return tuple(_option(parameter) for parameter in inspect.signature(handler).parameters.values())


def _option(parameter: inspect.Parameter) -> str:
    default = parameter.default
    if default is parameter.empty:
        return parameter.name
    return f"{parameter.name}={int(default) if isinstance(default, IntEnum) else default!r}"


def _describe(point: EntryPoint) -> HandlerInfo:
    try:
        handler = point.load()
    except Exception as error:  # noqa: BLE001  (a stranger's package may fail in any way; it is shown, not hidden)
        return HandlerInfo(name=point.name, target=point.value, summary=f"cannot be imported: {error}", options=())
    summary = (inspect.getdoc(handler) or "").partition("\n")[0]
    return HandlerInfo(name=point.name, target=point.value, summary=summary, options=_options(handler))
