"""A report as Markdown, as the job summaries of GitHub and GitLab show it."""

import re
from collections.abc import Iterator

from sip_agent.platforms.cekura.join import JoinedRun
from sip_agent.platforms.cekura.report import (
    Report,
    call_state,
    check_value,
    comparison,
    latency_text,
    our_words,
    scenario_text,
    status_text,
    stranger_text,
)

STEERS = re.compile(r"([\\`*_\[\]<>|#])")
"""What means something in Markdown."""

STRANGERS_MAX = 20


def markdown(report: Report) -> str:
    """Return the report as Markdown, as a job summary shows it."""
    return "\n".join(_markdown(report)) + "\n"


def _markdown(report: Report) -> Iterator[str]:
    followed = report.followed
    yield from (f"## {'✅' if report.passed else '❌'} {_md(report.title)}", "")
    yield from ("| check | measured | asked | |", "|---|---|---|---|")
    for check in report.checks:
        verdict = "✅" if check.passed else "❌"
        yield f"| {check.name} | {check_value(check)} | {check.limit} | {verdict} {_md(check.note)} |"
    yield from ("", "| run | scenario | status | our call | latency p50 / p95 |", "|---|---|---|---|---|")
    for joined in followed.joined.runs:
        run = joined.run
        status = f"{'✅' if run.passed else '❌' if run.over else '⏳'} {_md(status_text(run))}"
        state = call_state(joined, joinable=followed.joinable)
        yield f"| {run.id} | {_md(scenario_text(run))} | {status} | {state} | {latency_text(joined.record)} |"
    for joined in followed.joined.runs:
        if joined.run.over and not joined.run.passed:
            yield from _markdown_failure(joined)
    if followed.joined.strangers:
        yield from ("", "### Calls that belong to no run", "")
        yield from (f"- {_md(stranger_text(record))}" for record in followed.joined.strangers[:STRANGERS_MAX])
    if report.advice:
        yield from ("", "### What to look at", "")
        yield from (f"{'  ' * line.startswith('  ')}- {_md(line.strip())}" for line in report.advice)


def _markdown_failure(joined: JoinedRun) -> Iterator[str]:
    yield from ("", f"### ❌ {_md(scenario_text(joined.run))} (run {joined.run.id})", "")
    yield from (f"- Cekura: {_md(reason)}" for reason in joined.run.reasons)
    yield f"- here: {_md(our_words(joined.record))}"
    if rows := comparison(joined):
        yield from ("", "| metric | Cekura | here |", "|---|---|---|")
        yield from (f"| {_md(name)} | {_md(theirs)} | {_md(ours)} |" for name, theirs, ours in rows)


def _md(text: str) -> str:
    """Return text that neither steers Markdown nor breaks a table."""
    return STEERS.sub(r"\\\1", " ".join(text.split()))
