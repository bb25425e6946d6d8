"""How much of a call a transcript keeps."""

from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from sip_agent.record import CallRecord
from sip_agent.transcript import CHARACTERS_MAX, ENTRIES_MAX, Transcript


@pytest.fixture
def record() -> CallRecord:
    """Make the record of a call."""
    return CallRecord(call_uuid="1", invite_received_at=datetime(2026, 1, 1, tzinfo=UTC))


def test_too_many_entries(record: CallRecord) -> None:
    """The first ones are kept, and the log tells once that there were more."""
    transcript = Transcript(record, lambda: 0)
    with capture_logs() as logs:
        for number in range(ENTRIES_MAX + 10):
            transcript.add("caller", f"{number}")

    assert [f"{number}" for number in range(ENTRIES_MAX)] == [entry["text"] for entry in record.transcript]
    assert ["call.transcript_full"] == [entry["event"] for entry in logs]


def test_too_many_characters(record: CallRecord) -> None:
    """What tools are given and answer counts as texts do; what does not fit is left out, and less still fits."""
    transcript = Transcript(record, lambda: 0)
    with capture_logs() as logs:
        for _ in range(900):
            transcript.add_tool("search", {"for": ["x" * 30_000]}, {"found": ["y" * 30_000]})
        transcript.add("agent", "z" * CHARACTERS_MAX)
        transcript.add("agent", "Good-bye.")

    assert CHARACTERS_MAX - 65_000 < len(str(record.transcript)) < CHARACTERS_MAX + 1000
    assert "Good-bye." == record.transcript[-1]["text"]
    assert [("call.transcript_full", len(record.transcript) - 1)] == [
        (entry["event"], entry["entries"]) for entry in logs
    ]
