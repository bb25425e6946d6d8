"""Sine tones, made and recognised."""

import math

import numpy as np
import numpy.typing as npt

from media.frames import Samples
from media.levels import FULL_SCALE, SILENCE_DBOV, is_silent

RAMP_MS = 5
"""How long a tone fades in and out: long enough not to click, too short to be heard as a fade."""

_ZERO_PADDING = 4


def sine_amplitude(level_dbov: float) -> float:
    """Return the amplitude, in int16 units, of a sine with this level.

    Raise ValueError above -3 dBov, where a sine would be clipped.
    """
    if level_dbov > -3:
        raise ValueError(f"a sine cannot be louder than -3 dBov, asked for {level_dbov:g}")
    return min(FULL_SCALE, FULL_SCALE * math.sqrt(2) * 10 ** (level_dbov / 20))


def apply_ramps(samples: npt.NDArray[np.float64], sample_rate_hz: int, ramp_ms: float = RAMP_MS) -> None:
    """Fade `samples` in and out, in place, over `ramp_ms` each or half of what there is."""
    length = min(round(ramp_ms * sample_rate_hz / 1000), len(samples) // 2)
    if length:
        ramp = _ramp(length)
        samples[:length] *= ramp
        samples[-length:] *= ramp[::-1]


def as_int16(wave: npt.NDArray[np.float64]) -> Samples:
    """Round a wave that is already in int16 units; its contents are used up."""
    np.rint(wave, out=wave)
    return wave.astype(np.int16)


class ToneGenerator:
    """An endless sine of `hz` at `level_dbov`, taken piece by piece without a jump between the pieces.

    The first `RAMP_MS` fade in. Raise ValueError for a frequency that the rate cannot carry, or a level
    above -3 dBov.
    """

    def __init__(self, hz: float, sample_rate_hz: int, level_dbov: float = -15) -> None:
        _check_frequency(hz, sample_rate_hz)
        self._step = hz / sample_rate_hz
        self._amplitude = sine_amplitude(level_dbov)
        self._ramp = _ramp(round(RAMP_MS * sample_rate_hz / 1000))
        self._position = 0
        self._sine = self._cosine = np.empty(0)

    def next(self, samples: int) -> Samples:
        """Return the next piece, shape `(samples,)`, int16."""
        if len(self._sine) != samples:
            angles = 2 * math.pi * self._step * np.arange(samples)
            self._sine, self._cosine = np.sin(angles), np.cos(angles)
        # sin(start + angle), from the table: the start is counted in samples, so that nothing drifts.
        start = 2 * math.pi * math.fmod(self._position * self._step, 1.0)
        piece = self._sine * (self._amplitude * math.cos(start))
        piece += self._cosine * (self._amplitude * math.sin(start))
        if self._position < len(self._ramp):
            ramp = self._ramp[self._position : self._position + samples]
            piece[: len(ramp)] *= ramp
        self._position += samples
        return as_int16(piece)


def tone(
    hz: float, duration_ms: float, sample_rate_hz: int, level_dbov: float = -15, ramp_ms: float = RAMP_MS
) -> Samples:
    """Return one sine tone with its fades, shape `(samples,)`, int16.

    Raise ValueError as `ToneGenerator` does.
    """
    _check_frequency(hz, sample_rate_hz)
    count = round(duration_ms * sample_rate_hz / 1000)
    wave = sine_amplitude(level_dbov) * np.sin(2 * math.pi * hz / sample_rate_hz * np.arange(count))
    apply_ramps(wave, sample_rate_hz, ramp_ms)
    return as_int16(wave)


def dominant_frequency_hz(samples: Samples, sample_rate_hz: int, silence_dbov: float = SILENCE_DBOV) -> float | None:
    """Return the strongest frequency, or None where there is only silence.

    A steady tone is found within 0.1 Hz over a second and 2 Hz over one frame: the spectrum of the
    Hann-windowed samples, its peak interpolated by a parabola through the logarithms of three bins.
    """
    if len(samples) < 8 or is_silent(samples, silence_dbov):
        return None
    size = len(samples) * _ZERO_PADDING
    windowed = (samples - samples.mean()) * np.hanning(len(samples))
    spectrum = np.abs(np.fft.rfft(windowed, size))
    best = int(spectrum.argmax())
    if not 0 < best < len(spectrum) - 1 or not spectrum[best]:
        return best * sample_rate_hz / size
    left, middle, right = np.log(spectrum[best - 1 : best + 2] + 1e-12)
    curvature = float(left - 2 * middle + right)
    offset = 0.5 * float(left - right) / curvature if curvature else 0.0
    return (best + offset) * sample_rate_hz / size


def _ramp(length: int) -> npt.NDArray[np.float64]:
    """Return a raised cosine from 0 to 1."""
    return np.asarray(0.5 - 0.5 * np.cos(math.pi * (np.arange(length) + 0.5) / max(1, length)))


def _check_frequency(hz: float, sample_rate_hz: int) -> None:
    if not 0 < hz < sample_rate_hz / 2:
        raise ValueError(f"a tone lies between 0 and {sample_rate_hz / 2:g} Hz, not at {hz:g} Hz")
