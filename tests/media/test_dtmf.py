"""DTMF as sound, made and recognised, with the limits of ITU-T Q.24."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.dtmf import DIGITS, HIGH_HZ, LOW_HZ, DtmfDetector, dtmf_tone, dtmf_tones
from media.frames import silence, to_int16
from media.levels import level_dbov
from media.tones import dominant_frequency_hz
from tests.media.voices import spoken

_RATE_HZ = 8000

PHRASE = (
    "Good morning, this is the reservation line. Press one for a table, two for the opening hours, or say nine, seven, "
    "three, eight. We are open from half past eleven until ten in the evening; who is calling, please? Aaah, eee, ooo."
)

# 0 dBm0 in G.711 lies 3.17 dB below the loudest sine, which has -3.01 dBov.
_DBM0 = -6.18


def _detect(samples: npt.NDArray[np.int16], sample_rate_hz: int = _RATE_HZ, piece: int | None = None) -> str:
    detector = DtmfDetector(sample_rate_hz)
    piece = piece or sample_rate_hz // 50
    return "".join(detector.detect(samples[at : at + piece]) for at in range(0, len(samples), piece))


def _two_tones(
    digit: str, *, low_dbm0: float, high_dbm0: float, duration_ms: int = 50, detuned: float = 0.0
) -> npt.NDArray[np.int16]:
    """Return a digit of any level, twist and pitch, without fades."""
    position = DIGITS.index(digit)
    angles = 2 * math.pi * (1 + detuned) / _RATE_HZ * np.arange(_RATE_HZ * duration_ms // 1000)
    low = 10 ** ((low_dbm0 + _DBM0) / 20) * np.sin(LOW_HZ[position // 4] * angles)
    high = 10 ** ((high_dbm0 + _DBM0) / 20) * np.sin(HIGH_HZ[position % 4] * angles + 0.3)
    return to_int16((low + high) * math.sqrt(2))


def _padded(samples: npt.NDArray[np.int16], before: int = 400) -> npt.NDArray[np.int16]:
    return np.concatenate((np.zeros(before, np.int16), samples, np.zeros(800, np.int16)))


def _speech(seconds: int, seed: int) -> npt.NDArray[np.int16]:
    """Return something like speech: gliding pitch with harmonics under moving formants, hisses and pauses."""
    rng = np.random.default_rng(seed)
    count = seconds * _RATE_HZ
    syllables = np.arange(0, count, 1200)
    at = np.arange(count)

    def gliding(low: float, high: float) -> npt.NDArray[np.float64]:
        return np.interp(at, syllables, rng.uniform(low, high, len(syllables)))

    pitch = gliding(80, 280)
    phase = 2 * math.pi * np.cumsum(pitch) / _RATE_HZ
    formants = [gliding(250, 900), gliding(800, 2400), gliding(2200, 3400)]
    voice = np.zeros(count)
    for harmonic in range(1, 40):
        hz = harmonic * pitch
        gain = sum(
            weight / (1 + ((hz - formant) / width) ** 2)
            for formant, width, weight in zip(formants, (60, 90, 120), (1.0, 0.7, 0.4), strict=True)
        )
        voice += np.where(hz < 3800, gain * np.sin(harmonic * phase), 0)
    loudness = np.clip(gliding(-0.6, 1), 0, 1)
    hiss = np.clip(gliding(-1.5, 0.6), 0, 1) * rng.normal(0, 0.5, count)
    sound = loudness * voice + hiss
    return to_int16(0.9 * sound / np.abs(sound).max())


@pytest.mark.parametrize("sample_rate_hz", [8000, 16000, 44100, 48000])
def test_hears_every_digit_that_it_makes(sample_rate_hz: int) -> None:
    """All sixteen digits, 40 ms of tone and 40 ms of pause each, come back in order, once each."""
    assert _detect(dtmf_tones(DIGITS, sample_rate_hz, duration_ms=40, pause_ms=40), sample_rate_hz) == DIGITS


@given(
    st.text(DIGITS, max_size=6),
    st.integers(40, 200),
    st.integers(40, 200),
    st.integers(0, 400),
    st.integers(1, 1000),
)
def test_digits_survive_any_timing(digits: str, duration_ms: int, pause_ms: int, before: int, piece: int) -> None:
    """Any digits of 40 ms or more are heard, wherever they begin and however the stream is cut."""
    tones = dtmf_tones(digits, _RATE_HZ, duration_ms=duration_ms, pause_ms=pause_ms)

    assert digits == _detect(_padded(tones, before), piece=piece)


def test_a_long_digit_is_reported_once_and_early() -> None:
    """A digit held for two seconds is one digit, known within 50 ms of its beginning."""
    detector = DtmfDetector(_RATE_HZ)
    held = dtmf_tone("7", _RATE_HZ, duration_ms=2000)

    found = [detector.detect(held[at : at + 80]) for at in range(0, len(held), 80)]

    assert "".join(found) == "7"
    assert found.index("7") < 5


@pytest.mark.parametrize("twist_db", [-8, -4, 0, 4])
@pytest.mark.parametrize("dbm0", [-3, -10, -22])
@pytest.mark.parametrize("detuned", [-0.015, 0.0, 0.015])
def test_accepts_what_q24_says_must_be_accepted(twist_db: float, dbm0: float, detuned: float) -> None:
    """From -3 to -30 dBm0 a tone, 8 dB of twist one way and 4 the other, 1.5 % off pitch: all are heard."""
    low, high = (dbm0, dbm0 + twist_db) if twist_db < 0 else (dbm0 - twist_db, dbm0)
    tones = [_two_tones(digit, low_dbm0=low, high_dbm0=high, detuned=detuned) for digit in DIGITS]

    assert "".join(_detect(_padded(sound)) for sound in tones) == DIGITS


def test_hears_the_weakest_tones() -> None:
    """Both tones at -30 dBm0 are heard; at -40 dBm0 they are not."""
    weak = _two_tones("5", low_dbm0=-30, high_dbm0=-30)
    too_weak = _two_tones("5", low_dbm0=-40, high_dbm0=-40)

    assert (_detect(_padded(weak)), _detect(_padded(too_weak))) == ("5", "")


@pytest.mark.parametrize("detuned", [-0.06, -0.035, 0.035, 0.06])
def test_rejects_tones_that_are_off_pitch(detuned: float) -> None:
    """Tones 3.5 % off are no digits."""
    tones = [_two_tones(digit, low_dbm0=-10, high_dbm0=-10, duration_ms=100, detuned=detuned) for digit in DIGITS]

    assert [_detect(_padded(sound)) for sound in tones] == [""] * 16


@pytest.mark.parametrize(("low_dbm0", "high_dbm0"), [(-5, -20), (-20, -5), (-10, -90), (-90, -10)])
def test_rejects_too_much_twist(low_dbm0: float, high_dbm0: float) -> None:
    """Two tones of very different strength, or one alone, are no digit."""
    tones = [_two_tones(digit, low_dbm0=low_dbm0, high_dbm0=high_dbm0, duration_ms=100) for digit in DIGITS]

    assert [_detect(_padded(sound)) for sound in tones] == [""] * 16


@pytest.mark.parametrize("before", range(0, 80, 16))
def test_rejects_tones_that_are_too_short(before: int) -> None:
    """A tone of 20 ms is no digit, wherever it begins."""
    tones = [_two_tones(digit, low_dbm0=-10, high_dbm0=-10, duration_ms=20) for digit in DIGITS]

    assert [_detect(_padded(sound, 400 + before)) for sound in tones] == [""] * 16


@pytest.mark.parametrize("before", range(0, 80, 16))
@pytest.mark.parametrize(("gap_ms", "expected"), [(10, "5"), (20, "5"), (40, "55")])
def test_a_lost_packet_does_not_double_a_digit_but_a_pause_does(before: int, gap_ms: int, expected: str) -> None:
    """A gap of a packet leaves the digit whole; 40 ms of silence make it two."""
    digit = _two_tones("5", low_dbm0=-10, high_dbm0=-10, duration_ms=80)

    assert expected == _detect(_padded(np.concatenate((digit, silence(gap_ms, _RATE_HZ), digit)), 400 + before))


@pytest.mark.parametrize("seed", range(5))
def test_hears_digits_in_noise(seed: int) -> None:
    """Noise 12 dB below the digits hides none of them."""
    tones = dtmf_tones(DIGITS, _RATE_HZ, duration_ms=50, pause_ms=50)
    power = 10 ** ((level_dbov(dtmf_tone("5", _RATE_HZ)) - 12) / 20) * 32767
    noise = np.random.default_rng(seed).normal(0, power, len(tones)).astype(np.int16)

    assert _detect(tones + noise) == DIGITS


def test_speech_is_hardly_ever_taken_for_digits() -> None:
    """Ten minutes of clear vowels, each with a few strong harmonics, hold at most one false digit."""
    assert len("".join(_detect(_speech(120, seed), piece=_RATE_HZ) for seed in range(5))) <= 1


@pytest.mark.parametrize("voice", ["en-us", "en-us+f3", "en-us+m3", "de", "fr+f2", "ru"])
def test_spoken_words_are_no_digits(voice: str) -> None:
    """Sentences, numbers among them, said by men and women of several languages, loud and soft, hold no digit."""
    speech = spoken(PHRASE, _RATE_HZ, voice) / 32768
    for gain in (0.25, 1.0, 3.0):
        assert _detect(to_int16(gain * speech)) == ""


def test_noise_holds_no_digits() -> None:
    """Ten minutes of noise are not taken for a single digit."""
    noise = np.random.default_rng(11).normal(0, 4000, 600 * _RATE_HZ).clip(-32768, 32767).astype(np.int16)

    assert _detect(noise, piece=_RATE_HZ) == ""


@pytest.mark.parametrize(("low_hz", "high_hz"), [(350, 440), (440, 480), (480, 620), (1400, 2060)])
def test_call_progress_tones_are_no_digits(low_hz: float, high_hz: float) -> None:
    """Dial, ringing, busy and howler tones of North America pass unnoticed."""
    at = np.arange(2 * _RATE_HZ) * 2 * math.pi / _RATE_HZ
    sound = (8000 * (np.sin(low_hz * at) + np.sin(high_hz * at))).astype(np.int16)

    assert _detect(sound) == ""


def test_a_digit_holds_its_two_frequencies_at_their_levels() -> None:
    """The high tone is 2 dB above the low one, and both are where Q.23 puts them."""
    sound = dtmf_tone("1", _RATE_HZ, duration_ms=1000, level_dbov=-13, twist_db=2)

    assert dominant_frequency_hz(sound, _RATE_HZ) == pytest.approx(1209, abs=0.2)
    assert level_dbov(sound) == pytest.approx(10 * math.log10(10**-1.3 + 10**-1.1), abs=0.05)
    assert dtmf_tone("a", _RATE_HZ).tolist() == dtmf_tone("A", _RATE_HZ).tolist()


@pytest.mark.parametrize("digit", ["", "12", "E", " "])
def test_refuses_what_is_no_digit(digit: str) -> None:
    """Only the sixteen digits can be made, one at a time."""
    with pytest.raises(ValueError, match="DTMF digit"):
        dtmf_tone(digit, _RATE_HZ)


def test_refuses_digits_that_would_clip() -> None:
    """Two tones that together pass full scale are refused."""
    with pytest.raises(ValueError, match="clipped"):
        dtmf_tone("5", _RATE_HZ, level_dbov=-7)


def test_refuses_a_rate_that_is_too_low() -> None:
    """Below 8 kHz there are no digits to be heard."""
    with pytest.raises(ValueError, match="8000"):
        DtmfDetector(4000)
