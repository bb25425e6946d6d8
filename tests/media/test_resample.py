"""Sample rate conversion."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.levels import level_dbov
from media.resample import StreamResampler, resample
from media.tones import dominant_frequency_hz, tone

_RATES = [8000, 11025, 16000, 24000, 44100, 48000]


@pytest.mark.parametrize("from_hz", _RATES)
@pytest.mark.parametrize("to_hz", _RATES)
def test_a_tone_keeps_its_pitch_level_and_length(from_hz: int, to_hz: int) -> None:
    """One second of 440 Hz stays one second of 440 Hz, as loud, at every rate."""
    converted = resample(tone(440, 1000, from_hz), from_hz, to_hz)

    assert np.int16 == converted.dtype
    assert abs(to_hz - len(converted)) <= 1
    assert dominant_frequency_hz(converted, to_hz) == pytest.approx(440, abs=0.1)
    assert level_dbov(converted) == pytest.approx(-15, abs=0.1)


def test_what_the_lower_rate_cannot_carry_is_removed() -> None:
    """A 6 kHz tone does not come back as an alias at 8 kHz."""
    assert level_dbov(resample(tone(6000, 500, 48000), 48000, 8000)) < -70


def test_full_scale_does_not_wrap_around() -> None:
    """A full-scale step rings beyond full scale, and is clipped there."""
    step = np.repeat(np.array([-32768, 32767], dtype=np.int16), 800)

    converted = resample(step, 8000, 16000).astype(int)

    assert converted[:1500].max() < 0
    assert converted[1700:].min() > 0


@given(
    st.lists(st.integers(0, 900), max_size=10),
    st.sampled_from([(8000, 16000), (48000, 8000), (44100, 16000)]),
)
def test_a_stream_in_pieces_is_the_whole(lengths: list[int], rates: tuple[int, int]) -> None:
    """However a stream is cut, the pieces that come back are those of the whole."""
    samples = np.random.default_rng(3).integers(-9000, 9000, sum(lengths)).astype(np.int16)
    stream = StreamResampler(*rates)

    pieces = [stream.process(piece) for piece in np.split(samples, np.cumsum(lengths)[:-1])] if lengths else []
    joined = np.concatenate([*pieces, stream.process(samples[:0], last=True)]).astype(int)

    whole = resample(samples, *rates)
    assert abs(len(whole) - len(joined)) <= 1
    shared = min(len(whole), len(joined))
    assert np.abs(whole[:shared] - joined[:shared]).max(initial=0) <= 2


def test_the_same_rate_changes_nothing() -> None:
    """Without a change of rate the samples pass as they are."""
    samples = np.arange(100, dtype=np.int16)

    assert samples.tolist() == resample(samples, 8000, 8000).tolist()
    assert samples.tolist() == StreamResampler(8000, 8000).process(samples).tolist()


@pytest.mark.parametrize("shape", [(-1,), (-1, 1), (1, -1)])
def test_mono_may_be_a_row_or_a_column(shape: tuple[int, ...]) -> None:
    """One channel comes back as (samples,), whatever its shape was."""
    samples = tone(440, 100, 8000)

    assert resample(samples, 8000, 16000).tolist() == resample(samples.reshape(shape), 8000, 16000).tolist()


def test_nothing_stays_nothing() -> None:
    """No samples are no samples at every rate."""
    assert len(resample(np.zeros(0, np.int16), 8000, 16000)) == 0


def test_refuses_several_channels() -> None:
    """Stereo has to be mixed down first."""
    with pytest.raises(ValueError, match="one channel"):
        resample(np.zeros((10, 2), np.int16), 8000, 16000)


@pytest.mark.parametrize(("from_hz", "to_hz"), [(0, 8000), (8000, 0), (-1, 8000)])
def test_refuses_rates_that_are_none(from_hz: int, to_hz: int) -> None:
    """A sample rate is positive."""
    with pytest.raises(ValueError, match="sample rate"):
        resample(np.zeros(10, np.int16), from_hz, to_hz)
    with pytest.raises(ValueError, match="sample rate"):
        StreamResampler(from_hz, to_hz)
