"""The frame, the 20 ms unit in which sound moves, and conversions between its representations."""

from collections.abc import Iterator
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

Samples: TypeAlias = npt.NDArray[np.int16]
"""Mono linear PCM of any length: shape `(samples,)`, int16."""

AudioFrame: TypeAlias = npt.NDArray[np.int16]
"""Mono linear PCM of `FRAME_MS`: shape `(samples_per_frame(rate),)`, int16."""

FRAME_MS = 20

_FULL_SCALE = 32768.0

_Sample = TypeVar("_Sample", np.int16, np.float32)


def samples_per_frame(sample_rate_hz: int) -> int:
    """Return how many samples a frame holds: 160 at 8 kHz, 320 at 16 kHz.

    Raise ValueError for a rate at which 20 ms is not a whole, positive number of samples.
    """
    samples, remainder = divmod(sample_rate_hz * FRAME_MS, 1000)
    if samples < 1 or remainder:
        raise ValueError(f"{FRAME_MS} ms is not a whole number of samples at {sample_rate_hz} Hz")
    return samples


def split_frames(samples: Samples, sample_rate_hz: int) -> Iterator[AudioFrame]:
    """Yield `samples` frame by frame; the last frame is filled up with silence.

    Whole frames are views of `samples`, not copies. Raise ValueError as `samples_per_frame` does.
    """
    size = samples_per_frame(sample_rate_hz)
    whole = len(samples) - len(samples) % size
    for start in range(0, whole, size):
        yield samples[start : start + size]
    if whole < len(samples):
        last = np.zeros(size, dtype=np.int16)
        last[: len(samples) - whole] = samples[whole:]
        yield last


def silence(duration_ms: float, sample_rate_hz: int) -> Samples:
    """Return `duration_ms` of digital silence, shape `(samples,)`, int16."""
    return np.zeros(round(duration_ms * sample_rate_hz / 1000), dtype=np.int16)


def to_float32(samples: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
    """Scale int16 samples of any shape to float32 in [-1, 1); `to_int16` gives the same samples back."""
    return samples.astype(np.float32) / np.float32(_FULL_SCALE)


def to_int16(samples: npt.NDArray[np.float32] | npt.NDArray[np.float64]) -> npt.NDArray[np.int16]:
    """Scale float samples of any shape to int16: ±1.0 is full scale, anything louder is clipped, NaN is 0."""
    scaled = np.asarray(samples * _FULL_SCALE)
    np.rint(scaled, out=scaled)
    np.clip(scaled, -32768, 32767, out=scaled)
    scaled[np.isnan(scaled)] = 0
    return scaled.astype(np.int16)


def mix_down(samples: npt.NDArray[_Sample]) -> npt.NDArray[_Sample]:
    """Average the channels of `(samples, channels)`, int16 or float32, into mono `(samples,)` of that type.

    Mono, as `(samples,)` or `(samples, 1)`, keeps its samples. Raise ValueError for another shape.
    """
    if samples.ndim == 1:
        return samples
    if samples.ndim != 2 or not samples.shape[1]:
        raise ValueError(f"samples have the shape (samples, channels), not {samples.shape}")
    if samples.shape[1] == 1:
        return samples[:, 0]
    mixed = samples.mean(axis=1, dtype=np.float64)
    rounded = np.rint(mixed) if samples.dtype == np.int16 else mixed
    return np.asarray(rounded, dtype=samples.dtype)
