"""`python -m tests.bench`: run the benchmarks and print one table, each figure beside its bound.

Exit status 1 if a bound does not hold. Traffic stays on loopback.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench.figures import Figure
from tests.bench.parts import PARTS, Scale

WIDTH = 100
"""Columns of the table where no terminal says how many there are."""


def main() -> int:
    """Run what the command line asks for."""
    options = _options()
    errors = Console(stderr=True)
    if shutil.which("sipp") is None:
        errors.print("SIPp is not installed. Type: apt-get install sip-tester")
        return 3
    figures: list[tuple[str, Figure]] = []
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="sip-agent-bench-") as folder:
        scale = _scale(Path(folder), quick=options.quick)
        for name in options.parts or PARTS:
            with errors.status(f"{name}: {PARTS[name].__doc__}"):
                figures += [(name, figure) for figure in PARTS[name](scale)]
    if options.json:
        sys.stdout.write(
            json.dumps(
                {"machine": {**_machine(), "load_before": load}, "figures": [_document(*row) for row in figures]}
            )
            + "\n"
        )
    else:
        console = Console()
        console = console if console.is_terminal else Console(width=WIDTH)
        console.print(_table(figures, f"{os.cpu_count()} processors, load before {load:.1f}"))
    return int(any(figure.passes is False for _, figure in figures))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="Run the benchmarks.")
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART", help=f"one of: {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="shorter measurements; CPU with 100 calls only")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_args()


def _scale(folder: Path, *, quick: bool) -> Scale:
    if quick:
        return Scale(
            folder=folder, window_s=5, busy_s=10, markers=64, set_up_calls=525, call_counts=(100,), with_16_khz=False
        )
    return Scale(
        folder=folder, window_s=12, busy_s=30, markers=240, set_up_calls=2100, call_counts=(100, 200), with_16_khz=True
    )


def _machine() -> dict[str, str | int | None]:
    return {"cpus": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}


def _document(part: str, figure: Figure) -> dict[str, str | float | bool | None]:
    return {
        "part": part,
        "name": figure.name,
        "value": round(figure.value, 4),
        "unit": figure.unit,
        "at_most": figure.at_most,
        "at_least": figure.at_least,
        "passes": figure.passes,
    }


def _table(figures: list[tuple[str, Figure]], title: str) -> Table:
    table = Table(title=title)
    for heading in ("Part", "Figure", "Measured", "", "Bound", ""):
        table.add_column(heading, justify="right" if heading in {"Measured", "Bound"} else "left")
    marks = {True: "[green]ok[/]", False: "[red]missed[/]", None: ""}
    last = ""
    for part, figure in figures:
        if last and part != last:
            table.add_section()
        value = f"{figure.value:,.0f}" if float(figure.value).is_integer() else f"{figure.value:.3g}"
        table.add_row("" if part == last else part, figure.name, value, figure.unit, figure.bound, marks[figure.passes])
        last = part
    return table


if __name__ == "__main__":
    sys.exit(main())
