"""Voice activity: how likely a stretch of sound holds a voice, for many streams in one go.

A detector keeps nothing of a stream: what it has to remember comes in and goes out as the stream's state, a
row of an array. So the streams of all calls are worked on together, which costs little more than one.
"""

from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

CHUNK_MS = 32
"""What is judged at once: 512 samples at 16 kHz, the size that the Silero model was trained on."""

Floats: TypeAlias = npt.NDArray[np.float32]


class VoiceDetector(Protocol):
    """Judges chunks of sound, at any rate that is a multiple of 1 kHz."""

    def initial_state(self) -> Floats:
        """Return the state of a stream that begins, shape `(state,)`."""

    def advance(self, chunks: Floats, states: Floats) -> tuple[Floats, Floats]:
        """Judge the next chunks of each of n streams, as many of each.

        `chunks` has the shape `(n, chunks of a stream, samples in CHUNK_MS)`, in [-1, 1), `states` `(n, state)`.
        Returns the probability of a voice in each chunk, `(n, chunks of a stream)` from 0 to 1, and the new states.
        """


_FLOOR_AT_FIRST_DBOV = -60.0
_FLOOR_LOWEST_DBOV, _FLOOR_HIGHEST_DBOV = -70.0, -20.0
_FLOOR_RISE_DB = 0.1
"""A chunk: 3 dB a second. A noise that begins is taken for a voice for as long as the floor needs to reach it."""
_FLOOR_FALL = 0.3
"""Share of the way down that the floor goes in a chunk: the gaps between words bring it back."""
_QUIETEST_VOICE_DBOV = -52.0
_LEAST_ABOVE_FLOOR_DB = 6.0
_RANGE_DB = 12.0


class LevelDetector:
    """Take for a voice what is well above the noise floor, which it follows: for machines without the model.

    Music, tones and knocks count as voices too.
    """

    def initial_state(self) -> Floats:
        """See `VoiceDetector`; the state is the noise floor in dBov."""
        return np.array([_FLOOR_AT_FIRST_DBOV], np.float32)

    def advance(self, chunks: Floats, states: Floats) -> tuple[Floats, Floats]:
        """See `VoiceDetector`."""
        levels = levels_dbov(chunks)
        probabilities, floor = np.empty(levels.shape, np.float32), states[:, 0]
        for step, level in enumerate(levels.T):
            below = np.maximum(floor + _LEAST_ABOVE_FLOOR_DB, _QUIETEST_VOICE_DBOV)
            probabilities[:, step] = np.clip((level - below) / _RANGE_DB, 0, 1)
            moved = np.where(level < floor, floor + _FLOOR_FALL * (level - floor), floor + _FLOOR_RISE_DB)
            floor = np.clip(moved, _FLOOR_LOWEST_DBOV, _FLOOR_HIGHEST_DBOV).astype(np.float32)
        return probabilities, floor[:, np.newaxis]


def levels_dbov(chunks: Floats) -> Floats:
    """Return the level of each row (the last axis) of samples in [-1, 1), -127 at the least."""
    powers = np.einsum("...i,...i->...", chunks, chunks) / chunks.shape[-1]
    return np.asarray(10 * np.log10(np.maximum(powers, 1e-12)), np.float32).clip(-127, None)
