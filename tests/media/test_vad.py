"""Voice activity by level alone."""

import numpy as np

from media.frames import Samples, to_float32
from media.vad import LevelDetector, levels_dbov
from tests.media.voices import scene, spoken, with_noise

RATE_HZ = 8000
CHUNK = 256


def voiced(samples: Samples) -> list[bool]:
    """Return for each chunk whether it is taken for a voice."""
    detector = LevelDetector()
    chunks = to_float32(samples[: len(samples) // CHUNK * CHUNK]).reshape(1, -1, CHUNK)
    found, _ = detector.advance(chunks, detector.initial_state()[np.newaxis])
    return [bool(probability >= 0.5) for probability in found[0]]


def test_speech_is_heard_and_silence_is_not() -> None:
    """On a quiet line the voice is told from the rest to the chunk."""
    speech = spoken("Good evening.", RATE_HZ)
    found = voiced(scene(512, speech, 512, sample_rate_hz=RATE_HZ))

    assert not any(found[:15])
    assert np.mean(found[16 : 16 + len(speech) // CHUNK]) > 0.7
    assert not any(found[-12:])


def test_steady_noise_becomes_the_floor() -> None:
    """Noise that goes on is silence after some seconds, and a voice above it is heard."""
    noise = with_noise(np.zeros(20 * RATE_HZ, np.int16), -45)
    found = voiced(np.concatenate((noise, with_noise(spoken("Good evening.", RATE_HZ), -45))))

    assert not any(found[len(found) // 2 : 600])
    assert any(found[625:])


def test_levels() -> None:
    """Levels are those of a full-scale square wave, and digital silence is the lowest there is."""
    rows = np.array([[1.0, -1.0], [0.1, 0.1], [0.0, 0.0]], np.float32)

    assert [0.0, -20.0, -120.0] == np.round(levels_dbov(rows), 3).tolist()


def test_streams_have_floors_of_their_own() -> None:
    """Each row is judged by its own state."""
    detector = LevelDetector()
    quiet, loud = np.zeros((1, 512), np.float32), np.full((1, 512), 0.5, np.float32)
    found, states = detector.advance(np.stack((quiet, loud)), np.array([[-60], [-60]], np.float32))

    assert [[0.0], [1.0]] == found.tolist()
    assert states[0, 0] < states[1, 0]
