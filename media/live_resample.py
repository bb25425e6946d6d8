"""Sample rate conversion for a live stream: 2 ms late, where libsoxr hands out its result in pieces of 100 ms."""

import functools

import numpy as np
import numpy.typing as npt

from media.frames import Samples

_HALF_LENGTH_MS = 2
"""Half the filter's length, which is also its delay: the pass band ends 600 Hz (8 kHz sound: at 3.4 kHz) below the
Nyquist frequency of the lower rate."""

_KAISER_BETA = 5.0
"""About 50 dB of stop band."""

_PASS = 0.93
"""Where the filter is 6 dB down, as a share of the Nyquist frequency of the lower rate."""

_LOWEST, _HIGHEST = np.array(-32768, np.float32), np.array(32767, np.float32)


class LiveResampler:
    """Convert a stream piece by piece; each piece of 20 ms gives 20 ms, delayed by `_HALF_LENGTH_MS`.

    A polyphase FIR filter as one matrix product per piece, a row of it for each millisecond. Raise ValueError for
    rates that are not multiples of 1 kHz.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        if min(from_hz, to_hz) < 1000 or from_hz % 1000 or to_hz % 1000:
            raise ValueError(f"live sound is resampled between multiples of 1000 Hz, not {from_hz} and {to_hz}")
        self._passes = from_hz == to_hz
        self._step = from_hz // 1000
        self._filter = _polyphase(from_hz, to_hz)
        self._pending = np.zeros(len(self._filter) - self._step, np.float32)

    def process(self, samples: Samples) -> Samples:
        """Take the next samples, int16 of shape `(n,)`, and return those that are ready."""
        if self._passes:
            return samples
        pending = np.concatenate((self._pending, samples), dtype=np.float32)
        blocks = (len(pending) - len(self._filter)) // self._step + 1
        if blocks < 1:
            self._pending = pending
            return np.empty(0, np.int16)
        # Overlapping windows, without the cost of `as_strided`.
        strides = self._step * pending.itemsize, pending.itemsize
        windows = np.ndarray((blocks, len(self._filter)), np.float32, pending, strides=strides)
        self._pending = pending[blocks * self._step :]
        converted = windows @ self._filter
        np.maximum(converted, _LOWEST, out=converted)
        np.minimum(converted, _HIGHEST, out=converted)
        return converted.astype(np.int16).reshape(-1)


@functools.cache
def _polyphase(from_hz: int, to_hz: int) -> npt.NDArray[np.float32]:
    """Return the filter as a matrix: a window around 1 ms of input times it gives 1 ms of output."""
    step, outputs = from_hz // 1000, to_hz // 1000
    half = step * _HALF_LENGTH_MS
    cutoff = _PASS * min(1.0, to_hz / from_hz)
    # Output j of a millisecond lies j * step / outputs input samples after its first.
    positions = np.arange(outputs) * step / outputs
    distances = np.arange(2 * half + step)[:, None] - half - positions[None, :]
    inside = np.abs(distances) <= half
    windows = np.where(inside, np.i0(_KAISER_BETA * np.sqrt(np.clip(1 - (distances / half) ** 2, 0, 1))), 0)
    taps = cutoff * np.sinc(cutoff * distances) * windows
    matrix: npt.NDArray[np.float32] = (taps / taps.sum(axis=0)).astype(np.float32)
    return matrix
