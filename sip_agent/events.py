"""What a user agent reports of one call: facts, in the past tense, in the order they happened."""

from dataclasses import dataclass
from datetime import datetime

from sip_agent.record import RtpRecord
from sip_agent.status import EndedBy


@dataclass(frozen=True, slots=True, kw_only=True)
class Responded:
    """A response to the INVITE left (inbound) or arrived (outbound)."""

    at: datetime
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallConfirmed:
    """The ACK completed the INVITE: the dialog is confirmed (RFC 3261 §13)."""

    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaChanged:
    """SDP was agreed: which codec flows, under which protection, and whether the peer holds the call.

    `srtp` is the crypto suite (RFC 4568 §6.2) or None; `clock_rate_hz` is the codec's sample rate;
    `telephone_event` says whether the peer can send digits as events (RFC 4733).
    """

    at: datetime
    codec: str | None
    clock_rate_hz: int | None
    srtp: str | None
    on_hold: bool
    telephone_event: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DtmfReceived:
    """One DTMF digit, by RFC 4733 event, SIP INFO or as tones.

    An event is told of when it begins, without a duration, and when it ends, with it.
    """

    at: datetime
    digit: str
    method: str
    duration_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferProgressed:
    """What the peer says of its call to whom we sent it (REFER, NOTIFY; RFC 3515 §2.4.5); `final` is the last word."""

    at: datetime
    status: int
    reason: str
    final: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstAudioReceived:
    """The first RTP packet of the peer arrived."""

    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDisconnected:
    """The call is over; `sip_status` is the final status of the INVITE."""

    at: datetime
    ended_by: EndedBy
    sip_status: int
    reason: str
    q850_cause: int | None
    rtp: RtpRecord | None


CallEvent = (
    Responded | CallConfirmed | MediaChanged | DtmfReceived | TransferProgressed | FirstAudioReceived | CallDisconnected
)
