"""Tones, made and recognised."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.levels import level_dbov
from media.tones import ToneGenerator, dominant_frequency_hz, tone


@given(st.lists(st.integers(0, 700), min_size=1, max_size=8), st.sampled_from([8000, 16000, 48000]))
def test_pieces_join_without_a_jump(lengths: list[int], sample_rate_hz: int) -> None:
    """However a tone is cut into pieces, together they are the tone taken in one piece."""
    pieces = ToneGenerator(441.7, sample_rate_hz)
    whole = ToneGenerator(441.7, sample_rate_hz).next(sum(lengths))

    joined = np.concatenate([pieces.next(length) for length in lengths])

    assert np.abs(whole.astype(int) - joined).max(initial=0) <= 1


def test_the_phase_does_not_drift_in_ten_hours() -> None:
    """After ten hours the tone is still where it belongs."""
    late = ToneGenerator(440, 8000)
    late._position = 36_000 * 8000
    fresh = ToneGenerator(440, 8000)
    fresh.next(8000)

    assert np.abs(fresh.next(160).astype(int) - late.next(160)).max() <= 1


@pytest.mark.parametrize("level", [-3, -15, -30, -60])
def test_a_tone_has_the_level_asked_for(level: float) -> None:
    """The level of a steady tone is the one it was made with."""
    generator = ToneGenerator(1000, 16000, level_dbov=level)
    generator.next(1600)

    assert level_dbov(generator.next(1600)) == pytest.approx(level, abs=0.1)


def test_a_tone_begins_and_ends_softly() -> None:
    """The first and last samples are near zero, so that nothing clicks."""
    samples = tone(1000, 100, 8000)

    assert len(samples) == 800
    assert np.abs(samples[:2]).max() < 100
    assert np.abs(samples[-2:]).max() < 100
    assert np.abs(ToneGenerator(1000, 8000).next(160)[:2]).max() < 100


def test_a_tone_shorter_than_its_fades_is_still_made() -> None:
    """The fades shrink with the tone; none is longer than it."""
    assert [len(tone(1000, duration_ms, 8000)) for duration_ms in (0, 0.25, 2)] == [0, 2, 16]


@pytest.mark.parametrize("hz", [0, -440, 4000, 5000])
def test_refuses_frequencies_that_the_rate_cannot_carry(hz: float) -> None:
    """A tone lies above 0 Hz and below half the sample rate."""
    with pytest.raises(ValueError, match="4000"):
        ToneGenerator(hz, 8000)
    with pytest.raises(ValueError, match="4000"):
        tone(hz, 20, 8000)


def test_refuses_levels_that_would_clip() -> None:
    """A sine above -3 dBov does not fit."""
    with pytest.raises(ValueError, match="-3 dBov"):
        tone(440, 20, 8000, level_dbov=-2)


@given(st.floats(60, 3800))
def test_the_frequency_of_a_second_is_found_within_a_tenth_of_a_hertz(hz: float) -> None:
    """A tone of one second is recognised to 0.1 Hz."""
    assert dominant_frequency_hz(tone(hz, 1000, 8000), 8000) == pytest.approx(hz, abs=0.1)


@given(st.floats(200, 3800))
def test_the_frequency_of_a_frame_is_found_within_two_hertz(hz: float) -> None:
    """A single frame suffices for 2 Hz."""
    generator = ToneGenerator(hz, 8000)
    generator.next(160)

    assert dominant_frequency_hz(generator.next(160), 8000) == pytest.approx(hz, abs=2)


def test_the_stronger_of_two_tones_is_found() -> None:
    """Of two tones the louder one counts, in noise as well."""
    noise = np.random.default_rng(7).normal(0, 300, 8000).astype(np.int16)
    sound = tone(440, 1000, 8000, level_dbov=-15) + tone(1900, 1000, 8000, level_dbov=-25) + noise

    assert dominant_frequency_hz(sound, 8000) == pytest.approx(440, abs=0.2)


@pytest.mark.parametrize("samples", [np.zeros(8000, np.int16), np.zeros(0, np.int16), np.full(5, 9000, np.int16)])
def test_silence_has_no_frequency(samples: np.ndarray) -> None:
    """Where there is nothing to hear, or too little, there is no frequency."""
    assert dominant_frequency_hz(samples, 8000) is None


def test_a_constant_is_no_tone() -> None:
    """An offset is not mistaken for a low tone that drowns the real one."""
    assert dominant_frequency_hz(tone(440, 500, 8000) + np.int16(5000), 8000) == pytest.approx(440, abs=0.5)
