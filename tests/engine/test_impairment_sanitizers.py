"""What a bad network does to packets, and the thread that delays them, alone, under the compiler's checkers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
HEADERS = HERE.parents[1] / "deploy" / "pjsua2"


@pytest.mark.parametrize("checks", ["address,undefined", "thread"])
def test_packets_fare_as_asked_and_on_one_thread(checks: str, tmp_path: Path) -> None:
    """Shares, delays and order are those asked for; a path that is closed delivers nothing any more."""
    program = tmp_path / "impairment_hammer"
    flags = ["-std=c++17", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"]
    compiler = ["g++", *flags, f"-fsanitize={checks}", f"-I{HEADERS}"]
    subprocess.run([*compiler, str(HERE / "impairment_hammer.cpp"), "-o", str(program)], check=True)

    done = subprocess.run([str(program)], capture_output=True, text=True, check=False, timeout=120)

    assert (0, "ok\n", "") == (done.returncode, done.stdout, done.stderr)
