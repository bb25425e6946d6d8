"""Reports: one document for programs, JUnit XML, Markdown."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from sip_agent.platforms.cekura.gate import Limits, judge
from sip_agent.platforms.cekura.join import join
from sip_agent.platforms.cekura.junit import junit
from sip_agent.platforms.cekura.markdown import markdown
from sip_agent.platforms.cekura.model import Result, Run
from sip_agent.platforms.cekura.report import CallState, Report, call_state, comparison
from sip_agent.platforms.cekura.runs import Followed
from sip_agent.record import CallRecord, RtpRecord
from tests.platforms.cekura.calls import NOW, record, refused

PASSED = Run.parse(
    {"id": 34625, "status": "completed", "success": True, "scenario_name": "Support", "duration": "00:30"}
)
FAILED = Run.parse(
    {
        "id": 34626,
        "status": "completed",
        "success": False,
        "scenario_name": "Book | <b>\x00",
        "expected_outcome": {"score": 0, "explanation": ["❌ not *booked*"], "outcome_alignments": []},
        "evaluation": {
            "metrics": [
                {"name": "Latency (ms)", "type": "numeric", "score": 950.0},
                {"name": "Stop Time after User Interruption (ms)", "type": "numeric", "score": 300},
                {"name": "AI Interrupting User", "type": "numeric", "score": 0},
                {"name": "CSAT", "type": "numeric", "score": 2},
            ]
        },
    }
)
LOST = Run.parse({"id": 34627, "status": "failed", "error_message": "sip-call-failed", "scenario_name": "Cancel"})
STUCK = Run.parse({"id": 34628, "status": "evaluating", "scenario": 7})


def report_of(*runs: Run, calls: tuple[CallRecord, ...] = (), joinable: bool = True, **fields: Any) -> Report:
    """Report on runs."""
    result = Result(id=16870, name="Nightly", status="completed", total_runs=len(runs))
    joined = join(runs, [call.to_dict() for call in calls], result_id=16870)
    followed = Followed(result=result, joined=joined, joinable=joinable)
    checks = tuple(judge(followed, Limits(max_p95_latency_ms=2000)))
    return Report(followed=followed, checks=checks, started_at=NOW, ended_at=NOW, **fields)


CALLS = (record(1), record(2, run_id="34626"), refused(3, run_id=None, result_id=None))
FULL = report_of(PASSED, FAILED, LOST, STUCK, calls=CALLS, sip_endpoint="sip:a@b", listening=("UDP 5060",))


def test_the_document() -> None:
    """Everything, in JSON, by stable keys."""
    document = json.loads(json.dumps(FULL.to_dict()))

    assert [
        *("passed", "timed_out", "result_id", "name", "status", "started_at", "ended_at", "counts", "checks", "runs"),
        *("strangers", "records_problem", "advice"),
    ] == list(document)
    assert (False, 16870) == (document["passed"], document["result_id"])
    assert {"total": 4, "passed": 1, "failed": 2, "unfinished": 1, "never_arrived": 1} == {
        key: value for key, value in document["counts"].items() if key != "platform"
    }
    assert ["ended", "ended", "never_arrived", "expected"] == [run["call_state"] for run in document["runs"]]
    assert ["❌ not *booked*"] == document["runs"][1]["reasons"]
    assert 800 == document["runs"][1]["record"]["metrics"]["response_latency_ms"]["p50"]
    assert ["not in the allow-list"] == [call["end_reason"] for call in document["strangers"]]


def test_every_run_has_the_same_keys() -> None:
    """With a call or without."""
    keys = {tuple(run) for run in FULL.to_dict()["runs"]}

    assert 1 == len(keys)


def test_what_to_look_at() -> None:
    """A call that never arrived: the endpoint, the firewall, the allow-list, and who was refused meanwhile."""
    advice = "\n".join(FULL.advice)

    assert "runs 34627: the call never arrived here" in advice
    assert "(sip:a@b)" in advice
    assert "(UDP 5060)" in advice
    assert "refused meanwhile: 192.0.2.7" in advice
    assert "34625" not in advice


def test_missing_credentials() -> None:
    """Where the agent asks for them, a caller without is one of the causes; a refusal with 401 is it."""
    told = "sip_auth of the agent at Cekura has to be a user and password of auth.users here"
    unanswered = refused(run_id="34627", sip_status=401, end_reason="the challenge was not answered")

    assert told in "\n".join(report_of(LOST, challenges=True).advice)
    assert told not in "\n".join(report_of(LOST).advice)
    assert f"  401: {told}" in report_of(LOST, calls=(unanswered,)).advice
    assert told not in "\n".join(report_of(LOST, calls=(refused(run_id="34627"),)).advice)


def test_commands_to_type_next() -> None:
    """They name the settings file that was named; what an agent elsewhere recorded is not looked up here."""
    file = Path("my tests/sip-agent.toml")
    call = refused(run_id="34627")
    here = report_of(LOST, calls=(call,), config=file)
    elsewhere = report_of(LOST, calls=(call,), agent_url="http://agent:8080")
    unfinished = replace(elsewhere, followed=replace(elsewhere.followed, timed_out=True), config=file)

    assert here.advice[0].endswith(": sip-agent calls show run:34627 --config 'my tests/sip-agent.toml'")
    assert elsewhere.advice[0].endswith("(403 not in the allow-list)")
    assert unfinished.advice[0].endswith(
        ": sip-agent cekura wait 16870 --config 'my tests/sip-agent.toml' --agent-url http://agent:8080"
    )


def test_a_success_without_our_call() -> None:
    """Somebody else must have answered it."""
    assert "another agent answered" in "\n".join(report_of(PASSED).advice)


def test_no_records_no_reproach() -> None:
    """Where our own calls are not looked at, none of them is missing."""
    report = report_of(PASSED, LOST, joinable=False)

    assert () == report.advice
    assert report.to_dict()["counts"]["never_arrived"] is None
    assert ["unknown", "unknown"] == [run["call_state"] for run in report.to_dict()["runs"]]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (refused(run_id="34625"), "our side refused the call (403 not in the allow-list)"),
        (record(rtp=RtpRecord()), "no RTP came in"),
    ],
)
def test_advice_on_calls(call: CallRecord, words: str) -> None:
    """A call that we refused, and one in which nothing was heard."""
    joined = join([PASSED], [call.to_dict()], result_id=16870)
    report = Report(
        followed=Followed(result=Result(id=1), joined=joined, joinable=True), checks=(), started_at=NOW, ended_at=NOW
    )

    assert words in "\n".join(report.advice)


def test_metrics_side_by_side() -> None:
    """What both measured stands in one line; what only one did, too."""
    joined = FULL.followed.joined.runs[1]

    rows = {name: (theirs, ours) for name, theirs, ours in comparison(joined)}

    assert ("950", "p50 800 ms, p95 800 ms, max 800 ms") == rows["Latency (ms)"]
    assert ("300", "") == rows["Stop Time after User Interruption (ms)"]
    assert ("0", "0") == rows["AI Interrupting User"]
    assert ("2", "") == rows["CSAT"]
    assert ("", "1200 ms") == rows["longest silence"]


@pytest.mark.parametrize(
    ("call", "state"),
    [
        (record(outcome=None, answered_at=None, ended_at=None), CallState.RINGING),
        (record(outcome=None, ended_at=None), CallState.TALKING),
        (record(), CallState.ENDED),
        (refused(), CallState.REFUSED),
        (record(outcome="failed"), CallState.FAILED),
    ],
)
def test_call_states(call: CallRecord, state: CallState) -> None:
    """Where our call stands."""
    joined = join([PASSED], [call.to_dict()], result_id=16870).runs[0]

    assert state is call_state(joined, joinable=True)


def test_junit() -> None:
    """A case per run and per check; what XML does not allow is replaced."""
    root = ET.fromstring(junit(FULL))  # noqa: S314  (our own text)

    assert {"tests": "6", "failures": "3", "errors": "1"} == root.attrib
    cases = {case.get("name"): case for case in root.iter("testcase")}
    assert cases["Support (run 34625)"].find("failure") is None
    failure = cases["Book | <b>� (run 34626)"].find("failure")
    assert failure is not None
    assert "❌ not *booked*" == failure.get("message")
    assert "here: answered, 30.0 s, ended by the caller" in str(failure.text)
    assert cases["scenario 7 (run 34628)"].find("error") is not None
    assert cases["success"].find("failure") is not None
    assert cases["p95_latency_ms"].find("failure") is None


def test_markdown() -> None:
    """What strangers wrote steers nothing."""
    text = markdown(FULL)

    assert text.startswith("## ❌ Nightly: failed, 1 of 4 runs successful (result 16870)\n")
    assert r"Book \| \<b\>" in text
    assert r"- Cekura: ❌ not \*booked\*" in text
    assert "| 34627 | Cancel | ❌ failed | never arrived |" in text
    assert "### What to look at" in text


def test_a_report_of_success() -> None:
    """Is short."""
    report = report_of(PASSED, calls=(record(),))

    assert report.passed
    assert markdown(report).startswith("## ✅ Nightly: passed, 1 of 1 runs successful")
    assert "###" not in markdown(report)
    assert 'failures="0"' in junit(report)
