"""Speech by levels: louder than the floor, which follows the line."""

import numpy as np

from media.frames import Samples
from media.loudness import LOOK_MS, Loudness
from media.tones import ToneGenerator

RATE_HZ = 8000
FRAME = RATE_HZ // 50


def looks(loudness: Loudness, level_dbov: float | None, ms: int) -> list[bool]:
    """Return what is said of a tone, or of silence, that lasts so long."""
    sound: Samples = np.zeros(RATE_HZ * ms // 1000, np.int16)
    if level_dbov is not None:
        sound = ToneGenerator(500, RATE_HZ, level_dbov=level_dbov).next(len(sound))
    answers = [loudness.hear(frame) for frame in sound.reshape(-1, FRAME)]
    assert len(answers) // (LOOK_MS // 20) == sum(answer is not None for answer in answers)
    return [answer for answer in answers if answer is not None]


def test_speech_stands_out() -> None:
    """A voice 12 dB above the noise of its line is speech; the noise itself is none, nor is it in a quiet line."""
    loudness = Loudness()
    assert not any(looks(loudness, -50, 1000))
    assert all(looks(loudness, -35, 1000))
    assert not any(looks(loudness, -50, 1000))
    assert not any(looks(loudness, None, 1000))
    assert not any(looks(loudness, -65, 1000))


def test_a_line_that_becomes_noisier() -> None:
    """The floor rises by 1 dB a second: noise that stays is speech for so long only."""
    loudness = Loudness()
    looks(loudness, -55, 1000)
    heard = looks(loudness, -40, 10_000)
    assert all(heard[:20])
    assert not any(heard[-50:])
