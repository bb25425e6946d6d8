"""The call record (CDR): one per INVITE, the same keys in the store, the API, the CLI and the log."""

from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from sip_agent.status import Direction, EndedBy, Outcome


def format_timestamp(moment: datetime | None) -> str | None:
    """Write an aware time as RFC 3339 in UTC with milliseconds."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def milliseconds_between(start: datetime | None, end: datetime | None) -> int | None:
    """Return the whole milliseconds from `start` to `end`, or None if either never happened."""
    if start is None or end is None:
        return None
    return round((end - start).total_seconds() * 1000)


def message_entry(at_s: float, sent: bool, text: str, cseq: int) -> dict[str, Any]:
    """Return an item of a record's `messages`: a SIP message as it passed the transport, at a time since the epoch.

    `text` is the method of a request, the status and reason phrase of a response.
    """
    return {"at": format_timestamp(datetime.fromtimestamp(at_s, UTC)), "sent": sent, "text": text, "cseq": cseq}


@dataclass(slots=True, kw_only=True)
class RtpDirection:
    """RTP figures of one direction (RFC 3550 §6.4): `tx` figures of loss and jitter are what the peer reported."""

    packets: int = 0
    lost: int = 0
    discarded: int = 0
    reordered: int = 0
    duplicated: int = 0
    jitter_ms: float = 0.0


@dataclass(slots=True, kw_only=True)
class RtpRecord:
    """RTP figures of the whole call; `mos_lq_estimated` is an E-model estimate (ITU-T G.107), 1.0 to 4.5."""

    rx: RtpDirection = field(default_factory=RtpDirection)
    tx: RtpDirection = field(default_factory=RtpDirection)
    rtt_ms: float | None = None
    mos_lq_estimated: float | None = None


@dataclass(slots=True, kw_only=True)
class AudioRecord:
    """What the audio path missed: frames taken late by the handler, ticks without a frame to send."""

    late_frames: int = 0
    underruns: int = 0


@dataclass(slots=True, kw_only=True)
class CallRecord:
    """What is known of one call; filled while the call goes on, complete once `ended_at` is set.

    Ids are text exactly as received. Times are aware UTC datetimes; durations are whole milliseconds.
    """

    call_uuid: str
    call_id: str = ""
    direction: Direction = Direction.INBOUND
    transport: str = ""
    source_address: str = ""
    from_uri: str = ""
    to_uri: str = ""
    request_uri: str = ""
    user_agent: str | None = None
    account: str | None = None
    auth_user: str | None = None
    run_id: str | None = None
    scenario_id: str | None = None
    result_id: str | None = None
    headers: dict[str, list[str]] = field(default_factory=dict)
    handler: str | None = None
    outcome: Outcome | None = None
    sip_status: int | None = None
    ended_by: EndedBy | None = None
    end_reason: str | None = None
    q850_cause: int | None = None
    invite_received_at: datetime | None = None
    ringing_at: datetime | None = None
    answered_at: datetime | None = None
    ended_at: datetime | None = None
    ringing_delay_ms: int | None = None
    answer_delay_ms: int | None = None
    setup_ms: int | None = None
    talk_ms: int | None = None
    rx_first_audio_ms: int | None = None
    tx_first_audio_ms: int | None = None
    messages: list[dict[str, Any]] = field(default_factory=list)
    codec: str | None = None
    clock_rate_hz: int | None = None
    srtp: str | None = None
    rtp: RtpRecord | None = None
    audio: AudioRecord = field(default_factory=AudioRecord)
    dtmf: list[dict[str, Any]] = field(default_factory=list)
    transfers: list[dict[str, Any]] = field(default_factory=list)
    turns: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    transcript: list[dict[str, Any]] = field(default_factory=list)
    stalls: list[dict[str, Any]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    recording: dict[str, Any] | None = None
    evidence: dict[str, Any] | None = None
    verdict: dict[str, Any] | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the record as a JSON-ready object with stable keys."""
        document = {
            item.name: _jsonable(getattr(self, item.name)) if item.name not in _NESTED else None
            for item in fields(self)
        }
        document["rtp"] = None if self.rtp is None else asdict(self.rtp)
        document["audio"] = asdict(self.audio)
        return document


_NESTED = frozenset({"rtp", "audio"})


def _jsonable(value: Any) -> Any:
    return format_timestamp(value) if isinstance(value, datetime) else value
