"""Fakes for tests of conversation handlers: a whole call without SIP, sockets or waiting.

    async def test_greets_and_takes_a_number() -> None:
        async with FakeCall(GreetingHandler(), headers={"X-Run-Id": "7"}) as caller:
            await caller.until_answered()
            greeting = await caller.hear(500)
            await caller.speak(question)
            caller.press("12#")
            await caller.until_ended()

        assert [180, 200] == caller.statuses
        assert "answered" == caller.record.outcome

The `Call`, its sound and what runs the handler are the real ones; the user agent and the engine are not. The
media clock is the test's: it ticks while the caller hears or speaks, ten seconds of it in some milliseconds, and
all times of the call and its record are its. asyncio's own clock stays real, so give a handler short time-outs;
`until…` waits for what takes its time.

What the caller says is heard by its level: any sound well above silence is speech, so that a tone of known length
is an utterance of known length. A `FakeSpeech` says texts as tones and recognises what the test has scripted:

    async with FakeCall(BookingHandler(), speech=FakeSpeech(recognized=["a table for two"])) as caller:
        await caller.until(lambda: "For how many?" in caller.said)
        await caller.speak(speech_like(800))
"""

import asyncio
import uuid
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Self

import numpy as np

from media.endpointing import Endpointing
from media.frames import FRAME_MS, AudioFrame, Samples, samples_per_frame, silence, split_frames
from media.tones import ToneGenerator
from media.vad import LevelDetector, VoiceDetector
from sip_agent.audio import QUEUE_FRAMES_MAX, CallAudio, PortCounters
from sip_agent.call import Call, ConversationHandler
from sip_agent.conversation import Verdict, complete, hold_conversation
from sip_agent.digits import InBandDtmf
from sip_agent.errors import CallEnded, SpeechError, UserAgentError
from sip_agent.events import (
    CallConfirmed,
    CallDisconnected,
    CallEvent,
    DtmfReceived,
    MediaChanged,
    Responded,
    TransferProgressed,
)
from sip_agent.headers import PROFILES, Headers, correlate
from sip_agent.hearing import Hearing
from sip_agent.invite import Invite
from sip_agent.record import CallRecord
from sip_agent.speaking import SpeechServices
from sip_agent.status import EndedBy, SipStatus

SETTLE_TURNS = 10
"""Turns of the event loop between two ticks: enough for a frame to come back through nested tasks."""

UNTIL_TICKS = 3000
"""A minute of sound, in three seconds: what has not happened by then is not going to."""

RECEIVED_FRAMES = 50
"""Received frames that wait for the event loop, as many as the engine keeps."""

LATE_FRAMES = 3
"""A received frame that waited for more than 60 ms was taken late."""


SPEECH_HZ = 300.0

CHARACTER_MS = 50
"""How long `FakeSpeech` takes for each character of a text."""


def speech_like(duration_ms: float, sample_rate_hz: int = 16_000) -> Samples:
    """Return a tone that the `Hearing` of a `FakeCall` takes for speech, shape `(samples,)`, int16."""
    return ToneGenerator(SPEECH_HZ, sample_rate_hz).next(round(duration_ms * sample_rate_hz / 1000))


class FakeSpeech:
    """Speech services without speech: a text is a tone of 50 ms a character, what is recognised is scripted.

    Each utterance is recognised as the next of `recognized` (or fails with it), then as None. `synthesized` has
    the texts that were asked for and `heard` the samples to be recognised; the texts in `refuse` fail.
    """

    def __init__(self, recognized: Sequence[str | SpeechError | None] = (), *, refuse: Collection[str] = ()) -> None:
        self.synthesized: list[str] = []
        self.heard: list[Samples] = []
        self._recognized = deque(recognized)
        self._refuse = refuse

    async def synthesize(self, text: str, *, voice: str | None, sample_rate_hz: int) -> AsyncGenerator[Samples, None]:
        """See `SpeechServices`."""
        del voice
        if text in self._refuse:
            raise SpeechError("refused by the test")
        self.synthesized.append(text)
        for _ in text:
            yield speech_like(CHARACTER_MS, sample_rate_hz)

    async def recognize(self, samples: Samples, sample_rate_hz: int) -> str | None:
        """See `SpeechServices`."""
        del sample_rate_hz
        self.heard.append(samples)
        text = self._recognized.popleft() if self._recognized else None
        if isinstance(text, SpeechError):
            raise text
        return text


GAP_LIMIT_FRAMES = 10
"""A silence of up to 200 ms in the middle of a stretch of sound is an underrun."""


class FakePort:
    """An `AudioPort` whose media clock is the test's; `finished` says whether a stretch of sound is complete."""

    def __init__(self, sample_rate_hz: int = 16_000) -> None:
        self.sample_rate_hz = sample_rate_hz
        self.ticks = 0
        self.finished = self.paused = False
        self._frame_samples = samples_per_frame(sample_rate_hz)
        self._received: deque[AudioFrame] = deque(maxlen=RECEIVED_FRAMES)
        self._to_send: deque[AudioFrame] = deque()
        self._capture: deque[AudioFrame] = deque()
        self._sent = self._late = self._overruns = self._underruns = self._pauses = self._gap = 0

    def tick(self, said: AudioFrame | None = None) -> AudioFrame:
        """Let 20 ms pass: take what the caller says and return what it hears."""
        quiet = np.zeros(self._frame_samples, np.int16)
        said = quiet if said is None else said
        self.ticks += 1
        speaking = bool(self._to_send) and not self.paused
        self._sent += speaking
        self._follow(speaking)
        heard = self._to_send.popleft() if speaking else quiet
        self._overruns += len(self._received) == RECEIVED_FRAMES
        self._received.append(said)
        self._capture.append(np.column_stack((said, heard)))
        return heard

    def read(self) -> bytes:
        """See `AudioPort`."""
        self._late += max(0, len(self._received) - LATE_FRAMES)
        return _take_all(self._received)

    def write(self, frames: bytes, /) -> int:
        """See `AudioPort`."""
        samples = np.frombuffer(frames, np.int16).reshape(-1, self._frame_samples)
        taken = samples[: QUEUE_FRAMES_MAX - len(self._to_send)]
        self._to_send.extend(taken)
        self.finished = False
        return len(taken)

    def queued(self) -> int:
        """See `AudioPort`."""
        return len(self._to_send)

    def flush(self) -> int:
        """See `AudioPort`."""
        dropped = len(self._to_send)
        self._to_send.clear()
        return dropped

    def sent(self) -> int:
        """See `AudioPort`."""
        return self._sent

    def finish(self) -> None:
        """See `AudioPort`."""
        self.finished = True

    def pause(self, on: bool, /) -> None:
        """See `AudioPort`."""
        self.paused = on

    def read_capture(self) -> bytes:
        """See `AudioPort`."""
        return _take_all(self._capture)

    def counters(self) -> PortCounters:
        """See `AudioPort`."""
        return PortCounters(
            sent=self._sent,
            late=self._late,
            underruns=self._underruns,
            pauses=self._pauses,
            overruns=self._overruns,
        )

    def _follow(self, speaking: bool) -> None:
        """Count a gap in a stretch of sound when the stretch goes on; a long one was a pause."""
        if speaking:
            if self._gap > GAP_LIMIT_FRAMES:
                self._pauses += self._gap
            else:
                self._underruns += self._gap
            self._gap = 0
        elif self.finished:
            self._gap = 0
        elif self._sent and not self.paused:
            self._gap += 1


class FakeDialog:
    """The far end of a call: the `Dialog` that a `Call` holds, and all that the caller does with it.

    `statuses` are the responses that the caller got and `response_headers` the extra fields of the last one;
    `transfers` are the URIs that it was asked to call, `digits` is what the agent sent by DTMF and `dtmf_methods`
    how. Operations named in `refuse` (answer, hangup, transfer, send_dtmf) raise UserAgentError.
    """

    def __init__(
        self, *, sample_rate_hz: int = 16_000, refuse: Collection[str] = (), telephone_event: bool = True
    ) -> None:
        self.port = FakePort(sample_rate_hz)
        self.telephone_event = telephone_event
        self.audio: CallAudio | None = None
        self.refuse = set(refuse)
        self.answered = self.ended = self.vanished = False
        self.statuses: list[int] = []
        self.response_headers: tuple[tuple[str, str], ...] = ()
        self.transfers: list[str] = []
        self.digits = ""
        self.dtmf_methods: list[str] = []
        self._began_at = datetime.now(UTC)
        self._heard: list[AudioFrame] = [np.empty(0, np.int16)]
        self._early_events: list[CallEvent] = []
        self._listener: Callable[[CallEvent], None] = self._early_events.append
        self._on_audio: Callable[[CallAudio], None] | None = None
        self._workers = _Workers()
        asyncio.get_running_loop().set_default_executor(self._workers)

    def now(self) -> datetime:
        """Return the time of the call, which goes on with its sound."""
        return self._began_at + timedelta(milliseconds=self.port.ticks * FRAME_MS)

    @property
    def heard(self) -> Samples:
        """All that the caller heard so far."""
        return np.concatenate(self._heard)

    # What a call asks of its dialog

    def listen(
        self, listener: Callable[[CallEvent], None], on_audio: Callable[[CallAudio], None] | None = None
    ) -> None:
        """See `Dialog`."""
        self._listener, self._on_audio = listener, on_audio
        for event in self._early_events:
            listener(event)

    async def respond(self, status: int, headers: Sequence[tuple[str, str]] = (), *, early_media: bool = False) -> None:
        """See `Dialog`."""
        await self._consider("answer")
        if self.answered:
            raise UserAgentError("answer", "the call is already answered")
        if early_media or status == SipStatus.OK:
            self._open_audio()
        self._respond(status, headers)
        if status == SipStatus.OK:
            self.answered = True
            self._listener(CallConfirmed(at=self.now()))

    async def terminate(
        self, ended_by: EndedBy, status: int | None = None, headers: Sequence[tuple[str, str]] = (), reason: str = ""
    ) -> None:
        """See `Dialog`."""
        if self.ended:
            return
        await self._consider("hangup")
        if not self.answered:
            self._respond(status or SipStatus.DECLINE, headers)
        self._disconnect(ended_by, reason)

    async def vanish(self, reason: str) -> None:
        """See `Dialog`."""
        await self._consider("vanish")
        self.vanished = True
        self._disconnect(EndedBy.AGENT, reason)

    async def refer(self, uri: str) -> None:
        """See `Dialog`."""
        await self._consider("transfer")
        self.transfers.append(uri)

    async def send_dtmf(self, digits: str, method: str = "rfc4733") -> None:
        """See `Dialog`."""
        await self._consider("send_dtmf")
        self.digits += digits
        self.dtmf_methods.append(method)

    # What a test does as the caller

    def report_transfer(self, status: int, reason: str = "") -> None:
        """Say with what the call to whom the agent sent us ended up, as a caller does by NOTIFY (RFC 3515)."""
        self._listener(TransferProgressed(at=self.now(), status=status, reason=reason, final=status >= 200))

    async def speak(self, samples: Samples) -> Samples:
        """Say something; returns what the caller heard meanwhile, in whole frames."""
        await _settle()
        start = len(self._heard)
        for frame in split_frames(samples, self.port.sample_rate_hz):
            self._heard.append(np.zeros_like(frame))
            if self.audio is not None and not self.ended:
                self._heard[-1] = self.port.tick(frame)
                self.audio.tick()
            await _settle()
        return np.concatenate((self._heard[0], *self._heard[start:]))

    async def hear(self, duration_ms: float) -> Samples:
        """Be silent for a while; returns what the caller heard."""
        return await self.speak(silence(duration_ms, self.port.sample_rate_hz))

    async def until(self, condition: Callable[[], bool], what: str = "what the test waits for") -> None:
        """Let the clock tick, once a millisecond, until `condition` holds; fails after a minute of sound."""
        for _ in range(UNTIL_TICKS):
            await _settle()
            if condition():
                return
            await self.hear(20)
            await asyncio.sleep(0.001)
        raise AssertionError(f"{what} did not come; the caller got {self.statuses}")

    async def until_answered(self) -> None:
        """Let the clock tick until the agent answers; fails if it ends the call instead."""
        await self.until(lambda: self.answered or self.ended, "the answer")
        if not self.answered:
            raise AssertionError(f"the call was not answered; the caller got {self.statuses}")

    async def until_ended(self) -> None:
        """Let the clock tick until the agent hangs up."""
        await self.until(lambda: self.ended, "the end of the call")

    def press(self, digits: str, *, method: str = "rfc4733") -> None:
        """Send DTMF digits, as RFC 4733 events or by `info`; to send tones, `speak` them."""
        for digit in digits:
            self._listener(DtmfReceived(at=self.now(), digit=digit, method=method, duration_ms=100))

    def hold(self, *, on_hold: bool = True) -> None:
        """Put the agent on hold, or resume."""
        self._listener(
            MediaChanged(
                at=self.now(),
                codec="PCMU",
                clock_rate_hz=8000,
                srtp=None,
                on_hold=on_hold,
                telephone_event=self.telephone_event,
            )
        )

    def hang_up(self, *, q850_cause: int | None = None) -> None:
        """End the call: BYE, or CANCEL before the answer."""
        if not self.ended:
            if not self.answered:
                self._respond(SipStatus.REQUEST_TERMINATED)
            self._disconnect(EndedBy.CALLER, "the caller hung up", q850_cause)

    async def _consider(self, operation: str) -> None:
        """Take a turn of the loop, as the way to the SIP thread does; then go on or refuse."""
        await asyncio.sleep(0)
        if self.ended:
            raise CallEnded(f"{operation}: the call is over")
        if operation in self.refuse:
            raise UserAgentError(operation, "refused by the test")

    def _respond(self, status: int, headers: Sequence[tuple[str, str]] = ()) -> None:
        self.statuses.append(int(status))
        self.response_headers = tuple(headers)
        self._listener(Responded(at=self.now(), status=int(status)))

    def _open_audio(self) -> None:
        if self.audio is None:
            self.audio = CallAudio(self.port, self.now)
            if self._on_audio is not None:
                self._on_audio(self.audio)
            self.hold(on_hold=False)

    def _disconnect(self, ended_by: EndedBy, reason: str, q850_cause: int | None = None) -> None:
        self.ended = True
        if self.audio is not None:
            self.audio.close()
        at, status = self.now(), self.statuses[-1]
        self._listener(
            CallDisconnected(
                at=at, ended_by=ended_by, sip_status=status, reason=reason, q850_cause=q850_cause, rtp=None
            )
        )


class FakeCall(FakeDialog):
    """A call with a handler at the other end; leaving the block hangs up and completes `record`.

    `headers` go into the INVITE for `user`, `options` are those of the route. `speech` says and recognises texts;
    `detector` and `endpointing` say when speech starts and ends. A caller without `telephone_event` sends digits
    as tones. Without a handler the test itself holds `call`.
    """

    def __init__(
        self,
        handler: ConversationHandler | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        options: Mapping[str, Any] | None = None,
        user: str = "agent",
        sample_rate_hz: int = 16_000,
        max_duration_s: float = 1800,
        refuse: Collection[str] = (),
        speech: SpeechServices | None = None,
        detector: VoiceDetector | None = None,
        endpointing: Endpointing | None = None,
        telephone_event: bool = True,
        in_band_dtmf: InBandDtmf = InBandDtmf.AUTO,
    ) -> None:
        super().__init__(sample_rate_hz=sample_rate_hz, refuse=refuse, telephone_event=telephone_event)
        invite = Invite(
            call_id=f"{uuid.uuid4()}@example.com",
            from_uri="sip:caller@example.com",
            to_uri=f"sip:{user}@example.com",
            request_uri=f"sip:{user}@example.com",
            user=user,
            cseq=1,
            transport="UDP",
            source_host="192.0.2.1",
            source_port=5060,
            headers=Headers.from_pairs((headers or {}).items()),
            received_at=self.now(),
        )
        ids = correlate(invite.headers, PROFILES["cekura"])
        self.record = CallRecord(call_uuid=str(uuid.uuid4()), run_id=ids.run_id, invite_received_at=invite.received_at)
        self.call = Call(
            invite=invite,
            dialog=self,
            record=self.record,
            ids=ids,
            sample_rate_hz=sample_rate_hz,
            options=options,
            hearing=Hearing(
                detector or LevelDetector(),
                endpointing,
                in_band_dtmf=in_band_dtmf,
                executor=self._workers,
                clock=self.now,
            ),
            speech=FakeSpeech() if speech is None else speech,
            clock=self.now,
        )
        self._handler = handler
        self._max_duration_s = max_duration_s
        self._conversation: asyncio.Task[Verdict] | None = None

    @property
    def said(self) -> list[str]:
        """What the agent has said so far, as far as the caller heard it."""
        return [entry["text"] for entry in self.record.transcript if entry["speaker"] == "agent" and "text" in entry]

    async def __aenter__(self) -> Self:
        self.listen(self.call.note)
        if (handler := self._handler) is not None:
            conversation = hold_conversation(lambda: handler, self.call, self, max_duration_s=self._max_duration_s)
            self._conversation = asyncio.create_task(conversation)
        return self

    async def __aexit__(self, *_: object) -> None:
        await _settle()
        self.hang_up()
        verdict = Verdict() if self._conversation is None else await self._conversation
        complete(self.record, self.call, self.audio, verdict)


class _Workers(ThreadPoolExecutor):
    """The loop's threads; an entry of `running` is done once the result of a thread has been handed back."""

    running: ClassVar[deque["Future[None]"]] = deque()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()

        def work() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args, **kwargs))
                except BaseException as error:  # noqa: BLE001  (whoever waits for the result gets it)
                    future.set_exception(error)

        self.running.append(super().submit(work))
        return future


async def _settle() -> None:
    """Let everybody go as far as they can before the next tick, and threads finish; a slow one gets a second."""
    turns = 0
    while turns < SETTLE_TURNS:
        await asyncio.sleep(0)
        turns += 1
        if _Workers.running:
            work = [asyncio.wrap_future(_Workers.running.popleft()) for _ in range(len(_Workers.running))]
            await asyncio.wait(work, timeout=1.0)
            turns = 0


def _take_all(frames: deque[AudioFrame]) -> bytes:
    taken = b"".join(frame.tobytes() for frame in frames)
    frames.clear()
    return taken
