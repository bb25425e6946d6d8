"""Programs that hammer on one header of the engine, alone, under the compiler's checkers."""

import subprocess
from pathlib import Path

HERE = Path(__file__).parent
HEADERS = HERE.parents[1] / "deploy" / "pjsua2"


def hammer(name: str, checks: str, folder: Path) -> tuple[int, str, str]:
    """Build `<name>.cpp` with these checks and run it; returns its exit status and what it wrote."""
    program = folder / name
    flags = ["-std=c++17", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"]
    compiler = ["g++", *flags, f"-fsanitize={checks}", f"-I{HEADERS}"]
    subprocess.run([*compiler, str(HERE / f"{name}.cpp"), "-o", str(program)], check=True)
    done = subprocess.run([str(program)], capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout, done.stderr
