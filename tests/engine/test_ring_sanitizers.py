"""The lock-free ring and the playout rules, alone, under the compiler's checkers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
HEADERS = HERE.parents[1] / "deploy" / "pjsua2"


@pytest.mark.parametrize("checks", ["address,undefined", "thread"])
def test_two_threads_lose_tear_and_reorder_no_frame(checks: str, tmp_path: Path) -> None:
    """A producer that writes and flushes and a consumer that reads agree on every frame, without a data race."""
    program = tmp_path / "ring_hammer"
    flags = ["-std=c++17", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"]
    compiler = ["g++", *flags, f"-fsanitize={checks}", f"-I{HEADERS}"]
    subprocess.run([*compiler, str(HERE / "ring_hammer.cpp"), "-o", str(program)], check=True)

    done = subprocess.run([str(program)], capture_output=True, text=True, check=False, timeout=120)

    assert (0, "ok\n", "") == (done.returncode, done.stdout, done.stderr)
