"""`Call`, what a conversation handler holds, and `ConversationHandler`, what it has to be."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import structlog

from media.frames import FRAME_MS
from sip_agent.audio import BargeIn, CallAudio, FrameStream, Playback, utc_now
from sip_agent.dialog import Dialog, Offer
from sip_agent.digits import DTMF_DIGITS, Digits, DtmfMethod, InBandDtmf
from sip_agent.errors import CallEnded, CallRejected, SpeechError, UserAgentError
from sip_agent.events import (
    CallConfirmed,
    CallDisconnected,
    CallEvent,
    DtmfReceived,
    FirstAudioReceived,
    MediaChanged,
    Responded,
    TransferProgressed,
)
from sip_agent.extra_headers import checked
from sip_agent.headers import CorrelationIds
from sip_agent.hearing import (
    DigitHeard,
    Ear,
    HeardEvent,
    Hearing,
    SpeechEnded,
    SpeechStarted,
    Utterance,
)
from sip_agent.invite import Invite, SipUri
from sip_agent.record import CallRecord, milliseconds_between
from sip_agent.speaking import SpeechServices, Spoken, giving_way
from sip_agent.status import Direction, EndedBy, SipStatus
from sip_agent.transcript import Transcript

STALLS_MAX = 1000
"""Stalls that a record keeps: a call with more has said enough."""

DIGIT_S = 0.3
"""How long a digit takes as RFC 4733 event, with the pause after it."""

DIGITS_AT_ONCE = 16
"""Digits that are handed to the engine, which keeps 32 in line, in one go."""

_URI = re.compile(r"(?:sips?|tel):[!#-;=?-~]+", re.IGNORECASE)
"""A URI that can be called, in the characters that stand for themselves between angle brackets."""


class ConversationHandler(Protocol):
    """The agent's side of a conversation: one coroutine per call.

    It receives the call unanswered. Returning hangs up; raising `CallRejected` refuses a call that is not
    answered yet; any other exception fails this call and no other.
    """

    async def handle(self, call: "Call") -> None:
        """Hold one conversation."""


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
        hearing: Hearing | None = None,
        speech: SpeechServices | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.invite = invite
        self.ids = ids
        self.options = dict(options or {})
        self.record = record
        self.sample_rate_hz = sample_rate_hz
        self.transcript = Transcript(record, self.elapsed_ms)
        self.headers = invite.headers.extensions()
        self.log = structlog.get_logger().bind(call_uuid=record.call_uuid, run_id=ids.run_id)
        self.disconnected: asyncio.Future[CallDisconnected] = loop.create_future()
        self.statuses: list[int] = []
        self._dialog = dialog
        self._opened_audio: CallAudio | None = None
        self._digits = Digits()
        self._on_hold = False
        self._transferred: asyncio.Future[int] | None = None
        self._digits_end_s = 0.0
        self._hearing = hearing
        self._speech = speech
        self._clock = clock
        self._ear: Ear | None = None
        self._digit_ear: Ear | None = None

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
        """Send 180 Ringing; on a call that we placed, that is up to the peer."""
        await self._respond("ring", SipStatus.RINGING)

    async def progress(self) -> None:
        """Send 183 Session Progress with SDP: sound flows before the answer (early media).

        On a call that we placed, wait until the peer has answered.
        """
        await self._respond("progress", SipStatus.SESSION_PROGRESS, early_media=True)

    async def answer(self, headers: Sequence[tuple[str, str]] = ()) -> None:
        """Send 200 OK, with extra header fields if given; returns when sound can flow both ways.

        On a call that we placed, wait until the peer has answered; it may have before.
        """
        await self._respond("answer", SipStatus.OK, checked(headers))

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
        fields = checked(headers)
        if not self.ended:
            await self._dialog.terminate(EndedBy.AGENT, status, fields, reason)

    async def transfer(self, uri: str) -> None:
        """Ask the caller to call `uri` (sip, sips or tel) instead; the call goes on until one of the two hangs up.

        Returns when the caller has agreed to try; raises UserAgentError when it refuses, or does not answer. What it
        says of its call then stands in the record's `transfers`, and `transferred` waits for it.
        """
        if not _can_be_called(uri):
            raise ValueError(
                f"nobody can be called by {uri[:80]!r}: write sip:user@host, sips:user@host or tel:+number"
            )
        self._require_answered("transfer")
        self._transferred = asyncio.get_running_loop().create_future()
        self.record.transfers.append({"uri": uri, "at_ms": self.elapsed_ms(), "status": None, "reason": None})
        await self._dialog.refer(uri)

    async def transferred(self, timeout_s: float = 10.0) -> int | None:
        """Wait for the status with which the caller's call to whom it was transferred ended up: 200 got through.

        None if the caller does not say in time (NOTIFY, RFC 3515), or hangs up.
        """
        if self._transferred is None:
            raise UserAgentError("transferred", "the call was not transferred before")
        either: list[asyncio.Future[Any]] = [self._transferred, self.disconnected]
        await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        return self._transferred.result() if self._transferred.done() else None

    def frames(self) -> FrameStream:
        """Iterate over what the caller says, 20 ms at a time: int16, shape (samples,); ends with the call."""
        return self._audio("frames").frames()

    def send(self, samples: npt.NDArray[np.int16]) -> Coroutine[Any, Any, None]:
        """Queue sound to send; waits while half a second is queued, so a handler cannot run ahead."""
        audio = self._opened_audio  # found once: this is called for every frame
        if audio is None:
            audio = self._opened_audio = self._audio("send")
        return audio.send(samples)

    async def play(
        self,
        source: str | Path | npt.NDArray[np.int16],
        *,
        loop: bool = False,
        barge_in: BargeIn = BargeIn.IGNORE,
    ) -> Playback:
        """Play a sound file (any that soundfile reads, any rate) or samples; returns when it was sent.

        `barge_in` says what becomes of it when the caller speaks.
        """
        audio = self._audio("play")
        with giving_way(audio, self._listen_for(barge_in), barge_in):
            return await audio.play(source, loop=loop)

    async def say(self, text: str, *, voice: str | None = None, barge_in: BargeIn = BargeIn.STOP) -> Playback:
        """Say a text, sentence by sentence; returns when it was sent, or when the caller interrupted.

        What was really heard of it is in the result and in the transcript. Raises SpeechError when it cannot
        be synthesised, UserAgentError where nothing synthesises speech.
        """
        audio = self._audio("say")
        if self._speech is None:
            raise UserAgentError("say", "this call has no speech synthesis")
        spoken = Spoken(text, voice=voice)
        with giving_way(audio, self._listen_for(barge_in), barge_in):
            try:
                return await spoken.say(audio, self._speech, self.elapsed_ms)
            finally:
                if heard := spoken.heard(audio):
                    self.transcript.add("agent", heard, at_ms=spoken.began_ms)

    @property
    def sent_ms(self) -> int:
        """Milliseconds of queued sound that have really left so far, in steps of 20; silence does not count."""
        return 0 if self._dialog.audio is None else self._dialog.audio.sent_ms

    @property
    def queued_ms(self) -> int:
        """Milliseconds of sound that are queued and have not left yet."""
        return 0 if self._dialog.audio is None else self._dialog.audio.queued_ms

    async def until_sent(self, position_ms: int) -> None:
        """Wait until `sent_ms` has reached `position_ms`, or what is queued is dropped.

        Raises CallEnded when the call ends before.
        """
        await self._audio("until_sent").until_sent(position_ms)

    def note_stall(self, cause: str, started_ms: int, ended_ms: int) -> None:
        """Note a silence that was ours, from when to when after the answer, and why (like `slow_bot`)."""
        if not isinstance(cause, str):
            raise TypeError(f"the cause of a stall is a str, not {type(cause).__name__}")
        stall = {"cause": cause, "started_ms": int(started_ms), "ended_ms": int(ended_ms)}
        if len(self.record.stalls) < STALLS_MAX:
            self.record.stalls.append(stall)

    def stop_playback(self) -> int:
        """Fall silent from the next 20 ms on; returns the milliseconds of queued sound that were dropped."""
        return self._audio("stop_playback").stop()

    def speech(self) -> AsyncIterator[SpeechStarted | SpeechEnded]:
        """Iterate over the moments in which the caller starts and stops speaking, from now to the end of the call."""
        events = self._open_ear("speech").events()
        return (event async for event in events if isinstance(event, SpeechStarted | SpeechEnded))

    def utterances(self, recognize: bool = True) -> AsyncIterator[Utterance]:
        """Iterate over what the caller says, each utterance when it is over, from now to the end of the call.

        With `recognize`, `text` says what was said, and so does the transcript; it is None where no recognizer is
        set up (speech.recognizer), or where it failed.
        """
        events = self._open_ear("utterances").events()
        utterances = (event async for event in events if isinstance(event, Utterance))
        return self._recognized(utterances, self._speech) if recognize and self._speech is not None else utterances

    async def _recognized(
        self, utterances: AsyncIterator[Utterance], speech: SpeechServices
    ) -> AsyncIterator[Utterance]:
        async for utterance in utterances:
            try:
                text = await speech.recognize(utterance.samples, utterance.sample_rate_hz)
            except SpeechError as error:
                self.log.warning("call.not_recognized", error=str(error), at_ms=utterance.started_ms)
                text = None
            if text:
                self.transcript.add("caller", text, at_ms=utterance.started_ms)
            yield replace(utterance, text=text)

    async def dtmf(self) -> AsyncIterator[str]:
        """Iterate over the digits that the caller sends, each once, until the call ends."""
        while (digit := await self._digits.next()) is not None:
            yield digit

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
                    digit = await self._digits.next()
            except TimeoutError:
                break
            if digit is None or digit == terminator:
                break
            digits += digit
        return digits

    async def send_dtmf(self, digits: str, method: str = DtmfMethod.RFC4733) -> None:
        """Send DTMF digits (0-9 * # A-D) as RFC 4733 events, or with `info` by SIP INFO.

        Events are queued, as sound is: returns when no more than 32 are left to be sent, which `drained` waits for.
        """
        wrong = sorted(set(digits.upper()) - DTMF_DIGITS)
        if wrong:
            raise ValueError(f"DTMF digits are 0-9 * # A-D, not {''.join(wrong)!r}")
        if method not in {DtmfMethod.RFC4733, DtmfMethod.INFO}:
            raise ValueError(f"digits are sent by 'rfc4733' or 'info', not {method!r}")
        self._audio("send_dtmf")
        if method == DtmfMethod.INFO:
            await self._dialog.send_dtmf(digits.upper(), method)
            return
        for start in range(0, len(digits), DIGITS_AT_ONCE):
            await self._digits_sent(but=DIGITS_AT_ONCE)
            portion = digits[start : start + DIGITS_AT_ONCE].upper()
            await self._dialog.send_dtmf(portion, method)
            now_s = asyncio.get_running_loop().time()
            self._digits_end_s = max(now_s, self._digits_end_s) + DIGIT_S * len(portion)

    def tool_call(self, name: str, arguments: Mapping[str, Any], result: Any = None) -> None:
        """Note in the transcript that the agent used a tool."""
        self.transcript.add_tool(name, arguments, result)

    def elapsed_ms(self) -> int:
        """Return the milliseconds since the answer (0 before it)."""
        return self._offset_ms(self._clock())

    async def drained(self) -> None:
        """Wait until what was queued has been sent, sound and digits."""
        if self._dialog.audio is not None:
            await self._dialog.audio.drained()
        await self._digits_sent()

    def note(self, event: CallEvent) -> None:
        """Take a fact from the user agent into the record and let whoever waits for it know."""
        record = self.record
        match event:
            case Responded(at=at, status=status):
                self._note_response(at, status)
            case CallConfirmed(at=at):
                record.setup_ms = milliseconds_between(record.invite_received_at, at)
                self.log.info("call.confirmed", setup_ms=record.setup_ms)
            case MediaChanged():
                self._note_media(event)
            case DtmfReceived():
                self._note_digit(event)
            case TransferProgressed():
                self._note_transfer(event)
            case FirstAudioReceived(at=at):
                record.rx_first_audio_ms = milliseconds_between(record.answered_at or at, at)
            case CallDisconnected():
                self._digits.end()
                if not self.disconnected.done():
                    self.disconnected.set_result(event)

    def _note_response(self, at: datetime, status: int) -> None:
        record = self.record
        self.statuses.append(status)
        if status in {SipStatus.RINGING, SipStatus.SESSION_PROGRESS} and record.ringing_at is None:
            record.ringing_at = at
            record.ringing_delay_ms = milliseconds_between(record.invite_received_at, at)
        elif 200 <= status < 300 and record.answered_at is None:
            record.answered_at = at
            record.answer_delay_ms = milliseconds_between(record.invite_received_at, at)

    def _note_media(self, event: MediaChanged) -> None:
        record, audio = self.record, self._dialog.audio
        record.codec = event.codec or record.codec
        record.clock_rate_hz = event.clock_rate_hz or record.clock_rate_hz
        record.srtp = event.srtp or record.srtp
        self._on_hold = event.on_hold
        if audio is not None:
            audio.watch(self._note_gap)
            audio.hold(on=event.on_hold)
            self._listen_for_tones(audio, telephone_event=event.telephone_event)
        self.log.info("call.media_changed", codec=event.codec, srtp=event.srtp, on_hold=event.on_hold)

    def _note_digit(self, event: DtmfReceived) -> None:
        if not self._digits.note(event.digit, event.method, event.at, event.duration_ms):
            return
        self.record.dtmf.append(
            {
                "digit": event.digit,
                "at_ms": self._offset_ms(event.at),
                "method": event.method,
                "duration_ms": event.duration_ms,
            }
        )

    def _note_transfer(self, event: TransferProgressed) -> None:
        if self._transferred is None:
            return
        self.record.transfers[-1] |= {"status": event.status, "reason": event.reason}
        self.log.info("call.transfer", status=event.status, reason=event.reason, final=event.final)
        if event.final and not self._transferred.done():
            self._transferred.set_result(event.status)

    async def _digits_sent(self, *, but: int = 0) -> None:
        """Wait until the digits sent as events have left, or all `but` so many."""
        left_s = self._digits_end_s - asyncio.get_running_loop().time() - but * DIGIT_S
        if left_s > 0:
            await asyncio.wait([self.disconnected], timeout=left_s)

    def _note_gap(self, cause: str, gap_ms: int) -> None:
        ended_ms = max(0, self.elapsed_ms() - FRAME_MS)  # the frame after the gap was sent in this tick
        self.note_stall(cause, max(0, ended_ms - gap_ms), ended_ms)

    def _listen_for_tones(self, audio: CallAudio, *, telephone_event: bool) -> None:
        """Listen for digits in the sound, where the peer has no other way to send them or we are told to."""
        if self._hearing is None or self._digit_ear is not None:
            return
        wanted = self._hearing.in_band_dtmf
        if wanted is InBandDtmf.ALWAYS or (wanted is InBandDtmf.AUTO and not telephone_event):
            self._digit_ear = self._hearing.listen_for_digits(audio, self._offset_ms)
            self._digit_ear.subscribe(self._on_tone)

    def _on_tone(self, event: HeardEvent) -> None:
        if isinstance(event, DigitHeard):
            at = self._clock()
            self._note_digit(DtmfReceived(at=at, digit=event.digit, method=DtmfMethod.IN_BAND, duration_ms=None))

    def _listen_for(self, barge_in: BargeIn) -> Ear | None:
        return None if barge_in is BargeIn.IGNORE else self._open_ear("barge_in")

    def _open_ear(self, operation: str) -> Ear:
        """Listen for speech from the first time that somebody asks to the end of the call."""
        audio = self._audio(operation)
        if self._hearing is None:
            raise UserAgentError(operation, "nothing listens to this call")
        if self._ear is None:
            self._ear = self._hearing.listen_for_speech(audio, self._offset_ms)
        return self._ear

    def _offset_ms(self, at: datetime) -> int:
        return milliseconds_between(self.record.answered_at, at) or 0

    async def _respond(
        self, operation: str, status: int, headers: Sequence[tuple[str, str]] = (), *, early_media: bool = False
    ) -> None:
        if self.ended:
            raise CallEnded(f"{operation}: the call is over")
        if self.record.direction is Direction.OUTBOUND:
            if status != SipStatus.RINGING:
                await self._dialog.respond(SipStatus.OK)
            return
        if self.answered:
            raise UserAgentError(operation, "the call is already answered")
        await self._dialog.respond(status, headers, early_media=early_media)

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


def _can_be_called(uri: str) -> bool:
    """Tell whether a text is one URI, and says who is to be called."""
    if not _URI.fullmatch(uri):
        return False
    target = SipUri.parse(uri)
    return bool(target.user if target.scheme == "tel" else target.host)


__all__ = [
    "BargeIn",
    "Call",
    "CallEnded",
    "CallRejected",
    "ConversationHandler",
    "Dialog",
    "DtmfMethod",
    "Offer",
    "Playback",
    "SpeechEnded",
    "SpeechStarted",
    "Transcript",
    "Utterance",
]
