"""`constraints.txt`: the Python packages of the set-up, pinned."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]


def project() -> dict[str, Any]:
    """Return pyproject.toml."""
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


def requirements() -> Iterator[Requirement]:
    """Yield what pyproject.toml asks for: to run, as extras but for Agora's SDK, and to develop."""
    document = project()
    extras = (listed for name, listed in document["project"]["optional-dependencies"].items() if name != "agora")
    groups = document["dependency-groups"].values()
    for listed in (document["project"]["dependencies"], *extras, *groups):
        yield from map(Requirement, listed)


def pins() -> dict[str, str]:
    """Return the version of every package in constraints.txt."""
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def test_every_dependency_is_pinned_within_its_bounds() -> None:
    """What pyproject.toml asks for has a pin that satisfies it; `make constraints` renews them."""
    versions = pins()

    missing = [str(each) for each in requirements() if canonicalize_name(each.name) not in versions]
    assert [] == missing
    assert [] == [str(each) for each in requirements() if versions[canonicalize_name(each.name)] not in each.specifier]


def test_pins_are_nothing_but_names_and_versions() -> None:
    """No address, path or hash: the pins hold wherever packages come from."""
    text = (REPOSITORY / "constraints.txt").read_text()

    assert [] == [line for line in text.splitlines() if not re.fullmatch(r"#.*|[A-Za-z0-9_.-]+==[A-Za-z0-9.]+", line)]
    assert "/" not in text
