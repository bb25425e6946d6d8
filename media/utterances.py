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
        self.waiting: deque[bytes] = deque()
        self._rules = endpointing
        self._endpointer = Endpointer(endpointing, CHUNK_MS)
        self._bytes_per_ms = 2 * sample_rate_hz // 1000
        self._chunk_bytes = CHUNK_MS * self._bytes_per_ms
        self._rest = b""
        self._kept: deque[bytes] = deque()
        self._kept_chunks = -(-(endpointing.pre_roll_ms + endpointing.start_ms) // CHUNK_MS) + 1
        self._judged_chunks = 0
        self._started_ms: int | None = None
        self._confirmed = False

    def take(self, sound: bytes) -> None:
        """Add the next samples (int16); each chunk that is full waits to be judged."""
        pending, size = self._rest + sound, self._chunk_bytes
        whole = len(pending) - len(pending) % size
        self.waiting.extend(pending[start : start + size] for start in range(0, whole, size))
        self._rest = pending[whole:]

    def judge(self, chunk: bytes, probability: float) -> Sequence[Finding]:
        """Take the next chunk and its judgement; return what it means."""
        self._kept.append(chunk)
        self._judged_chunks += 1
        if changes := self._endpointer.advance(probability):
            return self._follow(changes)
        if self._started_ms is None and len(self._kept) > self._kept_chunks:
            self._kept.popleft()
        return ()

    def end(self) -> Sequence[Finding]:
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
                while len(self._kept) > self._kept_chunks:
                    self._kept.popleft()
        return findings

    def _cut(self, started_ms: int, ended_ms: int) -> SpokenSound:
        kept_from_ms = (self._judged_chunks - len(self._kept)) * CHUNK_MS
        first_ms = max(0, started_ms - self._rules.pre_roll_ms - kept_from_ms)
        sound = b"".join(self._kept)[first_ms * self._bytes_per_ms : (ended_ms - kept_from_ms) * self._bytes_per_ms]
        return SpokenSound(started_ms=started_ms, ended_ms=ended_ms, samples=np.frombuffer(sound, np.int16))


def find_utterances(detector: VoiceDetector, finders: Sequence[UtteranceFinder]) -> list[list[Finding]]:
    """Judge all chunks that wait, those of all finders together; return the findings of each finder.

    The finders are of one sample rate.
    """
    findings: list[list[Finding]] = [[] for _ in finders]
    by_count: dict[int, list[int]] = {}
    for index, finder in enumerate(finders):
        by_count.setdefault(len(finder.waiting), []).append(index)
    by_count.pop(0, None)
    for count, group in by_count.items():
        sound = b"".join([chunk for index in group for chunk in finders[index].waiting])
        samples = np.frombuffer(sound, np.int16).reshape(len(group), count, -1)
        states = np.concatenate([finders[index].state for index in group]).reshape(len(group), -1)
        probabilities, states = detector.advance(to_float32(samples), states)
        for index, judgements, state in zip(group, probabilities.tolist(), states, strict=True):
            finder = finders[index]
            finder.state = state
            for probability in judgements:
                if found := finder.judge(finder.waiting.popleft(), probability):
                    findings[index] += found
    return findings
