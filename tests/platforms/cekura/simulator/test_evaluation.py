"""How the stand-in judges a call."""

from datetime import timedelta
from typing import Any

import pytest

from sip_agent.platforms.cekura.simulator.evaluation import evaluate, refusal
from sip_agent.platforms.cekura.simulator.world import Expect
from sip_agent.status import EndedBy
from tests.platforms.cekura.simulator.switchboard import answered_record

TWO_SECONDS = timedelta(seconds=2)


def test_everything_is_met() -> None:
    """A call that has all that was expected scores 100, and says so of every part."""
    expect = Expect(says=["booked"], dtmf="12", ends_call=True, latency=TWO_SECONDS)
    record = answered_record(dtmf=[{"digit": "1"}, {"digit": "2"}])

    evaluation = evaluate(record, expect, "guest.yaml")
    outcome = evaluation.expected_outcome
    assert evaluation.success
    assert 100 == outcome["score"]
    assert [True] * 6 == [item["aligned"] for item in outcome["outcome_alignments"]]
    assert "the agent answered after 1500 ms" == outcome["explanation"][0]


@pytest.mark.parametrize(
    ("expect", "record", "expectation", "found"),
    [
        ({"says": ["bye"]}, {}, "the agent says 'bye'", "understood: 'It is booked.'"),
        ({"says": ["bye"]}, {"transcript": []}, "the agent says 'bye'", "understood nothing"),
        ({"dtmf": "12"}, {"dtmf": [{"digit": "1"}]}, "the agent presses 12", "received 1"),
        ({"dtmf": "12"}, {}, "the agent presses 12", "received no key"),
        ({"ends_call": True}, {"ended_by": EndedBy.AGENT}, "the agent hangs up", "the testing agent hung up"),
        ({"ends_call": False}, {}, "the testing agent hangs up", "the agent hung up"),
        ({"latency": timedelta(milliseconds=899)}, {}, "within 899 ms", "900 ms (95th percentile of 4), 950 ms"),
        ({"latency": TWO_SECONDS}, {"metrics": {}}, "within 2000 ms", "not answered once"),
        ({"latency": TWO_SECONDS}, {"metrics": {"error": "no disk"}}, "within 2000 ms", "no disk"),
        ({}, {"error": "line 3: heard nothing"}, "the script guest.yaml comes to its end", "line 3: heard nothing"),
    ],
)
def test_one_thing_is_missed(expect: dict[str, Any], record: dict[str, Any], expectation: str, found: str) -> None:
    """What was missed is named, and the explanation says what was found instead."""
    evaluation = evaluate(answered_record(**record), Expect(**expect), "guest.yaml")

    outcome = evaluation.expected_outcome
    (missed,) = [item["outcome"] for item in outcome["outcome_alignments"] if not item["aligned"]]
    (explanation,) = outcome["explanation"]
    assert not evaluation.success
    assert expectation in missed
    assert found in explanation
    assert 0 < outcome["score"] < 100


def test_the_latency_is_a_metric() -> None:
    """The median is the score; without a single answer there is no such metric."""
    (metric,) = evaluate(answered_record(), Expect(), None).metrics

    assert ("Latency (in ms)", "numeric", 700.0) == (metric["name"], metric["type"], metric["score"])
    assert {"p50": 700, "p95": 900} == metric["extra"]["percentiles"]
    nothing = {"caller_latency_ms": {"p50": None, "p95": None, "max": None, "count": 0}}
    assert () == evaluate(answered_record(metrics=nothing), Expect(), None).metrics


def test_a_sound_file_has_to_be_played() -> None:
    """Also a testing agent without a script fails when it could not do what it was to do."""
    assert evaluate(answered_record(), Expect(), None).success
    assert not evaluate(answered_record(error="no such file"), Expect(), None).success


def test_a_call_that_was_not_answered() -> None:
    """Nothing else is looked at then, and the SIP status is the reason."""
    record = answered_record(answered_at=None, sip_status=486)

    assert "the agent did not answer the call (SIP 486 Busy Here)" == refusal(record)
    (check,) = evaluate(record, Expect(dtmf="1"), "guest.yaml").checks
    assert (False, refusal(record)) == (check.met, check.found)
