"""From the probability of a voice, moment by moment, to speech that starts and ends.

Four states, as voice activity has them everywhere: quiet, starting, speaking, stopping. A voice has to last
before it counts as speech, and to be gone for a while before the speech counts as over.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

HYSTERESIS = 0.15
"""Speech that has started goes on down to this much below the threshold: the model's own advice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpointing:
    """When speech starts and ends; `threshold` is a probability, the rest are milliseconds.

    `start_ms` of voice start speech, `end_silence_ms` without end it. Less voice than `min_speech_ms` is a cough
    and no utterance; more than `max_utterance_ms` is divided. An utterance keeps `pre_roll_ms` of the sound
    before its start.
    """

    threshold: float = 0.5
    start_ms: int = 64
    end_silence_ms: int = 600
    min_speech_ms: int = 200
    max_utterance_ms: int = 30_000
    pre_roll_ms: int = 200


class SpeechPhase(StrEnum):
    """What speech has just done: started, lasted longer than a cough, ended."""

    STARTED = "started"
    CONFIRMED = "confirmed"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechChange:
    """A change of phase and when it was, in milliseconds from the beginning of the stream."""

    phase: SpeechPhase
    at_ms: int


class Endpointer:
    """Follow one stream, `step_ms` at a time."""

    def __init__(self, endpointing: Endpointing, step_ms: int) -> None:
        self._rules = endpointing
        self._step_ms = step_ms
        self._now_ms = 0
        self._voiced_ms = 0
        self._started_ms: int | None = None
        self._last_voiced_ms = 0
        self._confirmed = False

    def advance(self, probability: float) -> Sequence[SpeechChange]:
        """Take the probability that the next step holds a voice; return what changed, in order."""
        self._now_ms += self._step_ms
        if self._started_ms is None:
            self._voiced_ms = self._voiced_ms + self._step_ms if probability >= self._rules.threshold else 0
            if not self._voiced_ms or self._voiced_ms < self._rules.start_ms:
                return ()
        changes: list[SpeechChange] = []
        if self._started_ms is None:
            self._started_ms = self._now_ms - self._voiced_ms
            self._last_voiced_ms = self._now_ms
            changes.append(SpeechChange(phase=SpeechPhase.STARTED, at_ms=self._started_ms))
        elif probability >= self._rules.threshold - HYSTERESIS:
            self._voiced_ms += self._step_ms
            self._last_voiced_ms = self._now_ms
        if not self._confirmed and self._voiced_ms >= self._rules.min_speech_ms:
            self._confirmed = True
            changes.append(SpeechChange(phase=SpeechPhase.CONFIRMED, at_ms=self._now_ms))
        silent = self._now_ms - self._last_voiced_ms >= self._rules.end_silence_ms
        if silent or self._now_ms - self._started_ms >= self._rules.max_utterance_ms:
            changes += self.end()
        return changes

    def end(self) -> Sequence[SpeechChange]:
        """End the speech that goes on, if any: the stream is over."""
        if self._started_ms is None:
            return ()
        self._started_ms, self._voiced_ms, self._confirmed = None, 0, False
        return [SpeechChange(phase=SpeechPhase.ENDED, at_ms=self._last_voiced_ms)]
