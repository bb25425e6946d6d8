"""Live resampling: on time, in tune, without aliases."""

import numpy as np
import pytest

from media.frames import Samples
from media.levels import level_dbov
from media.live_resample import LiveResampler

RATES = [(8000, 16_000), (16_000, 8000), (24_000, 16_000), (16_000, 24_000), (48_000, 8000), (8000, 48_000)]


def sine(hz: float, rate_hz: int, seconds: float = 1.0) -> Samples:
    """Return a tone."""
    times = np.arange(round(rate_hz * seconds)) / rate_hz
    return np.round(10_000 * np.sin(2 * np.pi * hz * times)).astype(np.int16)


def converted(samples: Samples, from_hz: int, to_hz: int, piece: int) -> list[Samples]:
    """Return what comes out for each piece that goes in."""
    resampler = LiveResampler(from_hz, to_hz)
    return [resampler.process(samples[start : start + piece]) for start in range(0, len(samples), piece)]


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_each_frame_gives_a_frame(from_hz: int, to_hz: int) -> None:
    """20 ms in are 20 ms out, from the first on."""
    pieces = converted(sine(1000, from_hz), from_hz, to_hz, from_hz // 50)
    assert {to_hz // 50} == {len(piece) for piece in pieces}


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_speech_passes(from_hz: int, to_hz: int) -> None:
    """A tone of up to 3400 Hz, the telephone band, keeps its level within half a decibel, and its place within 3 ms."""
    for hz in (300, 1000, 3400):
        tone = sine(hz, from_hz)
        result = np.concatenate(converted(tone, from_hz, to_hz, from_hz // 50))
        assert level_dbov(tone) == pytest.approx(level_dbov(result[to_hz // 10 :]), abs=0.5)
    impulse = np.zeros(from_hz // 10, np.int16)
    impulse[from_hz // 20] = 30_000
    result = np.concatenate(converted(impulse, from_hz, to_hz, from_hz // 50))
    assert 50 == pytest.approx(np.argmax(np.abs(result)) * 1000 / to_hz, abs=3)


def test_what_the_lower_rate_cannot_have_is_gone() -> None:
    """A tone above half the lower rate is 60 dB down: it does not come back as another one."""
    tone = sine(5000, 16_000)
    result = np.concatenate(converted(tone, 16_000, 8000, 320))
    assert level_dbov(result[800:]) < level_dbov(tone) - 60


@pytest.mark.parametrize("piece", [1, 7, 160, 333, 16_000])
def test_the_pieces_do_not_matter(piece: int) -> None:
    """However the stream is cut, the same comes out."""
    tone = sine(700, 24_000)
    whole = np.concatenate(converted(tone, 24_000, 16_000, 24_000))
    np.testing.assert_array_equal(whole, np.concatenate(converted(tone, 24_000, 16_000, piece))[: len(whole)])


def test_loud_sound_is_clipped_not_wrapped() -> None:
    """What overshoots full scale stays there."""
    square = np.where(np.arange(1600) // 40 % 2, 32_767, -32_768).astype(np.int16)
    result = np.concatenate(converted(square, 8000, 16_000, 160)).astype(np.int32)
    assert np.abs(np.diff(result)).max() < 60_000


def test_equal_rates_change_nothing() -> None:
    """The samples come back as they are."""
    tone = sine(440, 8000)
    assert tone is LiveResampler(8000, 8000).process(tone)


@pytest.mark.parametrize("rates", [(0, 8000), (8000, 500), (44_100, 8000)])
def test_other_rates_are_refused(rates: tuple[int, int]) -> None:
    """Rates that are no multiples of 1 kHz need another filter."""
    with pytest.raises(ValueError, match="multiples of 1000 Hz"):
        LiveResampler(*rates)
