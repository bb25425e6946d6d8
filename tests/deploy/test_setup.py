"""`deploy/setup.sh`: what the Makefile does before everything else."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SETUP = REPOSITORY / "deploy" / "setup.sh"


def set_up(*arguments: str, folder: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run the set-up of a copy of this repository's plan in `folder`, with `folder/bin` first in PATH."""
    for name in ("deploy/setup.sh", "pyproject.toml", "constraints.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, folder / name)
    own = {"APT", "CI", "ENGINE", "PJPROJECT_SRC", "PYTHON", "RETRY", "VENV"}
    environment = {name: value for name, value in os.environ.items() if name not in own}
    path = f"{folder / 'bin'}:{environment['PATH']}"
    return subprocess.run(
        ["bash", folder / "deploy" / "setup.sh", *arguments],
        env={**environment, "PATH": path, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def program(folder: Path, name: str, text: str) -> Path:
    """Write a shell script as a program that is found first in PATH."""
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def scripts() -> list[Path]:
    """Return every shell script of the repository."""
    return [REPOSITORY / ".ci" / "run", *sorted((REPOSITORY / "deploy").rglob("*.sh"))]


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("script", scripts(), ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_scripts_are_clean(script: Path) -> None:
    """ShellCheck finds nothing, and every script stops at the first failure."""
    result = subprocess.run(["shellcheck", script], capture_output=True, text=True, check=False)

    assert "" == result.stdout
    assert "set -euo pipefail" in script.read_text()


def test_installs_what_the_engine_build_asks_for() -> None:
    """The set-up and the image get every package that build.sh needs, in one go with the others."""
    build = (REPOSITORY / "deploy" / "pjsua2" / "build.sh").read_text()
    needed = re.search(r"readonly NEEDED=\((.*?)\)", build, re.DOTALL)
    in_setup = re.search(r"readonly ENGINE_PACKAGES=\((.*?)\)", SETUP.read_text(), re.DOTALL)
    assert needed
    assert in_setup
    packages = {entry.strip('"').split(":")[1] for entry in needed[1].split()}
    stage = (REPOSITORY / "Dockerfile").read_text().split(" AS engine\n")[1].split("COPY")[0]

    assert set() == packages - set(in_setup[1].split())
    assert set() == packages - set(stage.split())


def test_an_unknown_level_is_wrong_use(tmp_path: Path) -> None:
    """What it does not know, it refuses with its usage and status 2."""
    result = set_up("everything", folder=tmp_path)

    assert 2 == result.returncode
    assert "setup.sh [run|dev|test]" in result.stderr


def test_an_unknown_engine_is_wrong_use(tmp_path: Path) -> None:
    """ENGINE has two values."""
    result = set_up(folder=tmp_path, ENGINE="asterisk")

    assert 2 == result.returncode
    assert "write native or light" in result.stderr


def test_a_python_that_is_too_old_is_named(tmp_path: Path) -> None:
    """The message says which Python was given and which is needed."""
    old = program(tmp_path, "old-python", 'case $1 in -V) echo "Python 3.9.1";; *) exit 1;; esac')

    result = set_up(folder=tmp_path, PYTHON=str(old))

    assert 1 == result.returncode
    assert f"PYTHON={old} is Python 3.9.1: Python 3.11, 3.12 or 3.13 is needed" in result.stderr


def test_without_any_python_the_next_step_is_said(tmp_path: Path) -> None:
    """No suitable interpreter: the message says how to name one."""
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        program(tmp_path, name, "exit 1")

    result = set_up(folder=tmp_path)

    assert 1 == result.returncode
    assert "make setup PYTHON=" in result.stderr


def test_where_apt_is_not_allowed_the_exact_line_is_printed(tmp_path: Path) -> None:
    """Debian's bare Python and no permission: one line to type, with every package of the level, and no other try."""
    program(
        tmp_path,
        "python3",
        f"""case "$2" in
            *ensurepip*) exit 1;; # as without python3-venv
            *base_prefix*) exit 0;; # Debian's own
            *get_path*) echo /nowhere;; # no headers
            *) exec {sys.executable} "$@";;
        esac""",
    )
    program(tmp_path, "dpkg-query", "exit 1")
    program(tmp_path, "apt-get", "echo called >&2; exit 1")
    version = f"python3.{sys.version_info.minor}"

    result = set_up("test", folder=tmp_path, APT="no")

    assert 1 == result.returncode
    line = next(line for line in result.stderr.splitlines() if "apt-get install" in line)
    assert {f"{version}-venv", f"{version}-dev", "swig", "libopus-dev", "sip-tester"} <= set(line.split())
    assert "called" not in result.stderr


def test_the_makefile_explains_every_target() -> None:
    """`make` alone lists every target that people type, and the design's seven are among them."""
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)) - {"linters"}
    result = subprocess.run(["make", "-C", REPOSITORY], capture_output=True, text=True, check=True)

    listed = set(re.findall(r"^  make ([a-z-]+) +\S", result.stdout, re.MULTILINE))
    assert targets == listed
    assert {"setup", "demo", "test", "run", "bench", "lint", "clean"} <= listed
