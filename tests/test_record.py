"""The call record as a document."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sip_agent.record import (
    AudioRecord,
    CallRecord,
    RtpDirection,
    RtpRecord,
    format_timestamp,
    milliseconds_between,
)
from sip_agent.status import Direction, EndedBy, Outcome

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)

KEYS = [
    "call_uuid",
    "call_id",
    "direction",
    "transport",
    "source_address",
    "from_uri",
    "to_uri",
    "request_uri",
    "user_agent",
    "account",
    "auth_user",
    "run_id",
    "scenario_id",
    "result_id",
    "headers",
    "handler",
    "outcome",
    "sip_status",
    "ended_by",
    "end_reason",
    "q850_cause",
    "invite_received_at",
    "ringing_at",
    "answered_at",
    "ended_at",
    "ringing_delay_ms",
    "answer_delay_ms",
    "setup_ms",
    "talk_ms",
    "rx_first_audio_ms",
    "tx_first_audio_ms",
    "messages",
    "codec",
    "clock_rate_hz",
    "srtp",
    "rtp",
    "audio",
    "dtmf",
    "transfers",
    "turns",
    "metrics",
    "transcript",
    "stalls",
    "faults",
    "recording",
    "evidence",
    "verdict",
    "error",
]
"""What the store, the API, the CLI and everybody's scripts rely on."""


def test_keys() -> None:
    """The keys are the documented ones, all of them, in this order, whatever is known of the call."""
    assert KEYS == list(CallRecord(call_uuid="1").to_dict())


def test_values() -> None:
    """Times are RFC 3339 in UTC, words are text, the rest is as it was noted."""
    record = CallRecord(
        call_uuid="1",
        direction=Direction.OUTBOUND,
        outcome=Outcome.ANSWERED,
        ended_by=EndedBy.CALLER,
        answered_at=NOON,
        headers={"X-Run-Id": ["7"]},
        rtp=RtpRecord(rx=RtpDirection(packets=50, jitter_ms=1.5), rtt_ms=20.0),
        audio=AudioRecord(late_frames=1, underruns=2),
    )
    document = json.loads(json.dumps(record.to_dict()))

    assert {
        "direction": "outbound",
        "outcome": "answered",
        "ended_by": "caller",
        "answered_at": "2026-11-21T12:00:00.000Z",
        "ended_at": None,
        "headers": {"X-Run-Id": ["7"]},
        "audio": {"late_frames": 1, "underruns": 2},
    }.items() <= document.items()
    assert (50, 1.5, 0) == (
        document["rtp"]["rx"]["packets"],
        document["rtp"]["rx"]["jitter_ms"],
        document["rtp"]["tx"]["packets"],
    )
    assert (20.0, None) == (document["rtp"]["rtt_ms"], document["rtp"]["mos_lq_estimated"])


def test_records_share_nothing() -> None:
    """What is noted in one record is in no other."""
    CallRecord(call_uuid="1").dtmf.append({"digit": "1"})

    assert [] == CallRecord(call_uuid="2").dtmf


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (None, None),
        (NOON, "2026-11-21T12:00:00.000Z"),
        (NOON + timedelta(microseconds=123_999), "2026-11-21T12:00:00.123Z"),
        (NOON.astimezone(timezone(timedelta(hours=5, minutes=30))), "2026-11-21T12:00:00.000Z"),
    ],
)
def test_timestamps(moment: datetime | None, text: str | None) -> None:
    """Times are UTC with milliseconds, wherever they come from."""
    assert text == format_timestamp(moment)


@given(st.integers(min_value=-(10**9), max_value=10**9))
def test_milliseconds(elapsed_ms: int) -> None:
    """Durations are whole milliseconds; what never happened has none."""
    assert elapsed_ms == milliseconds_between(NOON, NOON + timedelta(milliseconds=elapsed_ms))
    assert None is milliseconds_between(None, NOON)
    assert None is milliseconds_between(NOON, None)
