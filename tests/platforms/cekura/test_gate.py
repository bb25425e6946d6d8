"""Whether the agent is as good as asked."""

from dataclasses import replace
from typing import Any

import pytest

from sip_agent.platforms.cekura.gate import Limits, judge
from sip_agent.platforms.cekura.join import join
from sip_agent.platforms.cekura.model import Result, Run
from sip_agent.platforms.cekura.runs import Followed
from sip_agent.record import CallRecord
from tests.platforms.cekura.calls import metrics, record, refused

PASSED = Run(id=34625, status="completed", success=True)
LIMITS = ("max_p95_latency_ms", "max_stop_time_ms", "max_interruptions", "max_silence_ms")
FAILED = Run(id=34626, status="completed", success=False)


def followed(result: Result, *calls: CallRecord, runs: tuple[Run, ...] = (PASSED,)) -> Followed:
    """Return runs that are over, joined to calls."""
    joined = join(runs, [call.to_dict() for call in calls], result_id=result.id)
    return Followed(result=result, joined=joined, joinable=True)


def verdicts(*calls: CallRecord, runs: tuple[Run, ...] = (PASSED,), **limits: Any) -> dict[str, tuple[Any, bool]]:
    """Return each check's value and verdict."""
    checks = judge(followed(Result(id=16870), *calls, runs=runs), Limits(**limits))
    return {check.name: (check.value, check.passed) for check in checks}


@pytest.mark.parametrize(
    ("counts", "runs", "passed"),
    [
        ({"total_runs": 1, "successful_runs": 1}, (PASSED,), True),
        ({}, (PASSED,), True),
        ({"total_runs": 2, "successful_runs": 1}, (PASSED, FAILED), False),
        ({"total_runs": 2, "successful_runs": 2}, (PASSED, FAILED), False),
        ({"total_runs": 1, "successful_runs": 0}, (PASSED,), False),
        ({"total_runs": 2, "successful_runs": 2}, (PASSED,), False),
        ({"total_runs": 0, "successful_runs": 0}, (), False),
    ],
)
def test_every_run_has_to_be_a_success(counts: dict[str, int], runs: tuple[Run, ...], passed: bool) -> None:
    """By the counts and by the runs, though the result is completed."""
    result = Result(id=16870, status="completed", **counts)  # type: ignore[arg-type]

    assert [passed] == [check.passed for check in judge(followed(result, runs=runs), Limits())]


def test_counts_that_disagree_are_named() -> None:
    """Whoever reads the verdict sees why."""
    check = judge(followed(Result(id=1, total_runs=1, successful_runs=0)), Limits())[0]

    assert "0 of 1 runs (Cekura counts 0 successful, its runs say 1)" == check.note


@pytest.mark.parametrize(("share", "passed"), [(0.5, True), (0.51, False), (0.0, True)])
def test_a_share_may_be_enough(share: float, passed: bool) -> None:
    """--min-success."""
    assert {"success": (0.5, passed)} == verdicts(runs=(PASSED, FAILED), min_success=share)


def test_latency_is_over_all_turns_of_all_calls() -> None:
    """One slow turn among few is in the 95th percentile."""
    calls = (record(1, measured=metrics([500, 700])), record(2, measured=metrics([900, 3000]), run_id="34626"))

    assert (2685, False) == verdicts(*calls, runs=(PASSED, FAILED), max_p95_latency_ms=2000)["p95_latency_ms"]
    assert (2685, True) == verdicts(*calls, runs=(PASSED, FAILED), max_p95_latency_ms=2685)["p95_latency_ms"]


def test_every_single_call_counts() -> None:
    """The worst call decides on stop time, interruptions and silence."""
    calls = (record(1, measured=metrics(stop_ms=200)), record(2, measured=metrics(by_agent=2), run_id="34626"))
    found = verdicts(*calls, runs=(PASSED, FAILED), max_stop_time_ms=199, max_interruptions=2, max_silence_ms=1200)

    assert {"stop_time_ms": (200, False), "interruptions": (2, True), "longest_silence_ms": (1200, True)} == {
        name: verdict for name, verdict in found.items() if name != "success"
    }


def test_nobody_interrupted() -> None:
    """Then the agent stopped soon enough."""
    assert (0, True) == verdicts(record(), max_stop_time_ms=100)["stop_time_ms"]


@pytest.mark.parametrize("calls", [(), (refused(),), (record(metrics={"error": "no recording"}),)])
def test_what_was_not_measured_is_not_good(calls: tuple[CallRecord, ...]) -> None:
    """No call, none answered, none measured: no limit is kept."""
    limits: dict[str, Any] = {
        "max_p95_latency_ms": 1,
        "max_stop_time_ms": 1,
        "max_interruptions": 1,
        "max_silence_ms": 1,
    }

    found = verdicts(*calls, **limits)

    assert {(None, False)} == {verdict for name, verdict in found.items() if name != "success"}


def test_one_call_that_was_not_measured() -> None:
    """Its figures might have been the worst."""
    calls = (record(1), record(2, run_id="34626", metrics={"error": "no recording"}))

    assert (0, False) == verdicts(*calls, runs=(PASSED, FAILED), max_interruptions=0)["interruptions"]


def test_calls_may_be_required() -> None:
    """--require-calls: a run without its call fails, whatever Cekura says."""
    assert (1, False) == verdicts(require_calls=True)["runs_without_a_call"]
    assert (0, True) == verdicts(record(), require_calls=True)["runs_without_a_call"]
    assert "runs_without_a_call" not in verdicts()


@pytest.mark.parametrize(
    ("found", "note"),
    [({"joinable": False}, "our own records were not read"), ({"timed_out": True}, "some runs are not over")],
)
def test_required_calls_that_nobody_knows_of(found: dict[str, Any], note: str) -> None:
    """Records that cannot be read, or runs that are not over: neither good nor counted."""
    check = judge(replace(followed(Result(id=16870)), **found), Limits(require_calls=True))[1]

    assert (None, False, note) == (check.value, check.passed, check.note)
