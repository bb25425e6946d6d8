"""Utterances in streams of sound: voice activity, end-pointing and the sound itself, put together."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from media.endpointing import Endpointer, Endpointing, SpeechChange, SpeechPhase
from media.frames import Samples, to_float32
from media.vad import CHUNK_MS, Floats, VoiceDetector


@dataclass(frozen=True, slots=True, kw_only=True)
class SpokenSound:
    """An utterance as found in a stream: int16 mono with some sound before it; milliseconds from the stream's start."""

    started_ms: int
    ended_ms: int
    samples: Samples


Finding = SpeechChange | SpokenSound


class UtteranceFinder:
    """Follow the speech in one stream; `find_utterances` judges those of several streams together.

    The rate is a multiple of 1 kHz.
    """

    def __init__(self, sample_rate_hz: int, endpointing: Endpointing, state: Floats) -> None:
        self.state = state
        self.waiting: deque[Samples] = deque()
        self.chunk_samples = sample_rate_hz // 1000 * CHUNK_MS
        self._rate_hz = sample_rate_hz
        self._rules = endpointing
        self._endpointer = Endpointer(endpointing, CHUNK_MS)
        self._rest = np.empty(0, np.int16)
        self._kept: deque[Samples] = deque()
        self._judged_samples = self._dropped_samples = 0
        self._started_ms: int | None = None
        self._confirmed = False

    def take(self, samples: Samples) -> None:
        """Add the next samples, shape `(samples,)`; a chunk that is full waits to be judged."""
        self._kept.append(samples)
        pending = np.concatenate((self._rest, samples)) if len(self._rest) else samples
        whole = len(pending) - len(pending) % self.chunk_samples
        self._rest = pending[whole:]
        self.waiting.extend(pending[:whole].reshape(-1, self.chunk_samples))

    def judge(self, probability: float) -> list[Finding]:
        """Take the judgement of the next chunk; return what it means."""
        self._judged_samples += self.chunk_samples
        findings = self._follow(self._endpointer.advance(probability))
        if self._started_ms is None:
            self._forget()
        return findings

    def end(self) -> list[Finding]:
        """End the speech that goes on, if any: the stream is over."""
        return self._follow(self._endpointer.end())

    def _follow(self, changes: Sequence[SpeechChange]) -> list[Finding]:
        findings: list[Finding] = []
        for change in changes:
            findings.append(change)
            if change.phase is SpeechPhase.STARTED:
                self._started_ms, self._confirmed = change.at_ms, False
            elif change.phase is SpeechPhase.CONFIRMED:
                self._confirmed = True
            elif self._started_ms is not None:
                if self._confirmed:
                    findings.append(self._cut(self._started_ms, change.at_ms))
                self._started_ms = None
        return findings

    def _cut(self, started_ms: int, ended_ms: int) -> SpokenSound:
        kept = np.concatenate(self._kept)
        first = max(0, self._index(started_ms - self._rules.pre_roll_ms))
        return SpokenSound(started_ms=started_ms, ended_ms=ended_ms, samples=kept[first : self._index(ended_ms)])

    def _index(self, at_ms: int) -> int:
        return at_ms * self._rate_hz // 1000 - self._dropped_samples

    def _forget(self) -> None:
        """Drop the sound that no utterance can begin with any more."""
        needed_ms = self._rules.pre_roll_ms + self._rules.start_ms + CHUNK_MS
        first_needed = self._judged_samples - needed_ms * self._rate_hz // 1000
        while self._kept and self._dropped_samples + len(self._kept[0]) <= first_needed:
            self._dropped_samples += len(self._kept.popleft())


def find_utterances(detector: VoiceDetector, finders: Sequence[UtteranceFinder]) -> list[list[Finding]]:
    """Judge all chunks that wait, those of one moment together; return the findings of each finder.

    The finders are of one sample rate.
    """
    findings: list[list[Finding]] = [[] for _ in finders]
    while busy := [index for index, finder in enumerate(finders) if finder.waiting]:
        chunks = to_float32(np.stack([finders[index].waiting.popleft() for index in busy]))
        states = np.stack([finders[index].state for index in busy])
        probabilities, states = detector.advance(chunks, states)
        for index, probability, state in zip(busy, probabilities.tolist(), states, strict=True):
            finders[index].state = state
            findings[index] += finders[index].judge(probability)
    return findings
