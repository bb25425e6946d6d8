"""Sample rate conversion, by libsoxr: band-limited, so that nothing aliases.

The samples pass libsoxr as floats. Given int16 it would dither them with noise of its own: no two results
would be the same, and silence would not stay silent.
"""

import soxr

from media.frames import Samples, to_float32, to_int16


def resample(samples: Samples, from_hz: int, to_hz: int) -> Samples:
    """Return mono `samples` at another rate, shape `(samples,)`, int16; a column or a row counts as mono.

    The result has `round(len * to_hz / from_hz)` samples, give or take one. Raise ValueError for a rate
    below 1 Hz or for several channels.
    """
    _check_rates(from_hz, to_hz)
    mono = _as_mono(samples)
    if from_hz == to_hz or not len(mono):
        return mono
    return to_int16(soxr.resample(to_float32(mono), from_hz, to_hz))


class StreamResampler:
    """Convert a stream piece by piece, with the result that `resample` has for the whole.

    A piece comes back later than it went in, by the length of the filter; `last=True` returns the rest.
    Raise ValueError for a rate below 1 Hz.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        _check_rates(from_hz, to_hz)
        self._stream = None if from_hz == to_hz else soxr.ResampleStream(from_hz, to_hz, 1)

    def process(self, samples: Samples, *, last: bool = False) -> Samples:
        """Take the next samples, shape `(samples,)`, int16, and return those that are ready.

        Nothing may follow the samples passed as `last`.
        """
        if self._stream is None:
            return samples
        return to_int16(self._stream.resample_chunk(to_float32(samples), last=last))


def _check_rates(*rates_hz: int) -> None:
    for rate_hz in rates_hz:
        if rate_hz < 1:
            raise ValueError(f"a sample rate is at least 1 Hz, not {rate_hz}")


def _as_mono(samples: Samples) -> Samples:
    if samples.size != max(samples.shape, default=1):
        raise ValueError(f"resampling takes one channel, not samples of the shape {samples.shape}")
    return samples.reshape(-1)
