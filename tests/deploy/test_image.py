"""The Dockerfile and what it leaves out; `make image-test` builds it and calls the agent in it."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()


def installed_in(stage: str) -> set[str]:
    """Return the packages that a stage gets from apt."""
    text = re.split(r"^FROM ", DOCKERFILE.split(f" AS {stage}\n")[1], flags=re.MULTILINE)[0]
    words = re.findall(r"--no-install-recommends (.*?)&&", text.replace("\\\n", " "), re.DOTALL)
    return {word for listed in words for word in listed.split()}


def copied() -> set[str]:
    """Return what the Dockerfile takes from the repository."""
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    return {name for line in lines for name in line.split()}


def package_of(library: str) -> str:
    """Return the Debian package that a library file belongs to."""
    path = Path(library)
    for candidate in {str(path), str(path.resolve()), str(path.resolve()).removeprefix("/usr")}:
        found = subprocess.run(["dpkg", "-S", candidate], capture_output=True, text=True, check=False)
        if found.returncode == 0:
            return found.stdout.split(":")[0]
    return f"(no package owns {library})"


@pytest.mark.skipif(importlib.util.find_spec("pjsua2_native") is None, reason="the native engine is not built")
@pytest.mark.skipif(
    shutil.which("dpkg") is None or shutil.which("objdump") is None, reason="not a Debian with binutils"
)
def test_the_image_has_every_library_of_the_engine() -> None:
    """Each library that the engine is linked with comes with a package of the runtime stage, or is always there."""
    spec = importlib.util.find_spec("_pjsua2_native")
    assert spec is not None
    assert spec.origin is not None
    headers = subprocess.run(["objdump", "-p", spec.origin], capture_output=True, text=True, check=True).stdout
    listing = subprocess.run(["ldd", spec.origin], capture_output=True, text=True, check=True).stdout
    paths = dict(re.findall(r"(\S+) => (\S+)", listing))
    needed = re.findall(r"NEEDED\s+(\S+)", headers)

    packages = {package_of(paths[name]) for name in needed if name in paths}
    assert "libopus0" in packages
    assert set() == packages - installed_in("runtime") - {"libc6", "libgcc-s1"}


def test_what_is_copied_reaches_the_builder() -> None:
    """.dockerignore lets through what the Dockerfile copies and nothing else: no records, no history."""
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()

    assert copied() == {line[1:] for line in lines if line.startswith("!")}
    assert [] == [name for name in copied() if not (REPOSITORY / name).exists()]


def test_the_runtime_holds_no_compiler() -> None:
    """What compiles stays in the stage that compiles."""
    assert set() == installed_in("runtime") & installed_in("engine")
