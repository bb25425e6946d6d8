"""Levels in dBov."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from media.levels import is_silent, level_dbov, peak, rms
from media.tones import tone

_SQUARE = np.array([32767, -32767] * 80, dtype=np.int16)
_NOTHING = np.zeros(0, dtype=np.int16)


def test_a_full_scale_square_wave_is_0_dbov() -> None:
    """The reference of dBov is the full-scale square wave."""
    assert level_dbov(_SQUARE) == pytest.approx(0.0)
    assert rms(_SQUARE) == pytest.approx(32767)


def test_a_full_scale_sine_is_3_db_lower() -> None:
    """The loudest sine has -3.01 dBov (RFC 6464)."""
    sine = np.rint(32767 * np.sin(2 * math.pi * np.arange(160) / 8)).astype(np.int16)

    assert level_dbov(sine) == pytest.approx(-3.01, abs=0.005)


def test_half_the_amplitude_is_6_db_less() -> None:
    """Halving the samples takes 6.02 dB off."""
    assert level_dbov(_SQUARE // 2) == pytest.approx(-6.02, abs=0.01)


@pytest.mark.parametrize("samples", [np.zeros(320, dtype=np.int16), _NOTHING])
def test_digital_silence_is_minus_127_dbov(samples: np.ndarray) -> None:
    """Silence, and no samples at all, have the lowest level there is."""
    assert level_dbov(samples) == -127.0
    assert rms(samples) == 0.0
    assert peak(samples) == 0


@given(arrays.arrays(np.int16, st.integers(0, 500)))
def test_levels_stay_on_the_scale(samples: np.ndarray) -> None:
    """No samples leave -127 to 0 dBov, and the root mean square never passes the peak."""
    assert -127 <= level_dbov(samples) <= 0
    assert rms(samples) <= peak(samples) + 1e-9


def test_the_peak_of_the_lowest_sample_fits() -> None:
    """The magnitude of -32768 is 32768: it does not overflow."""
    assert peak(np.array([-32768, 5], dtype=np.int16)) == 32768


def test_the_idle_noise_of_a_line_is_silent_and_a_quiet_voice_is_not() -> None:
    """The default threshold lies between the idle noise of G.711 (±8) and a voice at -40 dBov."""
    assert is_silent(np.array([8, -8] * 80, dtype=np.int16))
    assert not is_silent(tone(200, 100, 8000, level_dbov=-40))
