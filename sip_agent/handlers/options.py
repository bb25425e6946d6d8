"""What the options of handlers have in common: their types, and sound files among them."""

import functools
import inspect
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from media.wav import AudioFileError, open_audio

_KINDS: Mapping[Any, str] = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    Mapping: "a table",
    Sequence: "a list",
}
"""What settings are made of. An option that a handler annotates otherwise is for the handler to judge."""


def check_types(handler: type, options: Mapping[str, Any]) -> None:
    """Raise TypeError naming the first option that is not of the type which the handler's constructor has for it."""
    try:
        hints = inspect.get_annotations(handler.__init__, eval_str=True)  # type: ignore[misc]
    except NameError:  # names that are there for a type checker alone
        return
    for name, value in options.items():
        kinds = _kinds(hints.get(name, Any))
        if not any(_fits(value, kind) for kind in kinds):
            raise TypeError(f"{name} is {' or '.join(_KINDS[kind] for kind in kinds if kind in _KINDS)}, not {value!r}")


def check_sound(option: str, file: str) -> None:
    """Raise ValueError naming the option unless the file is there and can be played."""
    if not Path(file).is_file():
        raise ValueError(f"{option}: there is no sound file {file}")
    try:
        _open(file)
    except AudioFileError as error:
        raise ValueError(f"{option}: there is no sound file {error}") from error


@functools.cache
def _open(file: str) -> None:
    """Open a file once, when its route is checked: a call only asks whether it is still there."""
    open_audio(file, 8000).close()


def _kinds(hint: Any) -> list[Any]:
    if get_origin(hint) in {Union, UnionType}:
        return [kind for part in get_args(hint) for kind in _kinds(part)]
    return [get_origin(hint) or hint]


def _fits(value: Any, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is Sequence:
        return isinstance(value, Sequence) and not isinstance(value, str)
    if kind in _KINDS or kind is NoneType:
        return isinstance(value, kind)
    return True
