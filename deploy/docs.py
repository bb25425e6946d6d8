"""Keep the tables of README.md true: `python deploy/docs.py` writes commands, handlers and settings there.

With `--check` it writes nothing, and its exit status is 1 if a table is out of date.
"""

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import typer

from sip_agent.api import describe_routes
from sip_agent.cli import app
from sip_agent.config import describe_settings
from sip_agent.handlers import installed_handlers

README = Path(__file__).parent.parent / "README.md"


def render(text: str) -> str:
    """Return the text with every table between `<!-- NAME -->` and `<!-- end NAME -->` written anew."""
    for name, build in TABLES.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f"README.md has no place for the table {name!r}: <!-- {name} --> … <!-- end {name} -->")
        table = "\n".join(build())
        text = pattern.sub(lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text)  # type: ignore[misc]
    return text


def _commands() -> Iterable[str]:
    yield "| command | does |"
    yield "|---|---|"
    for path, command in _leaves(typer.main.get_command(app), "sip-agent"):
        yield f"| `{path}` | {_cell(_first_line(command.help or ''))} |"


def _leaves(command: Any, path: str) -> Iterable[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name, child in children.items():
        yield from _leaves(child, f"{path} {name}")


def _handlers() -> Iterable[str]:
    yield "| handler | options | does |"
    yield "|---|---|---|"
    for handler in installed_handlers():
        options = ", ".join(f"`{option}`" for option in handler.options)
        yield f"| `{handler.name}` | {_cell(options)} | {_cell(handler.summary)} |"


def _settings() -> Iterable[str]:
    yield "| setting | type | default | why |"
    yield "|---|---|---|---|"
    for item in describe_settings():
        default = f"`{item.default}`" if item.default else ""
        yield f"| `{item.key}` | {_cell(item.type)} | {_cell(default)} | {_cell(item.description)} |"


def _routes() -> Iterable[str]:
    yield "| route | does |"
    yield "|---|---|"
    for method, path, summary in describe_routes():
        yield f"| `{method} {path}` | {_cell(summary)} |"


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


TABLES: dict[str, Callable[[], Iterable[str]]] = {
    "commands": _commands,
    "handlers": _handlers,
    "routes": _routes,
    "settings": _settings,
}


def main() -> None:
    """Rewrite README.md, or check it."""
    text = README.read_text(encoding="utf-8")
    fresh = render(text)
    if "--check" not in sys.argv:
        README.write_text(fresh, encoding="utf-8")
    elif fresh != text:
        raise SystemExit("README.md is out of date: run python deploy/docs.py")


if __name__ == "__main__":
    main()
