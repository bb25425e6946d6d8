"""DTMF as sound: digits made (ITU-T Q.23) and recognised in a stream (ITU-T Q.24).

Most callers send digits as RFC 4733 events, which do not pass here; this is for those who send the tones.
"""

import math

import numpy as np
import numpy.typing as npt

from media.frames import Samples
from media.levels import FULL_SCALE
from media.tones import apply_ramps, as_int16, sine_amplitude

DIGITS = "123A456B789C*0#D"

LOW_HZ = (697, 770, 852, 941)
HIGH_HZ = (1209, 1336, 1477, 1633)

TONE_MS = 100
PAUSE_MS = 80

# Q.24 Annex A lists what administrations ask; the limits here accept all that it says must be accepted.
_HOP_MS = 10
_MIN_LEVEL_DBOV = -41.0
"""Per tone: 5 dB below the weakest that must be heard (-30 dBm0 is -36 dBov)."""
_MIN_TWIST_DB, _MAX_TWIST_DB = -10.0, 6.0
"""High tone over low tone: -8 to +4 dB must be accepted; the rest is error of measurement."""
_MAX_DETUNING = 0.02
"""1.5 % off must be accepted, 3.5 % off must not."""
_MIN_TONE_SHARE = 0.85
"""Share of the power that the two tones must have: voices have harmonics besides. With 0.8 three times as
many vowels pass for digits, with 0.9 digits are lost in noise 12 dB below them."""
_STEADY_DB = 2.0
"""How far the power may move between hops. Hops that a tone fills by less than 60 % fall out, so that
a tone of 40 ms, however it lies across the hops, has the three steady ones that a digit needs."""
_RELEASE_HOPS = 6
"""Hops without the digit before the same digit counts anew: a lost packet (20 ms) spoils 5, a pause of
40 ms at least 6."""

_HOPS = 3


def dtmf_tone(
    digit: str,
    sample_rate_hz: int,
    *,
    duration_ms: float = TONE_MS,
    level_dbov: float = -13.0,
    twist_db: float = 2.0,
    ramp_ms: float = 2.0,
) -> Samples:
    """Return one digit (0-9, A-D, * or #), shape `(samples,)`, int16.

    `level_dbov` is the level of the low tone, `twist_db` how much louder the high tone is: it makes up for
    lines that damp it. Raise ValueError for another digit, or tones that together would be clipped.
    """
    low_hz, high_hz = _frequencies(digit)
    low, high = sine_amplitude(level_dbov), sine_amplitude(level_dbov + twist_db)
    if low + high > FULL_SCALE:
        raise ValueError(f"two tones at {level_dbov:g} and {level_dbov + twist_db:g} dBov would be clipped")
    angles = 2 * math.pi / sample_rate_hz * np.arange(round(duration_ms * sample_rate_hz / 1000))
    wave = low * np.sin(low_hz * angles) + high * np.sin(high_hz * angles)
    apply_ramps(wave, sample_rate_hz, ramp_ms)
    return as_int16(wave)


def dtmf_tones(
    digits: str,
    sample_rate_hz: int,
    *,
    duration_ms: float = TONE_MS,
    pause_ms: float = PAUSE_MS,
    level_dbov: float = -13.0,
) -> Samples:
    """Return several digits, each followed by a pause; raise ValueError as `dtmf_tone` does."""
    pause = np.zeros(round(pause_ms * sample_rate_hz / 1000), dtype=np.int16)
    pieces = [np.zeros(0, dtype=np.int16)]
    for digit in digits:
        pieces += [dtmf_tone(digit, sample_rate_hz, duration_ms=duration_ms, level_dbov=level_dbov), pause]
    return np.concatenate(pieces)


class DtmfDetector:
    """Recognise digits in a stream of mono samples, each once however long it is held.

    A tone of 40 ms is always recognised and one of 20 ms never; a pause of 40 ms divides two equal digits,
    a gap of 20 ms does not. Tones are accepted from -30 dBm0 to full scale, with a twist of -8 to +4 dB, up
    to 1.5 % off, and not on the strength of one moment: power, pitch and purity have to hold for 30 ms,
    which speech hardly ever does. Raise ValueError for a rate below 8000 Hz.
    """

    def __init__(self, sample_rate_hz: int) -> None:
        if sample_rate_hz < 8000:
            raise ValueError(f"DTMF takes 8000 samples a second or more, not {sample_rate_hz}")
        self._hop = sample_rate_hz * _HOP_MS // 1000
        self._spectra = _Spectra(sample_rate_hz, self._hop)
        self._rest = np.zeros(0, dtype=np.int16)
        self._digit = ""
        self._absent_hops = _RELEASE_HOPS

    def detect(self, samples: Samples) -> str:
        """Take the next samples, as many as there are, and return the digits that began in them, often ""."""
        pending = np.concatenate((self._rest, samples)) if len(self._rest) else samples
        used = len(pending) - len(pending) % self._hop
        self._rest = pending[used:].copy()
        found = ""
        for start in range(0, used, self._hop):
            self._spectra.take(pending[start : start + self._hop].astype(np.float64))
            found += self._follow(self._spectra.digit())
        return found

    def _follow(self, digit: str) -> str:
        """Return `digit` if it has just begun."""
        if not digit:
            self._absent_hops += 1
            return ""
        begun = digit != self._digit or self._absent_hops >= _RELEASE_HOPS
        self._digit, self._absent_hops = digit, 0
        return digit if begun else ""


class _Spectra:
    """The last three hops as seen by eight Goertzel filters, which overlap as two windows of two hops.

    The filters are written as products with complex exponentials: the same sums as Goertzel's recursion,
    at the speed of numpy, and they keep the phase. What the phase gains from one window to the next tells
    how far off the nominal frequency a tone is.
    """

    def __init__(self, sample_rate_hz: int, hop: int) -> None:
        turns = 2 * math.pi * np.array(LOW_HZ + HIGH_HZ) / sample_rate_hz
        angles = turns[:, np.newaxis] * np.arange(hop)
        self._filters = np.concatenate((np.cos(angles), -np.sin(angles)))
        self._advance = np.exp(-1j * turns * hop)
        self._hop = hop
        self._hop_seconds = hop / sample_rate_hz
        self._min_tone = (FULL_SCALE * 10 ** (_MIN_LEVEL_DBOV / 20)) ** 2
        self._hops = [np.zeros(hop)] * _HOPS
        self._powers = [0.0] * _HOPS

    def take(self, hop: npt.NDArray[np.float64]) -> None:
        """Move on by one hop."""
        self._hops = [*self._hops[1:], hop]
        self._powers = [*self._powers[1:], float(hop.dot(hop)) / self._hop]

    def digit(self) -> str:
        """Return the digit that fills all three hops, or ""."""
        weakest, strongest = min(self._powers), max(self._powers)
        if weakest < self._min_tone or strongest > weakest * 10 ** (_STEADY_DB / 10):
            return ""
        sums = self._filters @ np.stack(self._hops, axis=1)
        first, middle, last = (sums[:8] + 1j * sums[8:]).T
        before = first + middle * self._advance
        after = middle + last * self._advance
        strength = np.abs(after)
        low, high = int(strength[:4].argmax()), 4 + int(strength[4:].argmax())
        tones = [self._tone_power(index, before[index], after[index]) for index in (low, high)]
        if min(tones) < self._min_tone or sum(tones) < _MIN_TONE_SHARE * sum(self._powers) / _HOPS:
            return ""
        twist_db = 10 * math.log10(tones[1] / tones[0])
        return DIGITS[4 * low + high - 4] if _MIN_TWIST_DB <= twist_db <= _MAX_TWIST_DB else ""

    def _tone_power(self, index: int, before: complex, after: complex) -> float:
        """Return the power of one tone in the weaker window, or 0 if it is too far off its frequency."""
        gained = complex(after * np.conj(before) * self._advance[index])
        off_hz = math.atan2(gained.imag, gained.real) / (2 * math.pi * self._hop_seconds)
        if abs(off_hz) > _MAX_DETUNING * (LOW_HZ + HIGH_HZ)[index]:
            return 0.0
        # A filter hears a tone beside its centre as weaker than it is, by a sinc.
        heard = float(np.sinc(off_hz * 2 * self._hop_seconds))
        return 2 * (min(abs(before), abs(after)) / (2 * self._hop * heard)) ** 2


def _frequencies(digit: str) -> tuple[int, int]:
    position = DIGITS.find(digit.upper()) if len(digit) == 1 else -1
    if position < 0:
        raise ValueError(f"a DTMF digit is one of {DIGITS}, not {digit!r}")
    return LOW_HZ[position // 4], HIGH_HZ[position % 4]
