"""Runs and reports, as people read them on a terminal."""

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from sip_agent.cli.output import console, plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sip_agent.platforms.cekura.gate import Check
    from sip_agent.platforms.cekura.join import JoinedRun
    from sip_agent.platforms.cekura.model import Run
    from sip_agent.platforms.cekura.report import Report
    from sip_agent.platforms.cekura.runs import Followed

STRANGERS_MAX = 10


def runs_table(seen: "Followed") -> Table:
    """Return one line per run: what it plays, how it stands there, and how its call stands here."""
    from sip_agent.platforms.cekura.report import call_state, latency_text, scenario_text

    table = Table(box=box.SIMPLE_HEAD)
    for title in ("run", "scenario", "status", "our call", "latency p50 / p95"):
        table.add_column(title, overflow="fold", justify="right" if title in {"run", "latency p50 / p95"} else "left")
    for joined in seen.joined.runs:
        table.add_row(
            str(joined.run.id),
            plain(scenario_text(joined.run)),
            _status(joined.run),
            call_state(joined, joinable=seen.joinable).value,
            latency_text(joined.record),
        )
    return table


def _status(run: "Run") -> Text:
    from sip_agent.platforms.cekura.report import status_text

    text = plain(status_text(run))
    if run.over:
        text.stylize("green" if run.passed else "red")
    return text


def print_report(report: "Report") -> None:
    """Print a report: every run, why the failed ones failed in both sides' words, what was asked, what to look at."""
    from sip_agent.platforms.cekura.report import stranger_text, typed

    seen = report.followed
    console.print(runs_table(seen))
    for joined in seen.joined.runs:
        if joined.run.over and not joined.run.passed:
            _print_failure(joined, report)
    if seen.joined.strangers:
        console.print(Text("Calls that belong to no run", style="bold"))
        for record in seen.joined.strangers[:STRANGERS_MAX]:
            console.print(Text("  ").append_text(plain(stranger_text(record))), soft_wrap=True)
        if (more := len(seen.joined.strangers) - STRANGERS_MAX) > 0:
            see = "" if report.agent_url else f": {typed('calls list', config=report.config)}"
            console.print(Text(f"  and {more} more").append_text(plain(see)), soft_wrap=True)
        console.print()
    if report.advice:
        console.print(Text("What to look at", style="bold"))
        for line in report.advice:
            console.print(Text("  ").append_text(plain(line)), soft_wrap=True)
        console.print()
    print_checks(report.checks)
    print_title(report.title, passed=report.passed)


def print_checks(checks: "Iterable[Check]") -> None:
    """Print what was asked, and whether it was so."""
    from sip_agent.platforms.cekura.report import check_value

    for check in checks:
        verdict = Text("passed", style="green") if check.passed else Text("failed", style="red")
        text = f" {check.name} {check_value(check)}, asked: {check.limit}" + (f" ({check.note})" if check.note else "")
        console.print(verdict.append_text(plain(text)), soft_wrap=True)


def print_title(title: str, *, passed: bool) -> None:
    """Print what it came to, as the last line."""
    style = "bold green" if passed else "bold red"
    console.print(Text(style=style).append_text(plain(title)), soft_wrap=True)


def _print_failure(joined: "JoinedRun", report: "Report") -> None:
    from sip_agent.platforms.cekura.report import comparison, our_words, scenario_text, typed

    run = joined.run
    console.print(Text(f"run {run.id} ", style="bold").append_text(plain(scenario_text(run))), soft_wrap=True)
    for reason in run.reasons:
        console.print(Text("  Cekura  ", style="dim").append_text(plain(reason)), soft_wrap=True)
    console.print(Text("  here    ", style="dim").append_text(plain(our_words(joined.record))), soft_wrap=True)
    if joined.record is not None and not report.agent_url:
        show = typed(f"calls show {str(joined.record['call_uuid'])[:8]}", config=report.config)
        console.print(Text("          ").append_text(plain(show)), soft_wrap=True)
    if rows := comparison(joined):
        table = Table(box=box.SIMPLE_HEAD)
        for column in ("metric", "Cekura", "here"):
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*map(plain, row))
        console.print(table)
    else:
        console.print()
