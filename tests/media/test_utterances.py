"""Utterances found in streams of speech, with the sound that belongs to them."""

from itertools import pairwise

import numpy as np
import pytest

from media.endpointing import Endpointing, SpeechPhase
from media.frames import Samples
from media.silero import SileroDetector
from media.utterances import Finding, SpokenSound, UtteranceFinder, find_utterances
from media.vad import LevelDetector, VoiceDetector
from tests.media.voices import scene, spoken, with_noise

TEXTS = (
    "Good evening, I would like to book a table for two people.",
    "Yes.",
    "Tomorrow at eight o'clock, please, and thank you very much.",
)


def find(
    samples: Samples, rate_hz: int, detector: VoiceDetector, *, piece_ms: int = 20, rules: Endpointing | None = None
) -> list[Finding]:
    """Return what is found in a stream that comes piece by piece."""
    finder = UtteranceFinder(rate_hz, rules or Endpointing(), detector.initial_state())
    size = rate_hz * piece_ms // 1000
    found: list[Finding] = []
    for start in range(0, len(samples), size):
        finder.take(samples[start : start + size].tobytes())
        found += find_utterances(detector, [finder])[0]
    return [*found, *finder.end()]


def utterances(findings: list[Finding]) -> list[SpokenSound]:
    """Return the utterances among findings."""
    return [finding for finding in findings if isinstance(finding, SpokenSound)]


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 48_000])
@pytest.mark.parametrize("noise_dbov", [-90, -50, -35])
def test_sentences_are_found_where_they_are(rate_hz: int, noise_dbov: float) -> None:
    """Each sentence is one utterance, to a tenth of a second or two, also with noise 15 dB below the voice."""
    sounds = [spoken(text, rate_hz) for text in TEXTS]
    samples = scene(1000, sounds[0], 1200, sounds[1], 1200, sounds[2], 1000, sample_rate_hz=rate_hz)
    truth, position = [], 1000.0
    for sound in sounds:
        duration_ms = len(sound) * 1000 / rate_hz
        truth.append((position, position + duration_ms))
        position += duration_ms + 1200

    found = utterances(find(with_noise(samples, noise_dbov), rate_hz, SileroDetector()))

    assert len(TEXTS) == len(found)
    for utterance, (started_ms, ended_ms) in zip(found, truth, strict=True):
        assert utterance.started_ms == pytest.approx(started_ms, abs=150)
        assert utterance.ended_ms == pytest.approx(ended_ms, abs=250)


def test_the_sound_is_that_of_the_utterance() -> None:
    """The samples are those from the pre-roll to the end, unchanged."""
    samples = scene(3000, spoken(TEXTS[0], 8000), 2000, sample_rate_hz=8000)
    (utterance,) = utterances(find(samples, 8000, SileroDetector()))

    first, last = (utterance.started_ms - 200) * 8, utterance.ended_ms * 8
    assert np.array_equal(samples[first:last], utterance.samples)


def test_the_sizes_of_the_pieces_make_no_difference() -> None:
    """Frames, blocks or single milliseconds: the findings are the same."""
    samples = scene(500, spoken(TEXTS[0], 16_000), 1000, spoken(TEXTS[1], 16_000), 900, sample_rate_hz=16_000)
    expected = find(samples, 16_000, LevelDetector())

    for piece_ms in (1, 33, 100, 5000):
        found = find(samples, 16_000, LevelDetector(), piece_ms=piece_ms)
        assert [type(item) for item in expected] == [type(item) for item in found]
        assert [(item.started_ms, item.ended_ms, item.samples.tobytes()) for item in utterances(expected)] == [
            (item.started_ms, item.ended_ms, item.samples.tobytes()) for item in utterances(found)
        ]


def test_a_cough_is_no_utterance() -> None:
    """What is too short for speech starts and ends, and that is all."""
    knock = with_noise(np.zeros(8000 * 100 // 1000, np.int16), -15)
    found = find(scene(800, knock, 900, sample_rate_hz=8000), 8000, LevelDetector())

    assert [SpeechPhase.STARTED, SpeechPhase.ENDED] == [
        finding.phase for finding in found if not isinstance(finding, SpokenSound)
    ]
    assert [] == utterances(found)


def test_speech_without_end_is_divided_without_loss() -> None:
    """A long speech comes in pieces that follow each other."""
    rules = Endpointing(max_utterance_ms=2000, pre_roll_ms=0, start_ms=20)
    loud = with_noise(np.zeros(8000 * 7, np.int16), -15)
    found = utterances(find(loud, 8000, LevelDetector(), rules=rules))

    assert 3 <= len(found)
    assert all(earlier.ended_ms == later.started_ms for earlier, later in pairwise(found))
    joined = np.concatenate([utterance.samples for utterance in found])
    assert np.array_equal(loud[: len(joined)], joined)


def test_little_sound_is_kept_while_nobody_speaks() -> None:
    """An hour of silence takes no more memory than a second of it."""
    detector = LevelDetector()
    finder = UtteranceFinder(8000, Endpointing(), detector.initial_state())
    for _ in range(1000):
        finder.take(bytes(320))
        find_utterances(detector, [finder])

    assert sum(len(piece) for piece in finder._kept) <= 16_000


def test_streams_of_different_length() -> None:
    """Streams that wait with more or fewer chunks are each judged to their end."""
    detector = LevelDetector()
    finders = [UtteranceFinder(8000, Endpointing(), detector.initial_state()) for _ in range(3)]
    loud = with_noise(np.zeros(8000, np.int16), -15)
    for finder, length in zip(finders, (0, 4000, 8000), strict=True):
        finder.take(loud[:length].tobytes())
    found = find_utterances(detector, finders)

    assert [0, 2, 2] == [len(findings) for findings in found]
    assert [0, 0, 0] == [len(finder.waiting) for finder in finders]
