"""Calls that come without SIP: 16-bit sound at 16 kHz in both directions, by a clock of ours.

What they share, whatever carries the sound: the request as an INVITE, the sound as an `AudioPort`, and most of a
`Dialog`. `chirp` and `rooms` build on it.
"""

import asyncio
import uuid
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from media.frames import Samples
from media.levels import SILENCE_DBOV, level_dbov
from media.live_resample import LiveResampler
from sip_agent.audio import CallAudio
from sip_agent.errors import CallEnded, UserAgentError
from sip_agent.events import CallConfirmed, CallDisconnected, CallEvent, MediaChanged, Responded
from sip_agent.frame_rings import FrameRings
from sip_agent.invite import bracketed
from sip_agent.line import LineFaults
from sip_agent.status import EndedBy, SipStatus
from sip_agent.ua.pump import Pump

CODEC = "pcm_s16le"
SAMPLE_RATE_HZ = 16_000

BACKLOG_FRAMES_MAX = 500
"""Sound of a caller that sends faster than real time: 10 s; then the oldest goes."""

BACKLOG_FRAMES_AIM = 4
"""With more than 80 ms waiting, silent frames are left out: so a clock faster than ours adds no delay."""

START_FRAMES = 2
"""After a gap, 40 ms come together before they are played: what arrives unevenly is heard evenly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the HTTP side is to do with the request: grant it (101 or 200), or refuse it with a status."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRequest:
    """A request by HTTP that begins a call: who asks, whom for, and the header fields as received.

    `transport` is what the record shows, `caller` the user part of From.
    """

    transport: str
    caller: str
    source_host: str
    source_port: int
    local_address: str
    user: str
    headers: Sequence[tuple[bytes, bytes]]

    def as_invite(self) -> bytes:
        """Return the request as the INVITE that it stands for; Via as for WebSockets (RFC 7118 §5.1)."""
        source = f"{bracketed(self.source_host)}:{self.source_port}"
        target = f"sip:{self.user}@{self.local_address}"
        call_id = uuid.uuid4()
        lines = [
            f"INVITE {target} SIP/2.0",
            f"Via: SIP/2.0/{self.transport} {source};branch=z9hG4bK{call_id.hex}",
            f"From: <sip:{self.caller}@{source}>;tag={call_id.hex[:12]}",
            f"To: <{target}>",
            f"Call-ID: {call_id}",
            "CSeq: 1 INVITE",
        ]
        kept = [name + b": " + value for name, value in self.headers if _is_kept(name)]
        return b"\r\n".join([*(line.encode() for line in lines), *kept, b"", b""])


def _is_kept(name: bytes) -> bool:
    lower = name.lower()
    return lower.startswith(b"x-") or lower in {b"authorization", b"user-agent"}


class PcmPort(FrameRings):
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


class PcmAudio(CallAudio):
    """The sound of one call; each tick of ours is also one of its port's."""

    def __init__(self, port: PcmPort, send: Callable[[bytes], None]) -> None:
        super().__init__(port)
        self._pcm_port = port
        self._transmit = send

    def tick(self) -> None:
        """See `CallAudio`."""
        self._transmit(self._pcm_port.tick())
        super().tick()


class PcmDialog(ABC):
    """One call as its handler's `Dialog`; `decision` tells the HTTP side what becomes of the request.

    `medium` completes the sentence "a call by ... cannot be transferred".
    """

    medium: str

    def __init__(self, endpoint: "PcmEndpoint") -> None:
        self.audio: CallAudio | None = None
        self.decision: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        self._endpoint = endpoint
        self._port = PcmPort(endpoint.sample_rate_hz, endpoint.cushion_ms)
        self._over = asyncio.Event()
        self._ending: tuple[EndedBy, str] | None = None
        self._listener: Callable[[CallEvent], None] | None = None
        self._on_audio: Callable[[CallAudio], None] | None = None
        self._early_events: list[CallEvent] = []

    def listen(
        self, listener: Callable[[CallEvent], None], on_audio: Callable[[CallAudio], None] | None = None
    ) -> None:
        """See `Dialog`."""
        self._listener, self._on_audio = listener, on_audio
        for event in self._early_events:
            listener(event)
        self._early_events.clear()

    async def respond(self, status: int, headers: Sequence[tuple[str, str]] = (), *, early_media: bool = False) -> None:
        """See `Dialog`: early media opens the sound as the answer does."""
        if self._over.is_set():
            raise CallEnded("answer: the call is over")
        answers = 200 <= status < 300
        if (early_media or answers) and self.audio is None:
            await self._connect(headers)
            if self._over.is_set():
                raise CallEnded("answer: the caller was gone before")
        self._emit(Responded(at=datetime.now(UTC), status=status))
        if answers:
            self._emit(CallConfirmed(at=datetime.now(UTC)))

    async def terminate(
        self, ended_by: EndedBy, status: int | None = None, headers: Sequence[tuple[str, str]] = (), reason: str = ""
    ) -> None:
        """See `Dialog`: refuse the request, or end the call."""
        if self._over.is_set():
            return
        self._ending = self._ending or (ended_by, reason)
        if self.audio is not None:
            await self._disconnect(reason, failed=ended_by is EndedBy.SYSTEM and bool(status))
            return
        refusal = status or SipStatus.DECLINE
        self.decide(refusal, headers)
        self._emit(Responded(at=datetime.now(UTC), status=refusal))
        self._end(refusal)

    async def vanish(self, reason: str) -> None:
        """See `Dialog`; a connection cannot be left open by who is not there, so this ends it."""
        await self.terminate(EndedBy.AGENT, reason=reason)

    async def refer(self, uri: str) -> None:  # noqa: ARG002
        """See `Dialog`."""
        raise UserAgentError("transfer", f"a call by {self.medium} cannot be transferred")

    async def send_dtmf(self, digits: str, method: str = "") -> None:  # noqa: ARG002
        """See `Dialog`."""
        raise UserAgentError("send_dtmf", f"a call by {self.medium} has no digits")

    def delay_replies(self, delay_ms: int) -> None:
        """Begin each stretch of our sound so much later; before the answer."""
        self._port = PcmPort(self._endpoint.sample_rate_hz, self._endpoint.cushion_ms + delay_ms)

    def decide(self, status: int, headers: Sequence[tuple[str, str]] = ()) -> None:
        """Settle what becomes of the request, unless that is settled."""
        if not self.decision.done():
            self.decision.set_result(Decision(status=status, headers=tuple(headers)))

    @abstractmethod
    async def _connect(self, headers: Sequence[tuple[str, str]]) -> None:
        """Let sound flow, by `_open`; returns as well when the call is over."""

    @abstractmethod
    async def _disconnect(self, reason: str, *, failed: bool) -> None:
        """End a call whose sound flows, by `_end`."""

    def _open(self, transmit: Callable[[bytes], None]) -> None:
        """Let the clock tick: `transmit` takes 20 ms of sound in each tick."""
        self.audio = PcmAudio(self._port, transmit)
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
        self._endpoint.begin(self.audio)

    def _end(self, status: int) -> None:
        """Take note that the call is over, once."""
        if self._over.is_set():
            return
        self._over.set()
        self._endpoint.end(self, self.audio)
        if self.audio is not None:
            self.audio.close()
        ended_by, reason = self._ending or (EndedBy.SYSTEM, "")
        self._emit(
            CallDisconnected(
                at=datetime.now(UTC), ended_by=ended_by, sip_status=status, reason=reason, q850_cause=None, rtp=None
            )
        )
        self._listener = self._on_audio = None

    def _emit(self, event: CallEvent) -> None:
        if self._listener is None:
            self._early_events.append(event)
        else:
            self._listener(event)


@dataclass(slots=True, kw_only=True)
class PcmOffer:
    """A request as the call flow's `Offer`."""

    dialog: PcmDialog
    message: bytes
    transport: str
    source_host: str
    source_port: int
    received_at: datetime

    async def reject(
        self,
        status: int,
        headers: Sequence[tuple[str, str]] = (),
        *,
        stateful: bool = True,  # noqa: ARG002
    ) -> None:
        """See `Offer`."""
        await self.dialog.terminate(EndedBy.AGENT, status, headers)

    async def accept(self, faults: LineFaults | None = None, /) -> PcmDialog:
        """See `Offer`; of the faults, late replies are all that there is without packets."""
        if faults is not None:
            self.dialog.delay_replies(faults.reply_delay_ms)
        return self.dialog


class PcmEndpoint:
    """Hands requests to a call flow as calls, and has the clock of their sound."""

    def __init__(self, on_offer: Callable[[PcmOffer], None], *, sample_rate_hz: int, cushion_ms: int) -> None:
        self.sample_rate_hz = sample_rate_hz
        self.cushion_ms = cushion_ms
        self._on_offer = on_offer
        self._pump = Pump(asyncio.get_running_loop())
        self._dialogs: set[PcmDialog] = set()
        self._open_count = 0

    def hand_over(self, dialog: PcmDialog, request: CallRequest) -> None:
        """Offer a request to the call flow; the dialog's `decision` says what becomes of it."""
        self._dialogs.add(dialog)
        self._on_offer(
            PcmOffer(
                dialog=dialog,
                message=request.as_invite(),
                transport=request.transport,
                source_host=request.source_host,
                source_port=request.source_port,
                received_at=datetime.now(UTC),
            )
        )

    async def hang_up_all(self, reason: str) -> None:
        """End every call, also those that are not answered yet."""
        await asyncio.gather(*(dialog.terminate(EndedBy.SYSTEM, None, (), reason) for dialog in self._dialogs))

    def begin(self, audio: CallAudio) -> None:
        """Let the clock tick for the sound of a call."""
        if not self._open_count:
            self._pump.start(None)
        self._open_count += 1
        self._pump.add(audio)

    def end(self, dialog: PcmDialog, audio: CallAudio | None) -> None:
        """Take note that a call is over; the clock ticks for it no more."""
        self._dialogs.discard(dialog)
        if audio is None:
            return
        self._pump.remove(audio)
        self._open_count -= 1
        if not self._open_count:
            self._pump.stop()


def _samples(sound: bytes) -> Samples:
    return np.frombuffer(sound, np.int16)
