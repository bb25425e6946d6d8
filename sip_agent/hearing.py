"""Hearing: what callers say, as events, worked out off the event loop.

One thread listens to all calls. The event loop gathers what each call received; whatever has come together while
the thread was busy goes to it in one batch, and its findings come back to the listeners of each call.
"""

import asyncio
import weakref
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self, TypeAlias

import numpy as np
import structlog

from media.dtmf import DtmfDetector
from media.endpointing import Endpointing, SpeechPhase
from media.frames import FRAME_MS, Samples
from media.silero import ModelFileError, SileroDetector
from media.utterances import Finding, SpokenSound, UtteranceFinder, find_utterances
from media.vad import CHUNK_MS, LevelDetector, VoiceDetector
from sip_agent.audio import CallAudio, utc_now
from sip_agent.config.hearing import DetectorChoice, HearingSettings
from sip_agent.digits import InBandDtmf

log = structlog.get_logger()

BACKLOG_FRAMES = 250
"""Received frames (5 s) of a call that wait for the thread; then the oldest are never listened to."""

BATCH_MS = 2 * CHUNK_MS
"""What the thread gets of a call at once: waking it for each chunk costs as much again as the judgement."""

EVENTS_MAX = 100
"""Events that wait for a handler that does not take them; then the oldest go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechStarted:
    """The caller began to speak; `at_ms` counts from the answer, as in all that follows."""

    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechConfirmed:
    """What started has lasted longer than a cough."""

    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechEnded:
    """The caller has been silent since `at_ms`."""

    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """One stretch of speech: int16 mono of shape `(n,)`, and what was said, where it was recognised.

    `samples` has some sound before `started_ms`: recognisers lose first syllables otherwise.
    """

    started_ms: int
    ended_ms: int
    samples: Samples
    sample_rate_hz: int
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DigitHeard:
    """A DTMF digit was heard as tones."""

    digit: str


_INT16 = np.dtype(np.int16)

HeardEvent: TypeAlias = SpeechStarted | SpeechConfirmed | SpeechEnded | Utterance | DigitHeard

_EVENTS: dict[SpeechPhase, Callable[..., HeardEvent]] = {
    SpeechPhase.STARTED: SpeechStarted,
    SpeechPhase.CONFIRMED: SpeechConfirmed,
    SpeechPhase.ENDED: SpeechEnded,
}


class EventStream:
    """What is heard on one call, as an asynchronous iterator that ends with the call."""

    def __init__(self) -> None:
        self._events: deque[HeardEvent] = deque(maxlen=EVENTS_MAX)
        self._news = asyncio.Event()
        self._ended = False

    def __aiter__(self) -> "EventStream":
        return self

    async def __anext__(self) -> HeardEvent:
        while not self._events:
            if self._ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._events.popleft()

    def push(self, event: HeardEvent) -> None:
        """Add an event."""
        self._events.append(event)
        self._news.set()

    def end(self) -> None:
        """Let the iteration end after the events that are already here."""
        self._ended = True
        self._news.set()


class Ear:
    """Listens to one call on behalf of its handler, until the call ends; all on the event loop.

    `offset_ms` turns a time into milliseconds since the answer. The stream begins with `phase_ms` of silence.
    `speaking` says whether the caller speaks now, `heeded` whether a playback has been stopped for it.
    """

    def __init__(
        self,
        audio: CallAudio,
        analysis: UtteranceFinder | DtmfDetector,
        on_ready: Callable[[], None],
        *,
        phase_ms: int,
        offset_ms: Callable[[datetime], int],
        clock: Callable[[], datetime],
    ) -> None:
        self.analysis = analysis
        self.closing = False
        self.speaking = self.heeded = False
        self._rate_hz = audio.sample_rate_hz
        self._on_ready = on_ready
        self._offset_ms = offset_ms
        self._clock = clock
        self._began_at: datetime | None = None
        self._lead_ms = FRAME_MS + phase_ms
        self._batch_bytes = self._bytes(BATCH_MS)
        self._pending = deque([bytes(self._bytes(phase_ms))])
        self._missing_bytes = self._batch_bytes - self._bytes(phase_ms)
        self._listeners: list[Callable[[HeardEvent], None]] = []
        self._streams: list[weakref.ref[EventStream]] = []
        self._ended = False
        audio.listen(self._receive, self._close)

    def subscribe(self, listener: Callable[[HeardEvent], None]) -> Callable[[], None]:
        """Tell `listener` of each event, as soon as it is known; returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def events(self) -> EventStream:
        """Open a stream of the events from now on; it is fed for as long as somebody holds it."""
        stream = EventStream()
        if self._ended:
            stream.end()
        else:
            self._streams.append(weakref.ref(stream, self._streams.remove))
        return stream

    @property
    def waits(self) -> bool:
        """Whether there is something for the thread."""
        return self.closing or bool(self._pending)

    def take(self) -> bytes:
        """Hand over what has come since the last time, for the thread."""
        taken = b"".join(self._pending)
        self._pending.clear()
        self._missing_bytes = self._batch_bytes - self._begun_bytes
        return taken

    @property
    def phase_ms(self) -> int:
        """How much there is of the batch that has begun."""
        return self._begun_bytes * BATCH_MS // self._batch_bytes

    @property
    def _begun_bytes(self) -> int:
        return -self._missing_bytes % self._batch_bytes

    def deliver(self, findings: Sequence[Finding | DigitHeard], *, last: bool) -> None:
        """Tell everybody what the thread has found."""
        for finding in findings:
            event = self._event(finding)
            if isinstance(event, SpeechStarted):
                self.speaking, self.heeded = True, False
            elif isinstance(event, SpeechEnded):
                self.speaking = False
            for listener in tuple(self._listeners):
                listener(event)
            for stream in self._live_streams():
                stream.push(event)
        if last:
            self._ended = True
            for stream in self._live_streams():
                stream.end()

    def _receive(self, received: bytes) -> None:
        if not received:
            return
        if self._began_at is None:
            self._began_at = self._clock() - timedelta(milliseconds=self._lead_ms)
        if len(self._pending) >= BACKLOG_FRAMES:
            lost = self._pending.popleft()
            self._missing_bytes += len(lost)
            self._began_at += timedelta(seconds=len(lost) / _INT16.itemsize / self._rate_hz)
        self._pending.append(received)
        self._missing_bytes -= len(received)
        if self._missing_bytes <= 0:
            self._on_ready()

    def _close(self) -> None:
        self.closing = True
        self._on_ready()

    def _bytes(self, duration_ms: int) -> int:
        return _INT16.itemsize * duration_ms * self._rate_hz // 1000

    def _live_streams(self) -> list[EventStream]:
        return [stream for reference in self._streams if (stream := reference()) is not None]

    def _event(self, finding: Finding | DigitHeard) -> HeardEvent:
        if isinstance(finding, DigitHeard):
            return finding
        if isinstance(finding, SpokenSound):
            return Utterance(
                started_ms=self._at_ms(finding.started_ms),
                ended_ms=self._at_ms(finding.ended_ms),
                samples=finding.samples,
                sample_rate_hz=self._rate_hz,
            )
        return _EVENTS[finding.phase](at_ms=self._at_ms(finding.at_ms))

    def _at_ms(self, position_ms: int) -> int:
        began_at = self._began_at or self._clock()
        return self._offset_ms(began_at + timedelta(milliseconds=position_ms))


class Hearing:
    """The agent's ears: one thread for all calls; `executor` may stand in for it.

    A call that nobody listens to costs nothing.
    """

    def __init__(
        self,
        detector: VoiceDetector,
        endpointing: Endpointing | None = None,
        *,
        in_band_dtmf: InBandDtmf = InBandDtmf.AUTO,
        executor: Executor | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.in_band_dtmf = in_band_dtmf
        self._detector = detector
        self._endpointing = endpointing or Endpointing()
        self._executor = executor or ThreadPoolExecutor(max_workers=1, thread_name_prefix="hearing")
        self._clock = clock
        self._ears: dict[Ear, None] = {}
        self._busy = self._due = self._held_up = False

    @classmethod
    def from_settings(cls, settings: HearingSettings) -> Self:
        """Build what the settings name; without the model's weights, levels have to do, and the log says so."""
        detector: VoiceDetector = LevelDetector()
        if settings.detector is DetectorChoice.SILERO:
            try:
                detector = SileroDetector()
            except ModelFileError as error:
                log.warning("hearing.without_model", error=str(error), hint="levels alone tell a voice from noise")
        return cls(detector, settings.endpointing, in_band_dtmf=settings.in_band_dtmf)

    def listen_for_speech(self, audio: CallAudio, offset_ms: Callable[[datetime], int]) -> Ear:
        """Begin to listen for speech on a call."""
        finder = UtteranceFinder(audio.sample_rate_hz, self._endpointing, self._detector.initial_state())
        return self._open(audio, finder, offset_ms)

    def listen_for_digits(self, audio: CallAudio, offset_ms: Callable[[datetime], int]) -> Ear:
        """Begin to listen for DTMF tones on a call."""
        return self._open(audio, DtmfDetector(audio.sample_rate_hz), offset_ms)

    def close(self) -> None:
        """Stop the thread, after what it is at."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _open(
        self, audio: CallAudio, analysis: UtteranceFinder | DtmfDetector, offset_ms: Callable[[datetime], int]
    ) -> Ear:
        # In step with the others, so that all have a batch in the same tick.
        phase_ms = next((ear.phase_ms for ear in self._ears), 0)
        ear = Ear(audio, analysis, self._note_ready, phase_ms=phase_ms, offset_ms=offset_ms, clock=self._clock)
        self._ears[ear] = None
        return ear

    def _note_ready(self) -> None:
        """Give the thread work at the end of this turn of the loop, when all calls have had their tick."""
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        """Hand over what has come of every call: in one batch."""
        self._due = False
        if self._busy:
            self._held_up = True
            return
        batch = [(ear, ear.take(), ear.closing) for ear in self._ears if ear.waits]
        if not batch:
            return
        self._busy = True
        work = asyncio.get_running_loop().run_in_executor(self._executor, self._listen, batch)
        work.add_done_callback(lambda done: self._deliver(done, batch))

    def _listen(self, batch: "_Batch") -> "_Findings":
        """Work out what was said; on the thread."""
        findings: defaultdict[Ear, list[Finding | DigitHeard]] = defaultdict(list)
        finders: dict[Ear, UtteranceFinder] = {}
        for ear, received, _ in batch:
            if isinstance(ear.analysis, UtteranceFinder):
                ear.analysis.take(received)
                finders[ear] = ear.analysis
            else:
                for digit in ear.analysis.detect(np.frombuffer(received, _INT16)):
                    findings[ear].append(DigitHeard(digit=digit))
        for ear, found in zip(finders, find_utterances(self._detector, list(finders.values())), strict=True):
            if found:
                findings[ear] += found
        for ear, _, last in batch:
            if last and ear in finders:
                findings[ear] += finders[ear].end()
        return findings

    def _deliver(self, work: "asyncio.Future[_Findings]", batch: "_Batch") -> None:
        self._busy = False
        failure = None if work.cancelled() else work.exception()
        if failure is not None:
            log.error("hearing.failed", exc_info=failure)
        findings = {} if work.cancelled() or failure is not None else work.result()
        for ear, _, last in batch:
            if last or ear in findings:
                ear.deliver(findings.get(ear, ()), last=last)
            if last:
                self._ears.pop(ear, None)
        if self._held_up:
            self._held_up = False
            self._dispatch()


_Batch: TypeAlias = list[tuple[Ear, bytes, bool]]
_Findings: TypeAlias = dict[Ear, list[Finding | DigitHeard]]


__all__ = [
    "DigitHeard",
    "Ear",
    "EventStream",
    "HeardEvent",
    "Hearing",
    "SpeechConfirmed",
    "SpeechEnded",
    "SpeechStarted",
    "Utterance",
]
