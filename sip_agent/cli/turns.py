"""Turns and metrics of a call, as people read them."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from sip_agent.cli.output import plain

VERDICTS = {True: Text("passed", style="green"), False: Text("missed", style="red"), None: Text("")}


def turns_table(turns: Iterable[Mapping[str, Any]]) -> Table:
    """Return one line per turn: whose, from when to when after the answer, how soon, and what was said."""
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("who", "from", "to", "reply after"):
        table.add_column(title, justify="left" if title == "who" else "right", no_wrap=True)
    for title in ("remark", "text"):
        table.add_column(title, overflow="fold")
    for turn in turns:
        latency_ms = turn["response_latency_ms"]
        table.add_row(
            turn["speaker"],
            f"{turn['started_ms'] / 1000:.2f} s",
            f"{turn['ended_ms'] / 1000:.2f} s",
            "" if latency_ms is None else f"{latency_ms} ms",
            ", ".join(_remarks(turn)),
            plain(turn["text"] or ""),
        )
    return table


def metrics_table(metrics: Mapping[str, Any]) -> Table:
    """Return one line per metric, and beside it what the platform asks of it."""
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("metric", "measured", "platform's bound", ""):
        table.add_column(title, no_wrap=title in {"metric", ""}, overflow="fold")
    bounds = {bound["metric"].partition(".")[0]: bound for bound in metrics["bounds"]}
    for name, value in metrics.items():
        if name == "bounds":
            continue
        bound = bounds.get(name)
        asked = "" if bound is None else f"{bound['metric'].partition('.')[2]} {bound['bound']}".lstrip()
        table.add_row(name, _figures(value), asked, VERDICTS[bound and bound["passed"]])
    return table


def _remarks(turn: Mapping[str, Any]) -> Iterable[str]:
    if turn["stalled_ms"]:
        yield f"{turn['stalled_ms']} ms of it stalled by us"
    if turn["stop_time_ms"] is not None:
        yield f"interrupted, went on for {turn['stop_time_ms']} ms"
    elif turn["interrupted"]:
        yield "interrupted"


def _figures(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {figure}" for key, figure in value.items() if figure is not None)
    return "-" if value is None else str(value)
