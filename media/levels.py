"""How loud samples are.

Levels are in dBov: 0 dBov is the root mean square of a full-scale square wave, so the loudest sine has
-3.01 dBov (RFC 6464 §3 and its appendix, which also sets the floor of -127). 0 dBm0 in G.711 is about
-6.2 dBov.
"""

import math

import numpy as np

from media.frames import Samples

FULL_SCALE = 32767
"""The overload point: the largest int16 sample."""

MIN_LEVEL_DBOV = -127.0
"""The level of digital silence (RFC 6464 §3)."""

SILENCE_DBOV = -60.0
"""Above the idle noise of G.711 (about -72 dBov), below a quiet speaker (about -40 dBov)."""


def rms(samples: Samples) -> float:
    """Return the root mean square, 0.0 to 32768.0; 0.0 without samples."""
    if not len(samples):
        return 0.0
    exact = samples.astype(np.float64)
    return math.sqrt(float(exact.dot(exact)) / len(exact))


def peak(samples: Samples) -> int:
    """Return the largest magnitude, 0 to 32768; 0 without samples."""
    return max(int(samples.max()), -int(samples.min())) if len(samples) else 0


def level_dbov(samples: Samples) -> float:
    """Return the level, from -127.0 (digital silence, or no samples) to 0.0 (full-scale square wave)."""
    level = rms(samples)
    if not level:
        return MIN_LEVEL_DBOV
    return max(MIN_LEVEL_DBOV, min(0.0, 20 * math.log10(level / FULL_SCALE)))


def is_silent(samples: Samples, threshold_dbov: float = SILENCE_DBOV) -> bool:
    """Return whether the level is below `threshold_dbov`."""
    return level_dbov(samples) < threshold_dbov
