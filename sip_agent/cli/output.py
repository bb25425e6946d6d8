"""What every command prints with: tables for people, one JSON document for programs, logs on stderr."""

import json
import sys
from enum import IntEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

console = Console(highlight=False)
"""Standard output: the answer."""

stderr = Console(stderr=True, highlight=False)
"""Standard error: progress, warnings and errors."""


class ExitStatus(IntEnum):
    """What a command's exit status says."""

    DONE = 0
    TESTED_THING_FAILED = 1
    WRONG_USE = 2
    BROKEN = 3


def print_json(document: Any) -> None:
    """Print one JSON document on standard output, with stable keys and unescaped text."""
    json.dump(document, sys.stdout, ensure_ascii=False, indent=2)
    sys.stdout.write("\n")


def plain(value: str) -> Text:
    """Return a caller's text as such: no Rich markup in it, nor anything that steers a terminal."""
    return Text(
        "".join(
            character if character.isprintable() else character.encode("unicode_escape").decode() for character in value
        )
    )
