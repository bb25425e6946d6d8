"""How the stand-in judges a call: a few checks on what its testing agent saw and heard. All of it is our own choice.

Cekura lets language models judge a conversation by `expected_outcome_prompt`. Here nothing reads that text. Checked is:

answered    the agent answered the call
script      the testing agent's script came to its end without a failure
says        words that the agent said, as the testing agent's recognizer understood them
dtmf        keys that the agent pressed
ends_call   who hung up
latency     the 95th percentile of the agent's response latency, measured on the testing agent's own recording
            as Cekura defines it: from the end of the caller's speech to the first sound of the agent's answer

The shapes are those of openapi.json: ExpectedOutcome with OutcomeAlignment, and Evaluation with its metrics.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sip_agent.platforms.cekura.simulator.world import Expect
from sip_agent.record import CallRecord
from sip_agent.script.matching import has_words
from sip_agent.status import EndedBy, SipStatus, reason_phrase


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was expected, and what was found."""

    expectation: str
    found: str
    met: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What came of the checks, and the latency metric if there were answers to measure."""

    checks: tuple[Check, ...]
    metrics: tuple[dict[str, Any], ...] = ()

    @property
    def success(self) -> bool:
        """Whether everything was met."""
        return all(check.met for check in self.checks)

    @property
    def expected_outcome(self) -> dict[str, Any]:
        """Return the checks as an ExpectedOutcome; the explanation is of what was missed, or else of everything."""
        missed = [check for check in self.checks if not check.met]
        return {
            "score": round(100 * (len(self.checks) - len(missed)) / len(self.checks), 1),
            "explanation": [check.found for check in missed or self.checks],
            "outcome_alignments": [
                {"outcome": check.expectation, "prompt_part": check.expectation, "aligned": check.met}
                for check in self.checks
            ],
        }


def evaluate(record: CallRecord, expect: Expect, script: str | None) -> Evaluation:
    """Judge a call by the record of the testing agent's side; `script` is the name of its script, if it had one."""
    if record.answered_at is None:
        return Evaluation(checks=(_answered(record),))
    return Evaluation(checks=tuple(_checks(record, expect, script)), metrics=tuple(_metrics(record)))


def refusal(record: CallRecord) -> str:
    """Return why a call was not answered, in one line."""
    status = record.sip_status or SipStatus.SERVER_INTERNAL_ERROR
    why = f": {record.error}" if record.error else f" (SIP {int(status)} {reason_phrase(status)})"
    return f"the agent did not answer the call{why}"


def _checks(record: CallRecord, expect: Expect, script: str | None) -> Iterator[Check]:
    yield _answered(record)
    if script is not None or record.error:
        what = "the testing agent's sound file is played" if script is None else f"the script {script} comes to its end"
        found = record.error or (f"it ended: {record.end_reason}" if record.end_reason else "it came to its end")
        yield Check(expectation=what, found=found, met=record.error is None)
    heard = " ".join(entry["text"] for entry in record.transcript if entry["speaker"] == "caller" and "text" in entry)
    for words in expect.says:
        found = f"the testing agent understood: {heard!r}" if heard else "the testing agent understood nothing"
        yield Check(expectation=f"the agent says {words!r}", found=found, met=has_words(heard, words))
    if expect.dtmf:
        keys = "".join(str(item["digit"]) for item in record.dtmf)
        found = f"the testing agent received {keys}" if keys else "the testing agent received no key"
        yield Check(expectation=f"the agent presses {expect.dtmf}", found=found, met=expect.dtmf.upper() in keys)
    if expect.ends_call is not None:
        # Seen from here, the far end of a call is its caller.
        did = record.ended_by is EndedBy.CALLER
        found = "the agent hung up" if did else f"the testing agent hung up: {record.end_reason}"
        who = "the agent hangs up" if expect.ends_call else "the testing agent hangs up"
        yield Check(expectation=who, found=found, met=did is expect.ends_call)
    if expect.latency is not None:
        yield _latency(record, round(expect.latency.total_seconds() * 1000))


def _answered(record: CallRecord) -> Check:
    found = refusal(record)
    if record.answered_at is not None:
        found = f"the agent answered after {record.answer_delay_ms} ms"
    return Check(expectation="the agent answers the call", found=found, met=record.answered_at is not None)


def _latency(record: CallRecord, limit_ms: int) -> Check:
    expectation = f"the agent answers within {limit_ms} ms (95th percentile)"
    latency = record.metrics.get("caller_latency_ms") or {}
    if not latency.get("count"):
        reason = record.metrics.get("error") or "the testing agent was not answered once after it had spoken"
        return Check(expectation=expectation, found=f"no response latency was measured: {reason}", met=False)
    found = (
        f"response latency: {latency['p95']} ms (95th percentile of {latency['count']}), {latency['max']} ms at most"
    )
    return Check(expectation=expectation, found=found, met=latency["p95"] <= limit_ms)


def _metrics(record: CallRecord) -> Iterator[dict[str, Any]]:
    latency = record.metrics.get("caller_latency_ms") or {}
    if latency.get("count"):
        yield {
            "id": 1,
            "name": "Latency (in ms)",  # Cekura's name for it (docs.cekura.ai, Pre-Defined Metrics)
            "type": "numeric",
            "score": float(latency["p50"]),
            "enum": "",
            "value": "",
            "explanation": [f"median of {latency['count']} answers, measured on the stereo recording"],
            "extra": {"categories": [], "percentiles": {"p50": latency["p50"], "p95": latency["p95"]}},
        }
