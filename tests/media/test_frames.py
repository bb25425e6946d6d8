"""The frame and the conversions between representations of sound."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from media.frames import FRAME_MS, mix_down, samples_per_frame, silence, split_frames, to_float32, to_int16

_SAMPLES = arrays.arrays(np.int16, st.integers(0, 2000))


@pytest.mark.parametrize(("sample_rate_hz", "expected"), [(8000, 160), (16000, 320), (44100, 882), (48000, 960)])
def test_a_frame_is_20_ms(sample_rate_hz: int, expected: int) -> None:
    """The samples of a frame are those of 20 ms."""
    assert FRAME_MS == 20
    assert expected == samples_per_frame(sample_rate_hz)


@pytest.mark.parametrize("sample_rate_hz", [-8000, 0, 11025])
def test_refuses_a_rate_without_whole_frames(sample_rate_hz: int) -> None:
    """A rate at which 20 ms is no whole number of samples is refused, by its number."""
    with pytest.raises(ValueError, match=str(sample_rate_hz)):
        samples_per_frame(sample_rate_hz)


@given(_SAMPLES)
def test_frames_put_together_are_the_samples(samples: np.ndarray) -> None:
    """Every frame is whole; joined they are the samples, filled up with less than a frame of zeros."""
    frames = list(split_frames(samples, 8000))

    assert {160} >= {len(frame) for frame in frames}
    joined = np.concatenate([np.zeros(0, np.int16), *frames])
    assert samples.tolist() == joined[: len(samples)].tolist()
    assert len(joined) - len(samples) in range(160)
    assert not joined[len(samples) :].any()


def test_whole_frames_are_not_copied() -> None:
    """A whole frame shares the memory of the samples it came from."""
    samples = np.arange(160, dtype=np.int16)

    (frame,) = split_frames(samples, 8000)

    assert np.shares_memory(samples, frame)


def test_silence_is_zeros() -> None:
    """Silence has the asked length and nothing in it."""
    assert silence(30, 8000).tolist() == [0] * 240


@given(_SAMPLES)
def test_float_and_back_changes_nothing(samples: np.ndarray) -> None:
    """Every int16 sample survives the way to float32 and back."""
    assert samples.tolist() == to_int16(to_float32(samples)).tolist()


def test_what_is_too_loud_is_clipped() -> None:
    """Beyond full scale the nearest sample is taken; no wrap-around, and NaN is silence."""
    too_loud = np.array([1.0, 1.5, np.inf, -1.0, -1.5, -np.inf, np.nan], dtype=np.float32)

    assert to_int16(too_loud).tolist() == [32767, 32767, 32767, -32768, -32768, -32768, 0]


def test_mixing_down_averages_the_channels() -> None:
    """Mono is the mean of the channels, of the same type, and cannot overflow."""
    stereo = np.array([[32767, 32767], [-32768, -32768], [100, 200]], dtype=np.int16)

    mono = mix_down(stereo)

    assert mono.tolist() == [32767, -32768, 150]
    assert np.int16 == mono.dtype
    assert np.float32 == mix_down(to_float32(stereo)).dtype


def test_mono_stays_as_it_is() -> None:
    """One channel needs no mixing, in either shape."""
    mono = np.array([1, 2, 3], dtype=np.int16)

    assert [1, 2, 3] == mix_down(mono).tolist() == mix_down(mono.reshape(-1, 1)).tolist()


@pytest.mark.parametrize("shape", [(2, 2, 2), (3, 0), ()])
def test_refuses_to_mix_other_shapes(shape: tuple[int, ...]) -> None:
    """Samples that are neither (samples,) nor (samples, channels) are refused."""
    with pytest.raises(ValueError, match="shape"):
        mix_down(np.zeros(shape, dtype=np.int16))
