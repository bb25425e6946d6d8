"""`Call`, what a conversation handler holds, and `ConversationHandler`, what it has to be."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import structlog

from sip_agent.audio import CallAudio, FrameStream, Playback
from sip_agent.errors import CallEnded, CallRejected, UserAgentError
from sip_agent.events import (
    CallConfirmed,
    CallDisconnected,
    CallEvent,
    DtmfReceived,
    FirstAudioReceived,
    MediaChanged,
    Responded,
)
from sip_agent.headers import CorrelationIds
from sip_agent.invite import Invite
from sip_agent.record import CallRecord, milliseconds_between
from sip_agent.status import EndedBy, SipStatus

DTMF_DIGITS = frozenset("0123456789*#ABCD")


class ConversationHandler(Protocol):
    """The agent's side of a conversation: one coroutine per call.

    It receives the call unanswered. Returning hangs up; raising `CallRejected` refuses a call that is not
    answered yet; any other exception fails this call and no other.
    """

    async def handle(self, call: "Call") -> None:
        """Hold one conversation."""


class Dialog(Protocol):
    """What a call needs of the user agent. Coroutines raise CallEnded or UserAgentError."""

    def listen(
        self, listener: Callable[[CallEvent], None], on_audio: Callable[[CallAudio], None] | None = None
    ) -> None:
        """Report every event to `listener`, and to `on_audio` when sound opens; both on the event loop."""

    async def respond(self, status: int, headers: Sequence[tuple[str, str]] = (), *, early_media: bool = False) -> None:
        """Send a provisional response or the 200; with media, returns when sound can flow."""

    async def terminate(
        self,
        ended_by: EndedBy,
        status: int | None = None,
        headers: Sequence[tuple[str, str]] = (),
        reason: str = "",
    ) -> None:
        """End the call: BYE when it is confirmed, otherwise a final response (or CANCEL, if we called)."""

    async def refer(self, uri: str) -> None:
        """Ask the peer to call `uri` instead (REFER, RFC 3515)."""

    async def send_dtmf(self, digits: str) -> None:
        """Send digits as RFC 4733 events."""

    @property
    def audio(self) -> CallAudio | None:
        """The sound of the call, once SDP was agreed."""


class Offer(Protocol):
    """An INVITE as it arrived, undecided: one of the two methods decides it, once."""

    message: bytes
    transport: str
    source_host: str
    source_port: int
    received_at: datetime

    async def reject(self, status: int, headers: Sequence[tuple[str, str]] = (), *, stateful: bool = True) -> None:
        """Refuse the call; a stateless response is not remembered for retransmissions (RFC 3261 §8.2.7)."""

    async def accept(self) -> Dialog:
        """Open the dialog; raises StackRefusal if the SIP stack has refused the INVITE itself."""


class Transcript:
    """What was said, as far as the handler knows; it goes into the record."""

    def __init__(self, record: CallRecord) -> None:
        self._record = record

    def add(self, speaker: str, text: str) -> None:
        """Note what `speaker` (`caller` or `agent`) said just now."""
        if speaker not in {"caller", "agent"}:
            raise ValueError(f"the speaker is 'caller' or 'agent', not {speaker!r}")
        self._record.transcript.append({"speaker": speaker, "text": text, "at_ms": _elapsed_ms(self._record)})


class Call:
    """One call, inbound or outbound, in the hands of its handler.

    `invite` has the request as received, `ids` its correlation ids, `options` the route's options, `headers`
    every `X-` header in clear, `statuses` the responses to the INVITE so far. All sound is int16 mono at
    `sample_rate_hz`.
    """

    def __init__(
        self,
        *,
        invite: Invite,
        dialog: Dialog,
        record: CallRecord,
        ids: CorrelationIds,
        sample_rate_hz: int,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.invite = invite
        self.ids = ids
        self.options = dict(options or {})
        self.record = record
        self.sample_rate_hz = sample_rate_hz
        self.transcript = Transcript(record)
        self.headers = invite.headers.extensions()
        self.log = structlog.get_logger().bind(call_uuid=record.call_uuid, run_id=ids.run_id)
        self.disconnected: asyncio.Future[CallDisconnected] = loop.create_future()
        self.statuses: list[int] = []
        self._dialog = dialog
        self._digits: asyncio.Queue[str | None] = asyncio.Queue()
        self._on_hold = False

    @property
    def call_uuid(self) -> str:
        """Our own id of this call, in its record and in every line of the log."""
        return self.record.call_uuid

    @property
    def ended(self) -> bool:
        """Whether the call is over."""
        return self.disconnected.done()

    @property
    def answered(self) -> bool:
        """Whether the 200 has been sent."""
        return self.record.answered_at is not None

    @property
    def on_hold(self) -> bool:
        """Whether the peer holds the call (RFC 3264 §8.4)."""
        return self._on_hold

    async def ring(self) -> None:
        """Send 180 Ringing."""
        self._require_unanswered("ring")
        await self._dialog.respond(SipStatus.RINGING)

    async def progress(self) -> None:
        """Send 183 Session Progress with SDP: sound flows before the answer (early media)."""
        self._require_unanswered("progress")
        await self._dialog.respond(SipStatus.SESSION_PROGRESS, early_media=True)

    async def answer(self, headers: Sequence[tuple[str, str]] = ()) -> None:
        """Send 200 OK, with extra header fields if given; returns when sound can flow both ways."""
        self._require_unanswered("answer")
        await self._dialog.respond(SipStatus.OK, headers)

    async def hangup(
        self,
        status: int | None = None,
        headers: Sequence[tuple[str, str]] = (),
        *,
        reason: str = "the handler hung up",
    ) -> None:
        """End the call now: BYE if it is answered, otherwise `status` (603 Decline unless given).

        `reason` is what the record says.
        """
        if status is not None and not 300 <= status <= 699:
            raise ValueError(f"a call is refused with a status from 300 to 699, not {status}")
        if not self.ended:
            await self._dialog.terminate(EndedBy.AGENT, status, headers, reason)

    async def transfer(self, uri: str) -> None:
        """Ask the caller to call `uri` instead; the call goes on until one of the two hangs up."""
        self._require_answered("transfer")
        await self._dialog.refer(uri)

    def frames(self) -> FrameStream:
        """Iterate over what the caller says, 20 ms at a time: int16, shape (samples,); ends with the call."""
        return self._audio("frames").frames()

    def send(self, samples: npt.NDArray[np.int16]) -> Coroutine[Any, Any, None]:
        """Queue sound to send; waits while half a second is queued, so a handler cannot run ahead."""
        return self._audio("send").send(samples)

    async def play(self, source: str | Path | npt.NDArray[np.int16], *, loop: bool = False) -> Playback:
        """Play a sound file (any that soundfile reads, any rate) or samples; returns when it was sent."""
        return await self._audio("play").play(source, loop=loop)

    def stop_playback(self) -> int:
        """Fall silent from the next 20 ms on; returns the milliseconds of queued sound that were dropped."""
        return self._audio("stop_playback").stop()

    async def dtmf(self) -> AsyncIterator[str]:
        """Iterate over the digits that the caller sends, each once, until the call ends."""
        while (digit := await self._digits.get()) is not None:
            yield digit
        self._digits.put_nowait(None)

    async def gather(
        self,
        *,
        max_digits: int = 32,
        terminator: str = "#",
        timeout_s: float = 10.0,
        digit_timeout_s: float = 4.0,
    ) -> str:
        """Collect DTMF digits until `terminator` (not returned), `max_digits`, or silence.

        `timeout_s` is the wait for the first digit, `digit_timeout_s` that for each further one.
        """
        digits = ""
        while len(digits) < max_digits:
            try:
                async with asyncio.timeout(digit_timeout_s if digits else timeout_s):
                    digit = await self._digits.get()
            except TimeoutError:
                break
            if digit is None:
                self._digits.put_nowait(None)
                break
            if digit == terminator:
                break
            digits += digit
        return digits

    async def send_dtmf(self, digits: str) -> None:
        """Send DTMF digits (0-9 * # A-D) as RFC 4733 events."""
        wrong = sorted(set(digits.upper()) - DTMF_DIGITS)
        if wrong:
            raise ValueError(f"DTMF digits are 0-9 * # A-D, not {''.join(wrong)!r}")
        self._audio("send_dtmf")
        await self._dialog.send_dtmf(digits.upper())

    def tool_call(self, name: str, arguments: Mapping[str, Any], result: Any = None) -> None:
        """Note in the transcript that the agent used a tool."""
        self.record.transcript.append(
            {
                "speaker": "agent",
                "tool": name,
                "arguments": dict(arguments),
                "result": result,
                "at_ms": self.elapsed_ms(),
            }
        )

    def elapsed_ms(self) -> int:
        """Return the milliseconds since the answer (0 before it)."""
        return _elapsed_ms(self.record)

    async def drained(self) -> None:
        """Wait until what was queued has been sent."""
        if self._dialog.audio is not None:
            await self._dialog.audio.drained()

    def note(self, event: CallEvent) -> None:
        """Take a fact from the user agent into the record and let whoever waits for it know."""
        record = self.record
        match event:
            case Responded(at=at, status=status):
                self.statuses.append(status)
                if status in {SipStatus.RINGING, SipStatus.SESSION_PROGRESS} and record.ringing_at is None:
                    record.ringing_at = at
                    record.ringing_delay_ms = milliseconds_between(record.invite_received_at, at)
                elif 200 <= status < 300 and record.answered_at is None:
                    record.answered_at = at
                    record.answer_delay_ms = milliseconds_between(record.invite_received_at, at)
            case CallConfirmed(at=at):
                record.setup_ms = milliseconds_between(record.invite_received_at, at)
                self.log.info("call.confirmed", setup_ms=record.setup_ms)
            case MediaChanged():
                record.codec = event.codec or record.codec
                record.clock_rate_hz = event.clock_rate_hz or record.clock_rate_hz
                record.srtp = event.srtp or record.srtp
                self._on_hold = event.on_hold
                self.log.info("call.media_changed", codec=event.codec, srtp=event.srtp, on_hold=event.on_hold)
            case DtmfReceived():
                self._note_digit(event)
            case FirstAudioReceived(at=at):
                record.rx_first_audio_ms = milliseconds_between(record.answered_at or at, at)
            case CallDisconnected():
                self._digits.put_nowait(None)
                if not self.disconnected.done():
                    self.disconnected.set_result(event)

    def _note_digit(self, event: DtmfReceived) -> None:
        self.record.dtmf.append(
            {
                "digit": event.digit,
                "at_ms": milliseconds_between(self.record.answered_at, event.at) or 0,
                "method": event.method,
                "duration_ms": event.duration_ms,
            }
        )
        self._digits.put_nowait(event.digit)

    def _require_unanswered(self, operation: str) -> None:
        if self.ended:
            raise CallEnded(f"{operation}: the call is over")
        if self.answered:
            raise UserAgentError(operation, "the call is already answered")

    def _require_answered(self, operation: str) -> None:
        if self.ended:
            raise CallEnded(f"{operation}: the call is over")
        if not self.answered:
            raise UserAgentError(operation, "the call is not answered yet: await call.answer() first")

    def _audio(self, operation: str) -> CallAudio:
        audio = self._dialog.audio
        if audio is None:
            if self.ended:
                raise CallEnded(f"{operation}: the call is over")
            raise UserAgentError(operation, "no sound flows yet: await call.answer() or call.progress() first")
        return audio


def _elapsed_ms(record: CallRecord) -> int:
    return milliseconds_between(record.answered_at, datetime.now(UTC)) or 0


__all__ = ["Call", "CallEnded", "CallRejected", "ConversationHandler", "Dialog", "Offer", "Transcript"]
