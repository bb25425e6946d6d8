"""A script's text as plain values that know where they stand, so that every complaint has a line and a column."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import Node, ScalarNode, SequenceNode

DEPTH_MAX = 40
"""Lists and mappings within each other; a script needs ten."""

_MAPPING_TAG, _SEQUENCE_TAG = "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"
_ALREADY_PLAIN = frozenset({"str", "int", "float", "bool", "null"})
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where something stands in a file; both count from 1."""

    line: int
    column: int


NOWHERE = Place(1, 1)


class SourceError(Exception):
    """The text is no YAML, or YAML that no script needs."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.place = place


class Mapping(dict[str, Any]):
    """A mapping; `keys_at` and `values_at` say where each entry stands."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.keys_at: dict[str, Place] = {}
        self.values_at: dict[str, Place] = {}


class Sequence(list[Any]):
    """A list; `items_at` says where each item stands."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.items_at: list[Place] = []


class Word(str):
    """A text that is no number, with its place."""

    __slots__ = ("place",)
    place: Place


def read(text: str) -> Any:
    """Return the values of a YAML 1.2 document: Mapping, Sequence, Word, int, float, bool or None.

    A number that would not be written back as it stands (`0123`, `1.50`) stays text: digits matter here. Raises
    SourceError for anything else than one such document.
    """
    try:
        node = YAML().compose(text)
        return None if node is None else _value(node, set(), 0)
    except MarkedYAMLError as error:
        raise _explained(error) from error
    except YAMLError as error:
        raise SourceError(NOWHERE, f"this is not YAML: {error}") from error
    except RecursionError as error:
        raise SourceError(
            NOWHERE, f"lists and mappings are nested too deeply; {DEPTH_MAX} levels are enough"
        ) from error


def place_of(document: Any, keys: Iterable[str | int], *, of_key: bool = False) -> Place:
    """Return where the value at `keys` stands, or its key; what is not there is where it would belong."""
    value, place = document, getattr(document, "place", NOWHERE)
    for key in keys:
        if isinstance(value, Mapping) and isinstance(key, str) and key in value:
            place = value.keys_at[key] if of_key else value.values_at[key]
            value = value[key]
        elif isinstance(value, Sequence) and isinstance(key, int) and key < len(value):
            place = value.items_at[key]
            value = value[key]
    return place


def _value(node: Node, seen: set[int], depth: int) -> Any:
    place = _place(node)
    if id(node) in seen:
        raise SourceError(place, "this is repeated by an alias (*name), which scripts do not have: write it out")
    seen.add(id(node))
    if depth > DEPTH_MAX:
        raise SourceError(place, f"this is nested too deeply; {DEPTH_MAX} levels are enough")
    if isinstance(node, ScalarNode):
        return _scalar(node, place)
    if node.tag not in {_MAPPING_TAG, _SEQUENCE_TAG}:
        raise SourceError(place, f"scripts have no tags: take {node.tag} away")
    if isinstance(node, SequenceNode):
        sequence = Sequence(place)
        for item in node.value:
            sequence.append(_value(item, seen, depth + 1))
            sequence.items_at.append(_place(item))
        return sequence
    return _mapping(node, place, seen, depth)


def _mapping(node: Node, place: Place, seen: set[int], depth: int) -> Mapping:
    mapping = Mapping(place)
    for key_node, value_node in node.value:
        key_place = _place(key_node)
        if not isinstance(key_node, ScalarNode):
            raise SourceError(key_place, "a key is a word; a text that begins with { or [ goes in quotes")
        key = key_node.value
        if key in mapping:
            raise SourceError(key_place, f"{key} is here twice: take one away")
        mapping[key] = _value(value_node, seen, depth + 1)
        mapping.keys_at[key] = key_place
        mapping.values_at[key] = key_place if mapping[key] is None else _place(value_node)
    return mapping


def _scalar(node: ScalarNode, place: Place) -> Any:
    kind = str(node.tag).rpartition(":")[2]
    if kind not in _ALREADY_PLAIN and kind != "timestamp":
        raise SourceError(place, f"scripts have no tags: take {node.tag} away")
    plain = node.style is None
    if plain and node.value in _WORDS and kind in {"bool", "null"}:
        return _WORDS[node.value]
    if plain and kind in {"int", "float"}:
        number = _number(node.value)
        if number is not None and str(number) == node.value:
            return number
    word = Word(node.value)
    word.place = place
    return word


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if math.isfinite(number) else None
    return None


def _place(node: Node) -> Place:
    return Place(node.start_mark.line + 1, node.start_mark.column + 1)


def _explained(error: MarkedYAMLError) -> SourceError:
    """Return the parser's complaint with what is usually meant by it."""
    problem = str(error.problem)
    advice = "is the indentation right, and is text with ': ', ' #' or a leading { [ * & in quotes?"
    if r"'\t'" in problem:
        advice = "indent with spaces, not with tabs"
    elif "another document" in problem:
        advice = "one file is one script: take the line with --- away"
    mark = error.problem_mark
    place = NOWHERE if mark is None else Place(mark.line + 1, mark.column + 1)
    return SourceError(place, f"this is not YAML: {problem}; {advice}")
