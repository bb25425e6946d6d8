"""Reading what Cekura answers: every shape that its documents show."""

from typing import Any

import pytest

from sip_agent.platforms.cekura.model import Agent, AnswerError, ExpectedOutcome, Metric, Result, Run, StartedRun

START = {
    "id": 16870,
    "name": "SIP Test Run",
    "agent": 5,
    "status": "in_progress",
    "success_rate": 0.0,
    "run_as_text": False,
    "is_cronjob": False,
    "runs": [
        {
            "id": 34625,
            "status": "running",
            "scenario": 11547,
            "scenario_name": "Customer Support Scenario",
            "test_profile_data": {"key": "value"},
        }
    ],
    "created_at": "2025-10-16T09:32:59.484534Z",
    "updated_at": "2025-10-16T09:32:59.484942Z",
}
"""The documented answer to a start."""


def test_the_documented_start() -> None:
    """The example in Cekura's documents is understood."""
    started = StartedRun.parse(START)

    assert (16870, "SIP Test Run") == (started.result_id, started.name)
    assert [(34625, "running", 11547)] == [(run.id, run.status, run.scenario_id) for run in started.runs]


@pytest.mark.parametrize("document", [None, [], {}, {"id": None}, {"id": "abc"}, {"id": True}])
def test_a_start_without_a_result(document: Any) -> None:
    """Without an id the answer is of no use."""
    with pytest.raises(AnswerError, match="names no result"):
        StartedRun.parse(document)


@pytest.mark.parametrize("runs", [[{"id": 1}, {"id": "2"}], {"1": {"id": 1}, "2": {"status": "running"}}])
def test_runs_are_a_list_or_an_object(runs: Any) -> None:
    """The key of an object stands for a missing id; counts may be text."""
    result = Result.parse({"id": "9", "runs": runs, "total_runs_count": "2", "success_runs_count": 1.0})

    assert [1, 2] == [run.id for run in result.runs]
    assert (2, 1, None) == (result.total_runs, result.successful_runs, result.failed_runs)


@pytest.mark.parametrize(
    ("fields", "passed"),
    [
        ({"status": "completed", "success": True}, True),
        ({"status": "COMPLETED", "success": True}, True),
        ({"status": "completed", "success": True, "evaluation_status": "success"}, True),
        ({"status": "completed", "success": False}, False),
        ({"status": "completed"}, False),
        ({"status": "completed", "success": True, "evaluation_status": "failure"}, False),
        ({"status": "completed", "success": False, "evaluation_status": "reviewed_success"}, True),
        ({"status": "completed", "success": True, "evaluation_status": "reviewed_failure"}, False),
        ({"status": "timeout", "success": True}, False),
        ({"status": "evaluating", "success": True}, False),
        ({"status": "brand_new", "success": True}, False),
    ],
)
def test_what_passes(fields: dict[str, Any], passed: bool) -> None:
    """A completed run that was judged a success, by a person if one looked."""
    assert passed is Run.parse({"id": 1, **fields}).passed


@pytest.mark.parametrize(
    ("status", "over"), [("completed", True), ("TIMEOUT", True), ("in_queue", False), ("new", False)]
)
def test_what_is_over(status: str, over: bool) -> None:
    """A status that is not known may still change."""
    assert over is Run.parse({"id": 1, "status": status}).over


def test_reasons() -> None:
    """The platform's explanation: the error first, then what the scenario expected, then the metrics that failed."""
    run = Run.parse(
        {
            "id": 1,
            "status": "completed",
            "success": False,
            "error_message": "Something broke",
            "expected_outcome": {
                "score": 50,
                "explanation": ["❌ The date was not confirmed"],
                "outcome_alignments": [
                    {"outcome": "confirm the date", "prompt_part": "", "aligned": False},
                    {"outcome": "greet", "prompt_part": "", "aligned": True},
                ],
            },
            "evaluation": {
                "metrics": [
                    {"id": 1, "name": "Tool Call Success", "type": "binary", "score": 0, "explanation": "no call"},
                    {"id": 2, "name": "Latency (ms)", "type": "numeric", "score": 900},
                ]
            },
        }
    )

    assert (
        "Something broke",
        "expected outcome missed: confirm the date",
        "❌ The date was not confirmed",
        "Tool Call Success: no call",
    ) == run.reasons


def test_a_failure_without_an_explanation() -> None:
    """There is always something to say, and nothing about a success."""
    assert ("status completed, and no explanation",) == Run.parse({"id": 1, "status": "completed"}).reasons
    assert ("the run ended as timeout (exceeded-max-duration)",) == Run.parse(
        {"id": 1, "status": "timeout", "metadata": {"ended_reason": "exceeded-max-duration"}}
    ).reasons
    assert () == Run.parse({"id": 1, "status": "completed", "success": True}).reasons


@pytest.mark.parametrize(
    ("document", "passed"),
    [
        ({"name": "m", "type": "binary", "score": 1}, True),
        ({"name": "m", "type": "binary_workflow_adherence", "score": 5}, True),
        ({"name": "m", "type": "binary_workflow_adherence", "score": 0}, False),
        ({"name": "m", "eval_type": "binary", "passed": False}, False),
        ({"name": "m", "type": "numeric", "score": 0}, None),
        ({"name": "m", "type": "binary"}, None),
    ],
)
def test_metrics(document: dict[str, Any], passed: bool | None) -> None:
    """A metric of the API, of a webhook, and of the older shape."""
    assert passed is Metric.parse(document).passed


@pytest.mark.parametrize("value", [None, "", {}, [], 5])
def test_no_expected_outcome(value: Any) -> None:
    """What is missing or of another kind is nothing."""
    assert ExpectedOutcome.parse(value) is None


@pytest.mark.parametrize(
    "document",
    [
        {"id": 1, "scenario": "x", "evaluation": [], "metadata": 5, "duration": 7, "executed_at": "yesterday"},
        {"id": 1, "evaluation": {"metrics": {"a": 1}}, "expected_outcome": [], "test_profile_data": "none"},
        {"id": 1, "evaluation": {"metrics": [None, "x", {}]}, "status": None, "success": "maybe"},
    ],
)
def test_odd_runs(document: dict[str, Any]) -> None:
    """Nothing but a missing id makes a run unreadable."""
    assert not Run.parse(document).passed


def test_half_a_character() -> None:
    """JSON may escape a lone surrogate, which no output takes."""
    run = Run.parse({"id": 1, "status": "failed", "error_message": "broken \ud83d"})

    assert "broken ?" == run.error_message


def test_durations_and_scenarios() -> None:
    """MM:SS, and a scenario as an id or as an object."""
    run = Run.parse({"id": 1, "duration": "02:05", "scenario": {"id": 7, "name": "Booking"}})

    assert (125, 7, "Booking") == (run.duration_s, run.scenario_id, run.scenario_name)


def test_agents_of_both_versions() -> None:
    """The fields of version 1 and of version 2."""
    old = Agent.parse({"id": 5, "agent_name": "A", "inbound": True, "sip_endpoint": "sip:a@b"})
    new = Agent.parse({"id": 5, "name": "A", "telephony": {"inbound": True, "sip_uri": "sip:a@b"}})

    assert ("A", True, "sip:a@b") == (old.name, old.inbound, old.sip_endpoint)
    assert old == new
