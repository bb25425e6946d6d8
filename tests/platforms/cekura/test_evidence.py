"""What is sent of a call: as Cekura documents it, and nothing else."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sip_agent.config import CekuraSettings
from sip_agent.conversation import LONGEST_DURATION
from sip_agent.platforms.cekura.evidence import Evidence, end_reason, run_number, trace_id
from sip_agent.platforms.errors import PlatformError
from sip_agent.record import CallRecord
from sip_agent.status import Direction, EndedBy, Outcome
from sip_agent.store.schema import document_of

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
UUID = "0199e72d-795e-4ffe-b9b9-d3b08a3a11ae"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"

TRANSCRIPT = [
    {"speaker": "agent", "text": "Hello.", "at_ms": 100},
    {"speaker": "caller", "text": "A table, please.", "at_ms": 1500},
    {"speaker": "agent", "tool": "book", "arguments": {"seats": 2}, "result": {"ok": True}, "at_ms": 2600},
    {"speaker": "agent", "text": "Done.", "at_ms": 3000},
]
TURNS = [
    {"speaker": "agent", "started_ms": 120, "ended_ms": 900},
    {"speaker": "caller", "started_ms": 1400, "ended_ms": 2500},
]


def make_evidence(*, joined: bool = True, **settings: Any) -> Evidence:
    """Return what writes evidence, with these settings of [cekura]."""
    return Evidence(
        CekuraSettings(**({"api_key": "k", "agent_id": 5} | settings)),
        joined=joined,
        recordings_dir=Path("/var/recordings"),
    )


def ended(**fields: Any) -> CallRecord:
    """Return the record of a test call that is over."""
    values: dict[str, Any] = {
        "call_uuid": UUID,
        "call_id": "abc@caller",
        "from_uri": "sip:cekura@192.0.2.7",
        "request_uri": "sip:agent@192.0.2.1",
        "run_id": "456789",
        "handler": "script",
        "outcome": Outcome.ANSWERED,
        "ended_by": EndedBy.CALLER,
        "sip_status": 200,
        "codec": "PCMU",
        "invite_received_at": NOW - timedelta(seconds=2),
        "answered_at": NOW,
        "ended_at": NOW + timedelta(seconds=5),
        "transcript": TRANSCRIPT,
        "turns": TURNS,
        "metrics": {"response_latency_ms": {"p50": 800}, "talk_ratio": 0.5},
    }
    return CallRecord(**(values | fields))


def sent(evidence: Evidence, **fields: Any) -> Any:
    """Return the call in the body for the transcript endpoint."""
    body = evidence.transcript(document_of(ended(**fields)))
    assert ["calls"] == list(body)
    (call,) = body["calls"]
    return call


def test_a_test_call() -> None:
    """The run id is an integer, times are RFC 3339, messages have their roles and seconds from the answer."""
    call = sent(make_evidence())
    tool = {"id": "call_2", "name": "book"}

    assert {
        "id": UUID,
        "run_id": 456789,
        "startedAt": "2026-03-01T12:00:00.000Z",
        "endedAt": "2026-03-01T12:00:05.000Z",
        "endedReason": "Testing agent-ended-call",
        "trace_id": UUID.replace("-", ""),
        "metadata": {
            "call_uuid": UUID,
            "sip_call_id": "abc@caller",
            "handler": "script",
            "codec": "PCMU",
            "sip_status": 200,
            "response_latency_ms": {"p50": 800},
        },
        "messages": [
            {"role": "bot", "content": "Hello.", "start_time": 0.1, "end_time": 0.9},
            {"role": "user", "content": "A table, please.", "start_time": 1.5, "end_time": 2.5},
            {
                "role": "function_call",
                "content": "",
                "data": tool | {"arguments": {"seats": 2}},
                "start_time": 2.6,
                "end_time": 2.6,
            },
            {
                "role": "function_call_result",
                "content": "",
                "data": tool | {"result": {"ok": True}},
                "start_time": 2.6,
                "end_time": 2.6,
            },
            {"role": "bot", "content": "Done.", "start_time": 3.0},
        ],
    } == call


@pytest.mark.parametrize(
    ("mode", "times"),
    [
        ("seconds", {"start_time": 0.1, "end_time": 0.9}),
        ("epoch_ms", {"start_time": 1772366400100, "end_time": 1772366400900}),
        ("off", {}),
    ],
)
def test_the_times_of_messages(mode: str, times: dict[str, float]) -> None:
    """Cekura's pages disagree on their unit: a setting says which, or that there are none."""
    message = sent(make_evidence(message_times=mode))["messages"][0]

    assert {"role": "bot", "content": "Hello."} | times == message


def test_a_text_ends_where_the_next_of_its_speaker_begins() -> None:
    """Two texts of one turn do not overlap."""
    texts = [{"speaker": "agent", "text": text, "at_ms": at_ms} for text, at_ms in (("One.", 0), ("Two.", 400))]
    messages = sent(make_evidence(), transcript=texts)["messages"]

    assert [(0.0, 0.4), (0.4, 0.9)] == [(item["start_time"], item["end_time"]) for item in messages]


@pytest.mark.parametrize(
    ("uri", "number"),
    [
        ("sip:+14155551234@carrier.example.com", "+14155551234"),
        ("tel:+14155551234;phone-context=x", "+14155551234"),
        ("sip:14155551234@carrier.example.com", None),
        ("sip:+1234567890123456@carrier.example.com", None),
        ("sip:agent@192.0.2.1", None),
    ],
)
def test_phone_numbers(uri: str, number: str | None) -> None:
    """Only what Cekura takes as a number is sent as one: + and up to 15 digits."""
    call = sent(make_evidence(), from_uri=uri, request_uri=uri)

    assert (number, number) == (call.get("from_phone_number"), call.get("to_phone_number"))


def test_a_link_to_the_recording() -> None:
    """With a public address of the recordings, Cekura is told where the recording is."""
    recording = {"path": "/var/recordings/2026-03-01/a.wav", "state": "ok"}
    evidence = make_evidence(recordings_url="https://files.example.com/x/")

    assert (
        "https://files.example.com/x/2026-03-01/a.wav"
        == (sent(evidence, recording=recording)["metadata"]["recording_url"])
    )
    for other in (None, recording | {"state": "failed"}, recording | {"path": "/etc/passwd"}):
        assert "recording_url" not in sent(evidence, recording=other)["metadata"]
    assert "recording_url" not in sent(make_evidence(), recording=recording)["metadata"]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-Traceparent": [f"00-{TRACE}-00f067aa0ba902b7-01"]}, TRACE),
        ({"x-trace-id": [TRACE.upper()]}, TRACE),
        ({"X-Trace-Id": ["4bf92f35-77b3-4da6-a3ce-929d0e0e4736"]}, TRACE),
        ({"X-Cloud-Trace-Context": [f"{TRACE}/1;o=1"]}, TRACE),
        ({"X-B3-TraceId": ["00f067aa0ba902b7"]}, None),
        ({"X-Traceparent": ["00-" + "0" * 32 + "-00f067aa0ba902b7-01"]}, None),
        ({"X-Traceparent": ["", "garbage", "00-zz"]}, None),
        ({"X-Other": [TRACE]}, None),
        ({}, None),
    ],
)
def test_the_trace_id(headers: dict[str, list[str]], expected: str | None) -> None:
    """The caller's trace goes on if it names one of 16 bytes that are not all zero; else the call is its own."""
    assert (expected or UUID.replace("-", "")) == trace_id(headers, UUID)


UNANSWERED: dict[str, Any] = {"answered_at": None, "outcome": Outcome.REJECTED, "ended_by": EndedBy.AGENT}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "Testing agent-ended-call"),
        ({"run_id": None}, "external-user-ended-call"),
        ({"ended_by": EndedBy.AGENT}, "Main agent-ended-call"),
        ({"ended_by": EndedBy.SYSTEM, "end_reason": f"{LONGEST_DURATION} 9 s was reached"}, "exceeded-max-duration"),
        ({"ended_by": EndedBy.SYSTEM, "end_reason": "no RTP for 30 s"}, "call-failed-unknown-error"),
        ({"outcome": Outcome.FAILED, "ended_by": EndedBy.SYSTEM}, "call-failed-unknown-error"),
        (UNANSWERED | {"sip_status": 486}, "Main agent-busy"),
        (UNANSWERED | {"sip_status": 480}, "Main agent-did-not-answer"),
        (UNANSWERED | {"sip_status": 404}, "Main agent-invalid-phone-number"),
        (UNANSWERED | {"sip_status": 603}, "call-rejected"),
        (UNANSWERED | {"sip_status": 488}, "sip-call-failed"),
        (UNANSWERED | {"sip_status": 500, "outcome": Outcome.FAILED}, "sip-call-failed"),
        (UNANSWERED | {"sip_status": 486, "direction": Direction.OUTBOUND}, "call-not-connected"),
        (UNANSWERED | {"sip_status": 487, "outcome": Outcome.CANCELLED}, "call-canceled"),
    ],
)
def test_why_it_ended(fields: dict[str, Any], reason: str) -> None:
    """In Cekura's words."""
    assert reason == end_reason(document_of(ended(**fields)))


def test_an_unanswered_call_began_with_its_invite() -> None:
    """What never was answered has a start all the same: Cekura asks for one."""
    assert "2026-03-01T11:59:58.000Z" == sent(make_evidence(), **UNANSWERED)["startedAt"]


@pytest.mark.parametrize(
    "run_id", ["", "run-7", "7.0", "+7", "007", "-7", "0", " 7", "\N{ARABIC-INDIC DIGIT SEVEN}", "9" * 19, None]
)
def test_what_is_no_run_id(run_id: str | None) -> None:
    """Cekura takes integers only."""
    assert run_number(run_id) is None


@given(st.integers(min_value=1, max_value=10**18 - 1))
def test_run_ids(number: int) -> None:
    """An integer is sent as what it is."""
    assert number == run_number(str(number))


def test_what_is_decided_when_a_call_is_over() -> None:
    """A test call waits to be sent, for five minutes."""
    assert {
        "endpoint": "transcript",
        "state": "waiting",
        "trace_id": UUID.replace("-", ""),
        "attempts": 0,
        "due_at": "2026-03-01T12:00:05.000Z",
        "deadline_at": "2026-03-01T12:05:05.000Z",
        "changed_at": "2026-03-01T12:00:05.000Z",
        "reason": None,
    } == make_evidence().decide(ended())


@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        ({}, {"handler": None}),
        ({}, {"run_id": None}),
        ({"send_transcripts": False}, {}),
        ({"joined": False}, {}),
        ({"observe": True}, {"run_id": None, "outcome": Outcome.REJECTED}),
        ({"observe": True}, {"run_id": None, "handler": None}),
    ],
)
def test_nothing_is_sent(settings: dict[str, Any], fields: dict[str, Any]) -> None:
    """Of calls that were not admitted, of other platforms' calls, and of what was switched off."""
    assert make_evidence(**settings).decide(ended(**fields)) is None


@pytest.mark.parametrize(
    ("settings", "run_id", "reason"),
    [
        ({}, "run-7", "the run id 'run-7' is no integer, and Cekura takes no other"),
        ({"api_key": ""}, "7", "there is no API key (cekura.api_key_file)"),
    ],
)
def test_why_it_is_not_sent(settings: dict[str, Any], run_id: str, reason: str) -> None:
    """The record says why, and there is nothing to do."""
    found = make_evidence(**settings).decide(ended(run_id=run_id))

    assert found is not None
    assert ("not_sent", reason, None, None) == (
        found["state"],
        found["reason"],
        found["due_at"],
        found["deadline_at"],
    )


def test_a_production_call() -> None:
    """Observability has roles of its own, tools that take and give text, and the channel of the agent."""
    recording = {"path": "/var/recordings/a.wav", "state": "ok"}
    record = ended(run_id=None, from_uri="sip:+14155551234@x", recording=recording)
    fields, path = make_evidence(observe=True).observation(document_of(record))

    assert Path("/var/recordings/a.wav") == path
    assert {
        "call_id": UUID,
        "agent": 5,
        "transcript_type": "cekura",
        "call_ended_reason": "external-user-ended-call",
        "timestamp": "2026-03-01T12:00:00.000Z",
        "trace_id": UUID.replace("-", ""),
        "main_agent_channel_index": 1,
        "customer_number": "+14155551234",
    } == {key: value for key, value in fields.items() if key not in {"transcript_json", "metadata"}}
    rows = fields["transcript_json"]
    assert ["Main Agent", "Testing Agent", "Function Call", "Function Call Result", "Main Agent"] == [
        row["role"] for row in rows
    ]
    assert ({"seats": 2}, {"ok": True}) == (
        json.loads(rows[2]["data"]["arguments"]),
        json.loads(rows[3]["data"]["result"]),
    )
    assert (3.0, 3.0) == (rows[4]["start_time"], rows[4]["end_time"])


@pytest.mark.parametrize(
    ("settings", "fields", "message"),
    [
        ({}, {"ended_at": None}, "it goes on: try again when it is over"),
        ({}, {"run_id": None}, "it has no run id: set cekura.observe"),
        ({}, {"run_id": "x"}, "the run id 'x' is no integer"),
        ({"api_key": ""}, {}, "there is no API key"),
    ],
)
def test_what_cannot_be_sent_by_hand(settings: dict[str, Any], fields: dict[str, Any], message: str) -> None:
    """Somebody who asks for it is told why not, and what to do."""
    with pytest.raises(PlatformError, match=message) as caught:
        make_evidence(**settings).endpoint_of(document_of(ended(**fields)))

    assert 2 == caught.value.exit_status
