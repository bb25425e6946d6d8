"""One SIP call as pjsua2 has it, behind the `Dialog` that a `Call` holds.

pjsua2 objects live and die on the SIP thread. `Dialog` is the side that the event loop sees; `pj_call.py`
has the pjsua2 object, dropped at once when the call is disconnected: a late destructor would hang up the next
call that gets the same pjsua2 id.
"""

import asyncio
import functools
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog

from sip_agent.audio import CallAudio
from sip_agent.digits import DTMF_DIGITS, DtmfMethod, read_info
from sip_agent.errors import CallEnded, UserAgentError
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
from sip_agent.headers import split_message
from sip_agent.line import LineFaults
from sip_agent.status import EndedBy, SipStatus
from sip_agent.ua import engine
from sip_agent.ua.frame_port import FramePort
from sip_agent.ua.line import Line
from sip_agent.ua.pj_call import Headers, call_options
from sip_agent.ua.statistics import RtpTotals

if TYPE_CHECKING:
    from sip_agent.ua.endpoint import Endpoint

log = structlog.get_logger()
DTMF_IS_UPDATE, DTMF_IS_END = 1, 2
"""Flags of pjsua2's DTMF events (pjmedia/stream.h), which have no name in Python."""

ACK_TIMEOUT_S = 32.0
"""64*T1, after which the stack repeats the 200 no more and sends BYE."""

INFO_DURATION_MS = 160
INFO_INTERVAL_S = 0.25
"""A digit of 160 ms by INFO, and a pause: requests sent together may arrive in any order."""

REFER_TIMEOUT_S = 10.0
"""A REFER is answered at once (RFC 3515 §2.4.2): it asks nobody but the machine."""


class Dialog:
    """The signalling and the sound of one call; coroutines are for the event loop, `on_…` for the SIP thread."""

    def __init__(self, endpoint: "Endpoint", *, outbound: bool) -> None:
        self.outbound = outbound
        self.call_id = ""
        self.audio: CallAudio | None = None
        self._endpoint = endpoint
        self._pj_call: Any = None
        self._listener: Callable[[CallEvent], None] | None = None
        self._on_audio: Callable[[CallAudio], None] | None = None
        self._early_events: list[CallEvent] = []
        self._media_ready: asyncio.Future[None] = endpoint.loop.create_future()
        self._confirmed_here: asyncio.Future[None] = endpoint.loop.create_future()
        self.disconnected: asyncio.Future[None] = endpoint.loop.create_future()
        self._port: FramePort | None = None
        self._line: Line | None = None
        self._pressed = ""
        self._transfer_status: asyncio.Future[tuple[int, str]] | None = None
        self._reply_delay_ms = 0
        self._rtp = RtpTotals()
        self._codec: str | None = None
        self._on_hold = False
        self._confirmed = False
        self._final_status = False
        self._invites_sent = 0
        self._ending: EndedBy | None = None
        self._end_reason = ""
        self._end_reported = False
        self._unacknowledged_at = 0.0
        self._rx_packets = 0
        self._rx_seen_at = 0.0
        self._first_audio_seen = False

    # The event loop's side

    def listen(
        self, listener: Callable[[CallEvent], None], on_audio: Callable[[CallAudio], None] | None = None
    ) -> None:
        """Have `listener` called on the event loop with each event, also with those that came before.

        `on_audio` is called once, when the sound of the call opens, before any of it is taken; at once if it is open:
        who is called may answer before the event loop comes to listening.
        """
        self._listener, self._on_audio = listener, on_audio
        if on_audio is not None and self.audio is not None:
            on_audio(self.audio)
        for event in self._early_events:
            listener(event)
        self._early_events.clear()

    async def respond(self, status: int, headers: Headers = (), *, early_media: bool = False) -> None:
        """Send a response to the INVITE; after a 200, or with early media, waits until sound can flow.

        On a call that we placed, a 200 stands for waiting until the peer answers.
        """
        if not self.outbound:
            await self._run("answer", functools.partial(self._answer, status, headers))
        elif status == SipStatus.OK:
            await self._wait_for(self._confirmed_here)
        if early_media or status == SipStatus.OK:
            await self._wait_for(self._media_ready)

    async def terminate(
        self, ended_by: EndedBy, status: int | None = None, headers: Headers = (), reason: str = ""
    ) -> None:
        """End the call by BYE, a final response or CANCEL, whichever its state asks for, and wait for it."""
        if self.disconnected.done():
            return
        await self._run("hangup", functools.partial(self._hangup, ended_by, status, headers, reason))
        await asyncio.wait([self.disconnected], timeout=self._endpoint.bye_timeout_s)

    async def vanish(self, reason: str) -> None:
        """End the call without a word: neither RTP nor any SIP message of it leaves or is taken any more."""
        await self._run("vanish", functools.partial(self._vanish, reason))
        await asyncio.wait([self.disconnected], timeout=self._endpoint.bye_timeout_s)

    async def refer(self, uri: str) -> None:
        """Send REFER (RFC 3515) and wait until the peer takes it; raises UserAgentError if it does not."""
        self._transfer_status = taken = self._endpoint.loop.create_future()
        await self._run("transfer", lambda: self._require().xfer(f"<{uri}>", call_options()))
        await asyncio.wait([taken, self.disconnected], timeout=REFER_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if taken.done():
            status, reason = taken.result()
            if status >= 300:
                raise UserAgentError("transfer", f"the REFER was refused: {status} {reason}")
        elif self.disconnected.done():
            raise CallEnded("transfer: the call was over before the REFER was answered")
        else:
            raise UserAgentError("transfer", f"the REFER was not answered within {REFER_TIMEOUT_S:g} s")

    async def send_dtmf(self, digits: str, method: str = DtmfMethod.RFC4733) -> None:
        """Send digits as RFC 4733 events, or each in a SIP INFO, as far apart as a person's."""
        if method == DtmfMethod.RFC4733:
            await self._run("send_dtmf", lambda: self._require().dialDtmf(digits))
            return
        for number, digit in enumerate(digits):
            if number:
                await asyncio.sleep(INFO_INTERVAL_S)
            await self._run("send_dtmf", functools.partial(self._send_info, digit))

    async def _wait_for(self, event: asyncio.Future[None]) -> None:
        await asyncio.wait([event, self.disconnected], return_when=asyncio.FIRST_COMPLETED)
        if self.disconnected.done():
            raise CallEnded("the peer was gone before sound could flow")

    async def _run(self, operation: str, function: Callable[[], Any]) -> None:
        if self.disconnected.done():
            raise CallEnded(f"{operation}: the call is over")
        await self._endpoint.sip_thread.run(operation, function)

    # The SIP thread's side

    def adopt(self, pj_call: Any) -> None:
        """Take the pjsua2 call that this dialog stands for."""
        self._pj_call = pj_call

    def spoil(self, faults: LineFaults, line: Line | None) -> None:
        """Have the faults that a route asks for; before media is negotiated."""
        self._reply_delay_ms, self._line = faults.reply_delay_ms, line

    def on_media_transport(self, prm: Any) -> None:
        """Spoil the packets of a new media transport, if that is asked for (pjsua2 `onCreateMediaTransport`)."""
        if self._line is not None:
            self._line.attach(prm)

    def end_by_system(self, reason: str) -> None:
        """Hang up because of a time-out or shut-down."""
        if self._pj_call is not None:
            self._hangup(EndedBy.SYSTEM, None, (), reason)

    def check(self, now: float, rtp_timeout_s: float) -> None:
        """Note the first RTP packet; end a call whose peer fell silent, unless it holds the call.

        A call whose 200 nobody acknowledged is over for us as soon as the stack gives up on it (64*T1, RFC 3261
        §13.3.1.4): that its BYE will not be answered either need not be waited for.
        """
        if self._pj_call is None:
            return
        if self._final_status and not self._confirmed and not self.outbound:
            self._unacknowledged_at = self._unacknowledged_at or now
            if now - self._unacknowledged_at > ACK_TIMEOUT_S:
                self._report_end(EndedBy.SYSTEM, SipStatus.OK, "the 200 was not acknowledged", None)
        elif self._port is not None:
            self._check_rtp(now, rtp_timeout_s)

    def _check_rtp(self, now: float, timeout_s: float) -> None:
        packets = self._received_packets()
        if packets != self._rx_packets or self._on_hold or not self._rx_seen_at:
            self._rx_packets, self._rx_seen_at = packets, now
        elif timeout_s and self._confirmed and now - self._rx_seen_at > timeout_s:
            self.end_by_system(f"no RTP for {timeout_s:g} s")

    def on_state(self, prm: Any) -> None:
        """Follow the INVITE session (pjsua2 `onCallState`)."""
        pj = engine.load()
        info = self._pj_call.getInfo()
        self.call_id = info.callIdString
        if info.state == pj.PJSIP_INV_STATE_CONFIRMED:
            self._confirmed = True
            if self.outbound and not self._final_status:
                # pjsua tells of the response itself only later, and who waits for the answer goes on from here.
                self._note_status(info.lastStatusCode)
            self._emit(CallConfirmed(at=datetime.now(UTC)))
        elif info.state == pj.PJSIP_INV_STATE_DISCONNECTED:
            self._on_disconnected(info, prm)

    def on_transaction(self, prm: Any) -> None:
        """Note each response to the INVITE that opens the dialog, and digits by INFO (pjsua2 `onCallTsxState`)."""
        pj = engine.load()
        state = prm.e.body.tsxState
        if state.tsx.method == "INFO" and state.tsx.state == pj.PJSIP_TSX_STATE_TRYING:
            self._note_info(state.src.rdata.wholeMsg)
        if self._final_status or state.tsx.method != "INVITE":
            return
        if self.outbound and state.type == pj.PJSIP_EVENT_TX_MSG:
            self._note_retry(state.src.tdata.wholeMsg)
        elif state.type == (pj.PJSIP_EVENT_RX_MSG if self.outbound else pj.PJSIP_EVENT_TX_MSG):
            self._note_status(state.tsx.statusCode)

    def _note_retry(self, message: str) -> None:
        """Note the challenge behind a repeated INVITE: pjsua keeps a 401 that it answers by itself to itself."""
        self._invites_sent += 1
        if self._invites_sent > 1:
            proxy = "\nproxy-authorization:" in message.lower()
            self._emit(Responded(at=datetime.now(UTC), status=407 if proxy else 401))

    def _note_status(self, status: int) -> None:
        if status:
            self._final_status = status >= 200
            self._emit(Responded(at=datetime.now(UTC), status=status))

    def on_media_state(self) -> None:
        """Connect the call's stream with its port, and say what was agreed (pjsua2 `onCallMediaState`)."""
        pj = engine.load()
        info = self._pj_call.getInfo()  # held: SWIG's parts do not keep the whole alive
        for media in info.media:
            if media.type != pj.PJMEDIA_TYPE_AUDIO or media.status == pj.PJSUA_CALL_MEDIA_NONE:
                continue
            if media.status == pj.PJSUA_CALL_MEDIA_ERROR:
                self.end_by_system("the media could not be started")
                return
            self._on_hold = media.status == pj.PJSUA_CALL_MEDIA_REMOTE_HOLD
            stream = self._pj_call.getStreamInfo(media.index)
            self._codec = stream.codecName
            if self._port is None:
                cushion_ms = self._endpoint.cushion_ms + self._reply_delay_ms
                self._port = self._endpoint.frame_ports.open(cushion_ms)
                self._endpoint.sip_thread.deliver(self._open_audio, self._port)
            self._port.connect(self._pj_call, media.index, mixed=self._line is not None and self._line.is_noisy)
            if self._line is not None:
                sound = self._pj_call.getAudioMedia(media.index)
                self._line.connect(sound, min(1.0, stream.codecClockRate / self._endpoint.sample_rate_hz))
            self._emit(
                MediaChanged(
                    at=datetime.now(UTC),
                    codec=stream.codecName,
                    clock_rate_hz=stream.codecClockRate,
                    srtp=self._crypto_suite(),
                    on_hold=self._on_hold,
                    telephone_event=stream.audTxEventPt >= 0,
                )
            )
            return

    def on_dtmf(self, prm: Any) -> None:
        """Pass on the beginning and the end of an RFC 4733 event (pjsua2 `onDtmfEvent`).

        An end that comes again is passed over. Digits by INFO are read here, in more forms.
        """
        if prm.method != engine.load().PJSUA_DTMF_METHOD_RFC2833:
            return
        if not prm.flags & DTMF_IS_UPDATE:
            self._pressed = prm.digit.upper()
            self._emit_digit(self._pressed, DtmfMethod.RFC4733, None)
        if prm.flags & DTMF_IS_END and self._pressed:
            self._emit_digit(self._pressed, DtmfMethod.RFC4733, prm.duration)
            self._pressed = ""

    def _note_info(self, message: str) -> None:
        _, headers, body = split_message(message.encode("utf-8", "surrogateescape"))
        found = read_info(headers.get("Content-Type") or "", body.decode("utf-8", "replace"))
        if found is not None:
            self._emit_digit(found[0], DtmfMethod.INFO, found[1])

    def _emit_digit(self, digit: str, method: DtmfMethod, duration_ms: int | None) -> None:
        if digit in DTMF_DIGITS:
            self._emit(DtmfReceived(at=datetime.now(UTC), digit=digit, method=method, duration_ms=duration_ms))

    def _send_info(self, digit: str) -> None:
        pj = engine.load()
        prm = pj.CallSendDtmfParam()
        prm.method, prm.digits, prm.duration = pj.PJSUA_DTMF_METHOD_SIP_INFO, digit, INFO_DURATION_MS
        self._require().sendDtmf(prm)

    def on_transfer_status(self, prm: Any) -> None:
        """Pass on what became of a REFER (pjsua2 `onCallTransferStatus`): 100 when it is taken, or why it is not."""
        self._emit(
            TransferProgressed(at=datetime.now(UTC), status=prm.statusCode, reason=prm.reason, final=prm.finalNotify)
        )
        self._endpoint.sip_thread.deliver(self._take_transfer_status, prm.statusCode, prm.reason)

    def on_stream_destroyed(self, index: int) -> None:
        """Keep the figures of a stream that ends (pjsua2 `onStreamDestroyed`)."""
        self._rtp.add(self._pj_call.getStreamStat(index))

    def _answer(self, status: int, headers: Headers) -> None:
        prm = call_options(headers)
        prm.statusCode = status
        self._require().answer(prm)

    def _hangup(self, ended_by: EndedBy, status: int | None, headers: Headers, reason: str) -> None:
        if self._ending is None:
            self._ending, self._end_reason = ended_by, reason
        prm = call_options(headers)
        prm.statusCode = status or SipStatus.DECLINE
        self._require().hangup(prm)

    def _vanish(self, reason: str) -> None:
        if self._line is None:
            raise UserAgentError("vanish", "this call has no line that can be cut")
        self._line.vanish(self.call_id)
        try:
            self._hangup(EndedBy.AGENT, None, (), reason)
        except engine.load().Error:
            log.debug("dialog.vanished")

    def _require(self) -> Any:
        if self._pj_call is None:
            raise CallEnded("the call is over")
        return self._pj_call

    def _received_packets(self) -> int:
        try:
            statistics = self._pj_call.getStreamStat(0)
            packets = int(statistics.rtcp.rxStat.pkt)
        except engine.load().Error:
            return 0
        if packets and not self._first_audio_seen:
            self._first_audio_seen = True
            self._emit(FirstAudioReceived(at=datetime.now(UTC)))
        return packets

    def _crypto_suite(self) -> str | None:
        """Return the SRTP crypto suite (RFC 4568 §6.2) in use; only pjsua2's dump of the call tells."""
        if not self._endpoint.takes_srtp:
            return None
        found = _CRYPTO_SUITE.search(self._pj_call.dump(True, ""))
        return found[1] if found else None

    def _on_disconnected(self, info: Any, prm: Any) -> None:
        self._endpoint.forget(self)
        remote_bye, cause = _reason_of(prm)
        ended_by = self._ending
        if ended_by is None:
            cancelled = not self._confirmed and info.lastStatusCode == SipStatus.REQUEST_TERMINATED
            ended_by = EndedBy.CALLER if remote_bye or cancelled or self.outbound else EndedBy.SYSTEM
        if self._port is not None:
            self._port.close()
            self._port = None
        if self._line is not None:
            self._line.close()
        self._pj_call.release()
        self._pj_call = None
        self._report_end(ended_by, info.lastStatusCode, self._end_reason or info.lastReason, cause)

    def _report_end(self, ended_by: EndedBy, status: int, reason: str, cause: int | None) -> None:
        if self._end_reported:
            return
        self._end_reported = True
        event = CallDisconnected(
            at=datetime.now(UTC),
            ended_by=ended_by,
            sip_status=status,
            reason=reason,
            q850_cause=cause,
            rtp=self._rtp.record(self._codec),
        )
        self._endpoint.sip_thread.deliver(self._close, event)

    def _emit(self, event: CallEvent) -> None:
        self._endpoint.sip_thread.deliver(self._take, event)

    # Back on the event loop

    def _open_audio(self, port: FramePort) -> None:
        if self.disconnected.done():
            return
        self.audio = CallAudio(port)
        if self._on_audio is not None:
            self._on_audio(self.audio)
        self._endpoint.pump.add(self.audio)
        if not self._media_ready.done():
            self._media_ready.set_result(None)

    def _close(self, event: CallDisconnected) -> None:
        if self.audio is not None:
            self._endpoint.pump.remove(self.audio)
            self.audio.close()
        if not self.disconnected.done():
            self.disconnected.set_result(None)
        self._take(event)
        # The call and its dialog hold each other; untied, they go at once, and not when the collector comes by.
        self._listener, self._on_audio = None, None

    def _take_transfer_status(self, status: int, reason: str) -> None:
        # The progress of the transfer (NOTIFY) comes this way too.
        if self._transfer_status is not None and not self._transfer_status.done():
            self._transfer_status.set_result((status, reason))

    def _take(self, event: CallEvent) -> None:
        if isinstance(event, CallConfirmed) and not self._confirmed_here.done():
            self._confirmed_here.set_result(None)
        if self._listener is None:
            self._early_events.append(event)
        else:
            self._listener(event)


def _reason_of(prm: Any) -> tuple[bool, int | None]:
    """Return whether a BYE of the peer ended the call, and the Q.850 cause of its Reason header (RFC 3326)."""
    pj = engine.load()
    if prm.e.type != pj.PJSIP_EVENT_TSX_STATE or prm.e.body.tsxState.type != pj.PJSIP_EVENT_RX_MSG:
        return False, None
    message = prm.e.body.tsxState.src.rdata.wholeMsg.encode("utf-8", "surrogateescape")
    start_line, headers, _ = split_message(message)
    return start_line.startswith("BYE "), q850_cause(headers.all("Reason"))


_CRYPTO_SUITE = re.compile(r"SRTP status: Active Crypto-suite: (\w+)")
_Q850 = re.compile(r"^\s*Q\.850\s*;(?:.*;)?\s*cause\s*=\s*(\d+)", re.IGNORECASE)


def q850_cause(reasons: Iterable[str]) -> int | None:
    """Return the ISDN cause of a `Reason: Q.850;cause=16` header, if there is one."""
    for reason in reasons:
        for part in reason.split(","):
            if found := _Q850.match(part):
                return int(found[1])
    return None
