"""Calls by WebSocket: Cekura's CHIRP, in which it dials us. A call like any other from here on.

Source: docs.cekura.ai/documentation/integrations/websocket-chirp. 16-bit sound at 16 kHz as binary messages, `X-`
headers on the upgrade, a few JSON events. There is no ringing: the upgrade is accepted with the answer.
"""

import asyncio
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import numpy as np
import structlog

from media.frames import Samples
from media.levels import SILENCE_DBOV, level_dbov
from media.live_resample import LiveResampler
from sip_agent.audio import CallAudio
from sip_agent.errors import CallEnded, UserAgentError
from sip_agent.events import CallConfirmed, CallDisconnected, CallEvent, MediaChanged, Responded
from sip_agent.frame_rings import FrameRings
from sip_agent.handlers.websocket.dialect import UnreadableMessage
from sip_agent.handlers.websocket.pcm import SAMPLE_RATE_HZ, checked_sound, read_chirp_event, session_error
from sip_agent.invite import WEBSOCKET, bracketed
from sip_agent.line import LineFaults
from sip_agent.status import EndedBy, SipStatus
from sip_agent.ua.pump import Pump

log = structlog.get_logger()

CODEC = "pcm_s16le"

BACKLOG_FRAMES_MAX = 500
"""Sound of a caller that sends faster than real time: 10 s; then the oldest goes."""

BACKLOG_FRAMES_AIM = 4
"""With more than 80 ms waiting, silent frames are left out: so a clock faster than ours adds no delay."""

START_FRAMES = 2
"""After a gap, 40 ms come together before they are played: what arrives unevenly is heard evenly."""

UNSENT_FRAMES_MAX = 50
"""A second of sound for a caller that does not read; then the oldest goes."""

UNREADABLE_MAX = 50
"""A caller that sent so many messages which CHIRP does not have is sent away (1008)."""

NORMAL, POLICY_VIOLATION, INTERNAL_ERROR = 1000, 1008, 1011
GOODBYES = (NORMAL, 1001, 1005)
"""Close codes of a caller that hangs up: normal, going away, and a close frame without a code."""

CLOSE_TIMEOUT_S = 2.0


class Socket(Protocol):
    """The WebSocket of a call, once it is open."""

    async def send_bytes(self, data: bytes) -> None:
        """Send a binary message."""

    async def send_str(self, data: str) -> None:
        """Send a text message."""

    async def close(self, *, code: int, message: bytes) -> bool:
        """Close in order, with a code and a reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the HTTP side is to do with the request: 101, or refuse it with a status."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChirpRequest:
    """A request to upgrade: who asks, whom for, and the header fields as received."""

    source_host: str
    source_port: int
    local_address: str
    user: str
    headers: Sequence[tuple[bytes, bytes]]

    def as_invite(self) -> bytes:
        """Return the request as the INVITE that it stands for (Via WS: RFC 7118 §5.1)."""
        source = f"{bracketed(self.source_host)}:{self.source_port}"
        target = f"sip:{self.user}@{self.local_address}"
        call_id = uuid.uuid4()
        lines = [
            f"INVITE {target} SIP/2.0",
            f"Via: SIP/2.0/WS {source};branch=z9hG4bK{call_id.hex}",
            f"From: <sip:chirp@{source}>;tag={call_id.hex[:12]}",
            f"To: <{target}>",
            f"Call-ID: {call_id}",
            "CSeq: 1 INVITE",
        ]
        kept = [name + b": " + value for name, value in self.headers if _is_kept(name)]
        return b"\r\n".join([*(line.encode() for line in lines), *kept, b"", b""])


def _is_kept(name: bytes) -> bool:
    lower = name.lower()
    return lower.startswith(b"x-") or lower in {b"authorization", b"user-agent"}


class ChirpPort(FrameRings):
    """The sound of one call: what arrives unevenly is taken evenly, 20 ms in every tick."""

    def __init__(self, sample_rate_hz: int, cushion_ms: int) -> None:
        super().__init__(sample_rate_hz, cushion_ms)
        self._incoming = LiveResampler(SAMPLE_RATE_HZ, sample_rate_hz)
        self._outgoing = LiveResampler(sample_rate_hz, SAMPLE_RATE_HZ)
        self._backlog: deque[bytes] = deque(maxlen=BACKLOG_FRAMES_MAX)
        self._rest = b""
        self._waiting_ticks = 0
        self._playing = False

    def receive(self, message: bytes) -> None:
        """Take the sound of a message, of any length."""
        samples = self._incoming.process(_samples(message))
        sound = self._rest + samples.tobytes()
        whole = len(sound) - len(sound) % self._frame_bytes
        self._backlog.extend(sound[start : start + self._frame_bytes] for start in range(0, whole, self._frame_bytes))
        self._rest = sound[whole:]

    def tick(self) -> bytes:
        """Let 20 ms pass; returns what to send."""
        frame = self.exchange(self._take())
        return self._outgoing.process(_samples(frame)).tobytes()

    def _take(self) -> bytes:
        if not self._playing:
            self._waiting_ticks += bool(self._backlog)
            self._playing = len(self._backlog) >= START_FRAMES or self._waiting_ticks > START_FRAMES
        while len(self._backlog) > BACKLOG_FRAMES_AIM and level_dbov(_samples(self._backlog[0])) < SILENCE_DBOV:
            self._backlog.popleft()
        if self._playing and self._backlog:
            return self._backlog.popleft()
        if self._playing:
            self._playing, self._waiting_ticks = False, 0
        return self._silence


class ChirpAudio(CallAudio):
    """The sound of one call; each tick of ours is also one of its port's."""

    def __init__(self, port: ChirpPort, send: Callable[[bytes], None]) -> None:
        super().__init__(port)
        self._chirp_port = port
        self._transmit = send

    def tick(self) -> None:
        """See `CallAudio`."""
        self._transmit(self._chirp_port.tick())
        super().tick()


class ChirpDialog:
    """One call as its handler's `Dialog`, and as what the HTTP side serves: `decision`, `open`, `take`, `closed`."""

    def __init__(self, endpoint: "ChirpEndpoint") -> None:
        self.audio: CallAudio | None = None
        self.decision: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        self._endpoint = endpoint
        self._port = ChirpPort(endpoint.sample_rate_hz, endpoint.cushion_ms)
        self._socket: Socket | None = None
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._over = asyncio.Event()
        self._listener: Callable[[CallEvent], None] | None = None
        self._on_audio: Callable[[CallAudio], None] | None = None
        self._ending: tuple[EndedBy, str] | None = None
        self._outbox: deque[bytes] = deque(maxlen=UNSENT_FRAMES_MAX)
        self._unsent = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None
        self._closing: asyncio.Event | None = None
        self._unreadable = 0

    # The handler's side

    def listen(
        self, listener: Callable[[CallEvent], None], on_audio: Callable[[CallAudio], None] | None = None
    ) -> None:
        """See `Dialog`."""
        self._listener, self._on_audio = listener, on_audio

    async def respond(self, status: int, headers: Sequence[tuple[str, str]] = (), *, early_media: bool = False) -> None:
        """See `Dialog`: 180 goes nowhere, and early media opens the socket as the answer does."""
        if self._over.is_set():
            raise CallEnded("answer: the call is over")
        answers = 200 <= status < 300
        if (early_media or answers) and self._socket is None:
            self.decision.set_result(Decision(status=101, headers=tuple(headers)))
            await self._opened
            if self._over.is_set():
                raise CallEnded("answer: the caller was gone before")
        self._emit(Responded(at=datetime.now(UTC), status=status))
        if answers:
            self._emit(CallConfirmed(at=datetime.now(UTC)))

    async def terminate(
        self, ended_by: EndedBy, status: int | None = None, headers: Sequence[tuple[str, str]] = (), reason: str = ""
    ) -> None:
        """See `Dialog`: refuse the upgrade, or close the socket (1011 if it was a failure of ours)."""
        if self._over.is_set():
            return
        self._ending = self._ending or (ended_by, reason)
        if self._socket is None:
            refusal = status or SipStatus.DECLINE
            if not self.decision.done():
                self.decision.set_result(Decision(status=refusal, headers=tuple(headers)))
            self._emit(Responded(at=datetime.now(UTC), status=refusal))
            self._end(refusal)
            return
        code = INTERNAL_ERROR if ended_by is EndedBy.SYSTEM and status else NORMAL
        await self._close_socket(code, reason)

    async def vanish(self, reason: str) -> None:
        """See `Dialog`; a WebSocket cannot be left open by who is not there, so this closes it."""
        await self.terminate(EndedBy.AGENT, reason=reason)

    async def refer(self, uri: str) -> None:  # noqa: ARG002
        """See `Dialog`."""
        raise UserAgentError("transfer", "a call by WebSocket cannot be transferred")

    async def send_dtmf(self, digits: str, method: str = "") -> None:  # noqa: ARG002
        """See `Dialog`."""
        raise UserAgentError("send_dtmf", "a call by WebSocket has no digits")

    # The HTTP side

    def open(self, socket: Socket) -> None:
        """Let sound flow: the upgrade was accepted."""
        self._socket = socket
        self.audio = ChirpAudio(self._port, self._transmit)
        self._sender = asyncio.create_task(self._send(socket), name="chirp sender")
        if self._on_audio is not None:
            self._on_audio(self.audio)
        self._emit(
            MediaChanged(
                at=datetime.now(UTC),
                codec=CODEC,
                clock_rate_hz=SAMPLE_RATE_HZ,
                srtp=None,
                on_hold=False,
                telephone_event=False,
            )
        )
        self._endpoint.begin(self, self.audio)
        self._opened.set_result(None)

    async def take(self, message: str | bytes) -> None:
        """Take what the caller sent."""
        try:
            if isinstance(message, bytes):
                self._port.receive(checked_sound(message))
            else:
                read_chirp_event(message)
        except UnreadableMessage as error:
            await self._drop(error)

    async def until_closed(self) -> None:
        """Wait for the end of the closing that we began, if we did: the connection has to last so long."""
        if self._closing is not None:
            await self._closing.wait()

    def closed(self, code: int | None) -> None:
        """Take note that the connection is over; None says that it never opened."""
        if self._ending is None:
            if code in GOODBYES or code is None:
                self._ending = EndedBy.CALLER, "the caller closed the WebSocket"
            else:
                self._ending = EndedBy.SYSTEM, f"the WebSocket broke off (close code {code})"
        self._end(SipStatus.REQUEST_TERMINATED if code is None else SipStatus.OK)

    # Within

    def _transmit(self, sound: bytes) -> None:
        if sound:
            self._outbox.append(sound)
            self._unsent.set()

    async def _send(self, socket: Socket) -> None:
        while True:
            await self._unsent.wait()
            self._unsent.clear()
            try:
                while self._outbox:
                    await socket.send_bytes(self._outbox.popleft())
            except (ConnectionError, RuntimeError):  # it is closing; whoever reads it says why
                return

    async def _drop(self, error: UnreadableMessage) -> None:
        self._unreadable += 1
        if self._unreadable == 1:
            log.warning("chirp.message_dropped", error=str(error), hint="further ones of this call are only counted")
        if self._unreadable >= UNREADABLE_MAX:
            self._ending = EndedBy.SYSTEM, f"the caller sent {UNREADABLE_MAX} messages that are not CHIRP"
            await self._close_socket(POLICY_VIOLATION, "too many messages that are not CHIRP")
        elif self._socket is not None:
            await self._socket.send_str(session_error(error))

    async def _close_socket(self, code: int, reason: str) -> None:
        if self._socket is None or self._closing is not None:
            return
        self._closing = asyncio.Event()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._socket.close(code=code, message=reason.encode()[:120])
        except (TimeoutError, ConnectionError):
            log.debug("chirp.close_failed")
        finally:
            self._closing.set()
        self._end(SipStatus.OK)

    def _end(self, status: int) -> None:
        if self._over.is_set():
            return
        self._over.set()
        if not self._opened.done():
            self._opened.set_result(None)
        if self._sender is not None:
            self._sender.cancel()
        if self.audio is not None:
            self._endpoint.end(self, self.audio)
            self.audio.close()
        ended_by, reason = self._ending or (EndedBy.SYSTEM, "")
        self._emit(
            CallDisconnected(
                at=datetime.now(UTC), ended_by=ended_by, sip_status=status, reason=reason, q850_cause=None, rtp=None
            )
        )
        self._listener = self._on_audio = None

    def _emit(self, event: CallEvent) -> None:
        if self._listener is not None:
            self._listener(event)


@dataclass(slots=True, kw_only=True)
class ChirpOffer:
    """A request to upgrade as the call flow's `Offer`."""

    dialog: ChirpDialog
    message: bytes
    source_host: str
    source_port: int
    received_at: datetime
    transport: str = WEBSOCKET

    async def reject(
        self,
        status: int,
        headers: Sequence[tuple[str, str]] = (),
        *,
        stateful: bool = True,  # noqa: ARG002
    ) -> None:
        """See `Offer`."""
        if not self.dialog.decision.done():
            self.dialog.decision.set_result(Decision(status=status, headers=tuple(headers)))

    async def accept(self, _faults: LineFaults | None = None, /) -> ChirpDialog:
        """See `Offer`."""
        return self.dialog


class ChirpEndpoint:
    """Takes calls by WebSocket for a call flow, and has their clock.

    `protected` says whether callers are told apart at all (passwords or an allow list).
    """

    def __init__(
        self, on_offer: Callable[[ChirpOffer], None], *, sample_rate_hz: int, cushion_ms: int, protected: bool
    ) -> None:
        self.sample_rate_hz = sample_rate_hz
        self.cushion_ms = cushion_ms
        self.protected = protected
        self._on_offer = on_offer
        self._pump = Pump(asyncio.get_running_loop())
        self._dialogs: set[ChirpDialog] = set()

    def offer(self, request: ChirpRequest) -> ChirpDialog:
        """Hand a request to the call flow; the dialog's `decision` says what becomes of it."""
        dialog = ChirpDialog(self)
        self._on_offer(
            ChirpOffer(
                dialog=dialog,
                message=request.as_invite(),
                source_host=request.source_host,
                source_port=request.source_port,
                received_at=datetime.now(UTC),
            )
        )
        return dialog

    async def hang_up_all(self, reason: str) -> None:
        """End every call."""
        await asyncio.gather(*(dialog.terminate(EndedBy.SYSTEM, None, (), reason) for dialog in self._dialogs))

    def begin(self, dialog: ChirpDialog, audio: CallAudio) -> None:
        """Let the clock tick for a call."""
        if not self._dialogs:
            self._pump.start(None)
        self._dialogs.add(dialog)
        self._pump.add(audio)

    def end(self, dialog: ChirpDialog, audio: CallAudio) -> None:
        """Let it tick for it no more."""
        self._pump.remove(audio)
        self._dialogs.discard(dialog)
        if not self._dialogs:
            self._pump.stop()


def _samples(sound: bytes) -> Samples:
    return np.frombuffer(sound, np.int16)
