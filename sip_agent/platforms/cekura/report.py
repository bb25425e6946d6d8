"""What a test run came to: in words, and as one document for programs."""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from sip_agent.platforms.cekura.gate import Check
from sip_agent.platforms.cekura.join import JoinedRun, Record
from sip_agent.platforms.cekura.model import Metric, Run
from sip_agent.platforms.cekura.runs import Followed
from sip_agent.record import format_timestamp
from sip_agent.status import SipStatus


class CallState(StrEnum):
    """Where the call of a run stands, as this side knows it."""

    UNKNOWN = "unknown"
    EXPECTED = "expected"
    RINGING = "ringing"
    TALKING = "talking"
    ENDED = "ended"
    REFUSED = "refused"
    FAILED = "failed"
    NEVER_ARRIVED = "never arrived"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A test run that is over, or has run out of time.

    `config` is the settings file that was named on the command line, `agent_url` the agent whose records were read
    there if not here: commands to type next name them too.

    `challenges` says whether the agent may ask callers for digest credentials; `undialled` says why we did not dial,
    where we were to.
    """

    followed: Followed
    checks: tuple[Check, ...]
    started_at: datetime
    ended_at: datetime
    sip_endpoint: str = ""
    listening: tuple[str, ...] = ()
    challenges: bool = False
    undialled: tuple[str, ...] | None = None
    config: Path | None = None
    agent_url: str = ""

    @property
    def passed(self) -> bool:
        """Whether every run is over and every check passed."""
        return not self.followed.timed_out and all(check.passed for check in self.checks)

    @property
    def title(self) -> str:
        """Return the verdict in one line."""
        runs = self.followed.joined.runs
        done = sum(joined.run.passed for joined in runs)
        verdict = "passed" if self.passed else "unfinished" if self.followed.timed_out else "failed"
        name = self.followed.result.name
        return (
            f"{name or 'Cekura'}: {verdict}, {done} of {len(runs)} runs successful (result {self.followed.result.id})"
        )

    @property
    def advice(self) -> tuple[str, ...]:
        """Return what to look at, the most likely cause first."""
        return tuple(_advice(self))

    def to_dict(self) -> dict[str, Any]:
        """Return the whole as a JSON-ready object with stable keys; the README documents them."""
        followed, joined, result = self.followed, self.followed.joined, self.followed.result
        over = [run for run in joined.runs if run.run.over]
        return {
            "passed": self.passed,
            "timed_out": followed.timed_out,
            "result_id": result.id,
            "name": result.name,
            "status": result.status or None,
            "started_at": format_timestamp(self.started_at),
            "ended_at": format_timestamp(self.ended_at),
            "counts": {
                "total": len(joined.runs),
                "passed": sum(run.run.passed for run in joined.runs),
                "failed": sum(not run.run.passed for run in over),
                "unfinished": len(joined.runs) - len(over),
                "never_arrived": len(joined.never_arrived) if followed.joinable else None,
                "platform": {
                    "total": result.total_runs,
                    "completed": result.completed_runs,
                    "successful": result.successful_runs,
                    "failed": result.failed_runs,
                },
            },
            "checks": [asdict(check) for check in self.checks],
            "runs": [_run_document(run, joinable=followed.joinable) for run in joined.runs],
            "strangers": [_stranger_document(record) for record in joined.strangers],
            "records_problem": followed.problem or None,
            "advice": list(self.advice),
        }


def typed(command: str, *, config: Path | None, agent_url: str = "") -> str:
    """Return a command of ours as people type it, with the settings file and the agent that they named before."""
    options = {"--config": str(config or ""), "--agent-url": agent_url}
    given = [f"{name} {shlex.quote(value)}" for name, value in options.items() if value]
    return " ".join(["sip-agent", command, *given])


def call_state(joined: JoinedRun, *, joinable: bool) -> CallState:
    """Tell where the call of a run stands."""
    record = joined.record
    if not joinable:
        return CallState.UNKNOWN
    if record is None:
        return CallState.NEVER_ARRIVED if joined.run.over else CallState.EXPECTED
    if record["outcome"] is None:
        return CallState.TALKING if record["answered_at"] else CallState.RINGING
    states = {"answered": CallState.ENDED, "rejected": CallState.REFUSED}
    return states.get(record["outcome"], CallState.FAILED)


def status_text(run: Run) -> str:
    """Return how a run stands: passed, failed, or the status in which it is or has ended."""
    if run.passed:
        return "passed"
    return "failed" if run.status == "completed" else run.status or "starting"


def latency_text(record: Record | None) -> str:
    """Return the median and the 95th percentile of a call's response latency, as measured here."""
    latency = {} if record is None else record["metrics"].get("response_latency_ms") or {}
    return f"{latency['p50']} / {latency['p95']} ms" if latency.get("count") else ""


def comparison(joined: JoinedRun) -> list[tuple[str, str, str]]:
    """Return the metrics of a run side by side: name, what Cekura measured, what was measured here."""
    metrics = {} if joined.record is None else joined.record["metrics"]
    ours = dict(_our_figures(metrics)) if "response_latency_ms" in metrics else {}
    rows = []
    for metric in joined.run.metrics:
        key = next((key for pattern, key in _SAME_METRIC if pattern.search(metric.name)), None)
        rows.append((metric.name, _figure(metric), ours.pop(key, "") if key else ""))
    rows += [(name, "", value) for name, value in ours.items()]
    return rows


_SAME_METRIC = (
    (re.compile(r"stop time", re.IGNORECASE), "stop time"),
    (re.compile(r"\bai\b.*interrupting.*user", re.IGNORECASE), "agent interrupts caller"),
    (re.compile(r"user.*interrupting.*\bai\b", re.IGNORECASE), "caller interrupts agent"),
    (re.compile(r"latency", re.IGNORECASE), "response latency"),
    (re.compile(r"talk ratio", re.IGNORECASE), "talk ratio"),
    (re.compile(r"silence", re.IGNORECASE), "longest silence"),
)
"""Cekura's predefined metrics (docs.cekura.ai, Pre-Defined Metrics) that are measured here too."""


def _our_figures(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    latency, stop = metrics["response_latency_ms"], metrics["stop_time_ms"]
    if latency["count"]:
        yield "response latency", f"p50 {latency['p50']} ms, p95 {latency['p95']} ms, max {latency['max']} ms"
    if stop["count"]:
        yield "stop time", f"p50 {stop['p50']} ms, max {stop['max']} ms"
    yield "agent interrupts caller", str(metrics["interruptions"]["by_agent"])
    yield "caller interrupts agent", str(metrics["interruptions"]["by_caller"])
    yield "longest silence", f"{metrics['longest_silence_ms']} ms"
    if metrics["talk_ratio"] is not None:
        yield "talk ratio", str(metrics["talk_ratio"])


def _figure(metric: Metric) -> str:
    if metric.passed is not None:
        return "passed" if metric.passed else "failed"
    value = metric.score if metric.value is None else metric.value
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def our_words(record: Record | None) -> str:
    """Return what this side knows of a call, in one line."""
    if record is None:
        return "no call came in"
    if record["outcome"] is None:
        return "the call goes on"
    if record["answered_at"]:
        talk = f"answered, {(record['talk_ms'] or 0) / 1000:.1f} s"
        parts = [f"{talk}, ended by the {record['ended_by']}" if record["ended_by"] else talk]
    else:
        parts = [f"{record['outcome']} with SIP {record['sip_status']}"]
    parts += [record["end_reason"] or "", record["error"] or "", *record["faults"]]
    if record["answered_at"] and not ((record["rtp"] or {}).get("rx") or {}).get("packets", 1):
        parts.append("no sound arrived from the caller (RTP)")
    return "; ".join(part for part in dict.fromkeys(parts) if part)


def check_value(check: Check) -> str:
    """Return what a check measured, as people read it."""
    return "not measured" if check.value is None else f"{check.value:g}"


def stranger_text(record: Record) -> str:
    """Return which call belongs to no run, in one line."""
    named = f"run id {record['run_id']}" if record["run_id"] else "no run id"
    outcome = f"{record['outcome'] or 'in progress'} {record['sip_status'] or ''}".strip()
    came = f"{record['invite_received_at']} from {record['source_address']}"
    return f"{came}, {named}: {outcome} (call {record['call_uuid']})"


def scenario_text(run: Run) -> str:
    """Return what was played."""
    return run.scenario_name or f"scenario {run.scenario_id or '?'}"


def _advice(report: Report) -> Iterator[str]:
    followed, joined = report.followed, report.followed.joined
    if followed.timed_out:
        wait = typed(f"cekura wait {followed.result.id}", config=report.config, agent_url=report.agent_url)
        yield f"some runs are not over: {wait}"
    if followed.problem:
        yield f"our own records could not be read: {followed.problem}"
    elif report.undialled is not None:
        yield from report.undialled
    elif followed.joinable and joined.never_arrived:
        yield from _never_arrived(report)
    silent = [run for run in joined.runs if run.record is not None and _heard_nothing(run.record)]
    if silent:
        yield (
            f"runs {_ids(silent)}: answered, but no RTP came in: open the ports of media.rtp_ports (UDP), "
            "and set sip.public_address to the address that Cekura reaches"
        )
    refused = [run for run in joined.runs if run.record is not None and run.record["outcome"] == "rejected"]
    if refused:
        reasons = dict.fromkeys(
            f"{run.record['sip_status']} {run.record['end_reason'] or ''}".strip() for run in refused if run.record
        )
        show = typed(f"calls show run:{refused[0].run.id}", config=report.config)
        see = "" if report.agent_url else f": {show}"
        who = "our side" if report.undialled is None else "the far end"
        yield f"runs {_ids(refused)}: {who} refused the call ({', '.join(reasons)}){see}"
        if report.undialled is None and any(
            run.record["sip_status"] == SipStatus.UNAUTHORIZED for run in refused if run.record
        ):
            yield f"  401: {_CREDENTIALS}"


def _never_arrived(report: Report) -> Iterator[str]:
    joined = report.followed.joined
    where = f" ({report.sip_endpoint})" if report.sip_endpoint else ""
    yield f"runs {_ids(joined.never_arrived)}: the call never arrived here; look at, in this order:"
    yield f"  the SIP endpoint that Cekura calls{where}: does it lead to this agent? --sip-endpoint overrides it"
    ports = f" ({', '.join(report.listening)})" if report.listening else ""
    rules = typed("firewall nftables", config=report.config)
    yield f"  the firewall: SIP and RTP ports{ports} open for Cekura's addresses: {rules}"
    refused = [record for record in joined.strangers if record["outcome"] == "rejected"]
    sources = dict.fromkeys(record["source_address"].rpartition(":")[0] for record in refused)
    yield '  the allow-list: admission.allow has to name them; the preset "cekura" does' + (
        f" (refused meanwhile: {', '.join(list(sources)[:5])})" if sources else ""
    )
    if report.challenges:
        yield f"  the digest credentials, if the agent asks for them: {_CREDENTIALS}"
    if any(run.run.passed for run in joined.never_arrived):
        yield "  some of them are successful all the same: another agent answered, or --config names another store"


_CREDENTIALS = "sip_auth of the agent at Cekura has to be a user and password of auth.users here"


def _heard_nothing(record: Record) -> bool:
    rx = (record["rtp"] or {}).get("rx")
    return bool(record["answered_at"] and record["ended_at"] and rx and not rx["packets"])


def _ids(runs: Iterable[JoinedRun]) -> str:
    numbers = [str(joined.run.id) for joined in runs]
    return ", ".join(numbers[:10]) + (f" and {len(numbers) - 10} more" if len(numbers) > 10 else "")


def _run_document(joined: JoinedRun, *, joinable: bool) -> dict[str, Any]:
    run, record = joined.run, joined.record
    return {
        "run_id": run.id,
        "scenario_id": run.scenario_id,
        "scenario_name": run.scenario_name,
        "personality": run.personality_name or None,
        "test_profile": run.test_profile_name or None,
        "status": run.status,
        "passed": run.passed,
        "reasons": list(run.reasons) if run.over else [],
        "call_state": call_state(joined, joinable=joinable).value.replace(" ", "_"),
        "platform": _platform_document(run),
        "record": None if record is None else {key: record[key] for key in _RECORD_KEYS},
        "other_calls": [item["call_uuid"] for item in joined.records if item is not record],
    }


_RECORD_KEYS = (
    *("call_uuid", "call_id", "source_address", "handler", "outcome", "sip_status", "ended_by", "end_reason"),
    *("invite_received_at", "answered_at", "ended_at", "talk_ms", "codec", "rtp", "dtmf", "turns", "metrics"),
    *("transcript", "stalls", "faults", "recording", "error"),
)


def _platform_document(run: Run) -> dict[str, Any]:
    outcome = run.expected_outcome
    return {
        "success": run.success,
        "evaluation_status": run.evaluation_status or None,
        "error_message": run.error_message or None,
        "ended_reason": run.ended_reason or None,
        "duration_s": run.duration_s,
        "expected_outcome_score": None if outcome is None else outcome.score,
        "expected_outcome_explanation": [] if outcome is None else list(outcome.explanation),
        "metrics": [asdict(metric) | {"explanation": list(metric.explanation)} for metric in run.metrics],
        "recording_url": run.recording_url or None,
    }


def _stranger_document(record: Record) -> dict[str, Any]:
    keys = ("call_uuid", "run_id", "result_id", "source_address", "from_uri", "outcome", "sip_status", "end_reason")
    return {key: record[key] for key in (*keys, "invite_received_at")}
