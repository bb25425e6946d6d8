"""Whether the caller has spoken, by its level."""

import numpy as np
import pytest

from media.frames import Samples, split_frames
from sip_agent.handlers.realtime.unheard import Unheard
from sip_agent.testing import speech_like


def quiet(duration_ms: int) -> Samples:
    """Return silence."""
    return np.zeros(16 * duration_ms, np.int16)


def times_heard(*sounds: Samples) -> int:
    """Return how often the caller has spoken and fallen silent."""
    unheard = Unheard()
    return sum(unheard.hear(frame) for frame in split_frames(np.concatenate(sounds), 16_000))


@pytest.mark.parametrize(
    ("spoken_ms", "quiet_ms", "times"),
    [(1000, 1000, 1), (1000, 300, 0), (400, 5000, 0)],
    ids=["a sentence", "before its end", "a cough"],
)
def test_once(spoken_ms: int, quiet_ms: int, times: int) -> None:
    """A caller has spoken who was loud for a while, and is quiet now."""
    assert times == times_heard(quiet(500), speech_like(spoken_ms), quiet(quiet_ms))


def test_again() -> None:
    """Each time counts, once; a word and another one are a sentence."""
    sentence, word, pause = speech_like(1000), speech_like(500), quiet(1000)

    assert 2 == times_heard(pause, sentence, pause, pause, sentence, pause)
    assert 1 == times_heard(pause, word, pause, word, pause)


def test_noise() -> None:
    """A line that is noisy all the time is no caller who speaks."""
    noise = np.random.default_rng(1).normal(0, 1000, 16_000 * 5).astype(np.int16)

    assert 0 == times_heard(noise, quiet(1000))
