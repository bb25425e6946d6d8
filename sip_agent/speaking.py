"""Speaking to a caller who may speak too: barge-in, and what was heard of a text that was said."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from media.frames import Samples, silence
from sip_agent.audio import BargeIn, CallAudio, Playback
from sip_agent.hearing import Ear, HeardEvent, SpeechConfirmed, SpeechEnded, SpeechStarted
from sip_agent.speech.sentences import split_sentences

SENTENCE_PAUSE_MS = 250
"""Synthesizers stop with the last sound of a text; a speaker breathes before the next sentence."""

CHARACTER_MS = 65
"""How long a character takes to be said: for the end of a sentence whose sound was not there yet."""

AHEAD_PIECES = 8
"""Pieces of synthesised sound that wait to be sent; the synthesis of the next sentence waits with them."""


_WORD = re.compile(r"\S+")


class SpeechServices(Protocol):
    """Synthesis and recognition, as the agent's `Speech` has them."""

    def synthesize(self, text: str, *, voice: str | None, sample_rate_hz: int) -> AsyncGenerator[Samples, None]:
        """Say `text`: int16 mono, piece by piece."""

    async def recognize(self, samples: Samples, sample_rate_hz: int) -> str | None:
        """Return what was said; None where nothing recognises speech."""


@contextmanager
def giving_way(audio: CallAudio, ear: Ear | None, barge_in: BargeIn) -> Iterator[None]:
    """Let the caller interrupt what is played inside the block, in the way that `barge_in` says.

    Speech that goes on already when the block begins counts too: a playback that would stop for it is dropped before
    its first frame, unless the same speech has stopped one before; one that would pause waits until it is over.
    """
    if ear is None or barge_in is BargeIn.IGNORE:
        yield
        return

    manners = _Manners(audio, ear, stops=barge_in is BargeIn.STOP)
    unsubscribe = ear.subscribe(manners.on_heard)
    manners.begin()
    try:
        yield
    finally:
        unsubscribe()
        manners.end()


class _Manners:
    """What a playback does when the caller speaks: it stops, or it pauses and sees what comes of it."""

    def __init__(self, audio: CallAudio, ear: Ear, *, stops: bool) -> None:
        self._audio = audio
        self._ear = ear
        self._stops = stops
        self._paused = self._waiting = False
        self._dropping: asyncio.Handle | None = None

    def begin(self) -> None:
        """Let nothing leave while the caller speaks already."""
        if not self._ear.speaking or (self._stops and self._ear.heeded):
            return
        self._waiting = True
        self._pause()
        if self._stops:
            # Only what has begun can be stopped.
            self._dropping = asyncio.get_running_loop().call_soon(self._stop)

    def on_heard(self, event: HeardEvent) -> None:
        """Follow the caller's speech."""
        if isinstance(event, SpeechStarted):
            if self._stops:
                self._stop()
            else:
                self._pause()
        elif not self._paused:
            return
        elif isinstance(event, SpeechConfirmed) and not self._waiting:
            self._stop()
        elif isinstance(event, SpeechEnded):
            self._waiting = False
            self._resume()

    def end(self) -> None:
        """Leave the sound to whoever plays next."""
        if self._dropping is not None:
            self._dropping.cancel()
        if self._paused:
            self._resume()

    def _stop(self) -> None:
        self._paused = False
        self._ear.heeded = True
        self._audio.stop()

    def _pause(self) -> None:
        self._paused = True
        self._audio.pause()

    def _resume(self) -> None:
        self._paused = False
        self._audio.resume()


@dataclass(slots=True)
class _Part:
    """A sentence, or the pause between two: how much sound has been made of it, and whether that is all."""

    text: str
    made_ms: float = 0.0
    complete: bool = False

    @property
    def duration_ms(self) -> float:
        """How long it takes, as far as is known."""
        return self.made_ms if self.complete else max(self.made_ms, len(self.text) * CHARACTER_MS)

    def words(self, heard_ms: float) -> list[str]:
        """Return the words that so much of it holds, as if each character took the same time."""
        if heard_ms >= self.duration_ms:
            return self.text.split()
        reached = len(self.text) * heard_ms / self.duration_ms
        return [word[0] for word in _WORD.finditer(self.text) if word.end() <= reached]


class Spoken:
    """A text that is said: its sound, sentence by sentence, and how much of it was heard.

    `began_ms` is when its sound began, on the clock that `say` is given.
    """

    def __init__(self, text: str, *, voice: str | None = None) -> None:
        self.began_ms = 0
        self._sentences = split_sentences(text)
        self._voice = voice
        self._parts: list[_Part] = []
        self._start_ms = 0

    async def say(self, audio: CallAudio, services: SpeechServices, elapsed_ms: Callable[[], int]) -> Playback:
        """Say the text; falls silent when it is cancelled. Raises SpeechError, CallEnded."""
        self._start_ms = audio.sent_ms + audio.queued_ms
        try:
            playback = await audio.play_blocks(self._sound(audio, services, elapsed_ms))
        except asyncio.CancelledError:
            audio.stop()
            raise
        return replace(playback, heard=self.heard(audio))

    def heard(self, audio: CallAudio) -> str:
        """Return the words that were sent so far."""
        left_ms: float = audio.sent_ms - self._start_ms
        words: list[str] = []
        for part in self._parts:
            if left_ms <= 0:
                break
            words += part.words(left_ms)
            left_ms -= part.duration_ms
        return " ".join(words)

    async def _sound(
        self, audio: CallAudio, services: SpeechServices, elapsed_ms: Callable[[], int]
    ) -> AsyncGenerator[Samples, None]:
        """Yield the sound; the next sentence is made while this one is played."""
        queue: asyncio.Queue[Samples | None] = asyncio.Queue(AHEAD_PIECES)
        synthesis = asyncio.create_task(self._synthesize(services, audio.sample_rate_hz, queue))
        try:
            while (piece := await queue.get()) is not None:
                self.began_ms = self.began_ms or elapsed_ms() + audio.queued_ms
                yield piece
            await synthesis
        finally:
            synthesis.cancel()
            await asyncio.gather(synthesis, return_exceptions=True)

    async def _synthesize(self, services: SpeechServices, rate_hz: int, queue: "asyncio.Queue[Samples | None]") -> None:
        try:
            for sentence in self._sentences:
                if self._parts:
                    self._parts.append(_Part("", SENTENCE_PAUSE_MS, complete=True))
                    await queue.put(silence(SENTENCE_PAUSE_MS, rate_hz))
                part = _Part(sentence)
                self._parts.append(part)
                async with aclosing(services.synthesize(sentence, voice=self._voice, sample_rate_hz=rate_hz)) as pieces:
                    async for piece in pieces:
                        part.made_ms += len(piece) * 1000 / rate_hz
                        await queue.put(piece)
                part.complete = True
        except Exception:
            await queue.put(None)
            raise
        await queue.put(None)
