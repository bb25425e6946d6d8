"""Call records as the store gives them, for the tests of joining and judging."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sip_agent.record import CallRecord
from sip_agent.status import EndedBy, Outcome

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def metrics(latencies_ms: Sequence[int] = (800,), *, stop_ms: int | None = None, by_agent: int = 0) -> dict[str, Any]:
    """Return the metrics of a call."""
    spread = {"p50": latencies_ms[0], "p95": max(latencies_ms), "max": max(latencies_ms), "count": len(latencies_ms)}
    return {
        "response_latency_ms": spread,
        "stop_time_ms": {"p50": stop_ms, "max": stop_ms, "count": int(stop_ms is not None)},
        "interruptions": {"by_caller": 1, "by_agent": by_agent},
        "longest_silence_ms": 1200,
        "talk_ratio": 0.5,
    }


def record(number: int = 1, *, measured: dict[str, Any] | None = None, **fields: Any) -> CallRecord:
    """Return the record of an answered call of run 34625."""
    measured = measured or metrics()
    latency_ms = measured["response_latency_ms"]
    values: dict[str, Any] = {
        "call_uuid": f"0000000{number}-0000-4000-8000-000000000000",
        "source_address": "192.0.2.7:5060",
        "from_uri": "sip:cekura@192.0.2.7",
        "run_id": "34625",
        "result_id": "16870",
        "outcome": Outcome.ANSWERED,
        "sip_status": 200,
        "ended_by": EndedBy.CALLER,
        "invite_received_at": NOW + timedelta(seconds=number),
        "answered_at": NOW + timedelta(seconds=number),
        "ended_at": NOW + timedelta(seconds=number + 30),
        "talk_ms": 30_000,
        "codec": "PCMU",
        "turns": [
            {"speaker": "agent", "response_latency_ms": latency_ms["p50"]},
            {"speaker": "agent", "response_latency_ms": latency_ms["max"]},
        ],
        "metrics": measured,
        "recording": {"state": "ok"},
    }
    return CallRecord(**(values | fields))


def refused(number: int = 1, **fields: Any) -> CallRecord:
    """Return the record of a call that was refused by the allow-list."""
    values: dict[str, Any] = {
        "outcome": Outcome.REJECTED,
        "sip_status": 403,
        "ended_by": EndedBy.AGENT,
        "end_reason": "not in the allow-list",
        "answered_at": None,
        "talk_ms": None,
        "metrics": {},
        "turns": [],
    }
    return record(number, **(values | fields))
