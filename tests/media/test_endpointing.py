"""End-pointing: what a row of probabilities means."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.endpointing import Endpointer, Endpointing, SpeechChange, SpeechPhase

STEP_MS = 20
RULES = Endpointing(
    threshold=0.5, start_ms=60, end_silence_ms=200, min_speech_ms=160, max_utterance_ms=2000, pre_roll_ms=0
)


def changes(*runs: tuple[float, int], rules: Endpointing = RULES) -> list[tuple[str, int]]:
    """Return what runs of (probability, milliseconds) lead to."""
    endpointer = Endpointer(rules, STEP_MS)
    found: list[SpeechChange] = []
    for probability, duration_ms in runs:
        for _ in range(duration_ms // STEP_MS):
            found += endpointer.advance(probability)
    return [(change.phase.value, change.at_ms) for change in found]


def test_speech_starts_is_confirmed_and_ends() -> None:
    """Start and end are where the voice was, not where it was decided."""
    assert [("started", 100), ("confirmed", 260), ("ended", 500)] == changes((0, 100), (0.9, 400), (0, 200))


def test_a_click_is_no_speech() -> None:
    """Voice that does not last starts nothing."""
    assert [] == changes((0, 100), (0.9, 40), (0, 100), (0.9, 40), (0, 400))


def test_a_cough_is_never_confirmed() -> None:
    """What starts and stops before it is long enough is speech, but no utterance."""
    assert [("started", 0), ("ended", 100)] == changes((0.9, 100), (0, 400))


def test_a_pause_for_breath_ends_nothing() -> None:
    """Silence within speech that is shorter than the limit belongs to it."""
    assert [("started", 0), ("confirmed", 160), ("ended", 780)] == changes((0.9, 300), (0, 180), (0.9, 300), (0, 300))


def test_speech_goes_on_a_little_below_the_threshold() -> None:
    """What starts needs the threshold; what goes on needs less: a voice that sinks is not cut."""
    assert [] == changes((0.4, 1000))
    assert [("started", 0), ("confirmed", 160), ("ended", 1160)] == changes((0.9, 160), (0.4, 1000), (0, 300))


def test_speech_without_end_is_divided() -> None:
    """The longest utterance ends, and the next starts at once."""
    found = changes((0.9, 3000))

    assert ("ended", 2000) in found
    assert ("started", 2000) in found


def test_the_end_of_the_stream_ends_speech() -> None:
    """Speech that goes on when the call is over has ended with it."""
    endpointer = Endpointer(RULES, STEP_MS)
    for _ in range(10):
        endpointer.advance(0.9)

    assert [SpeechChange(phase=SpeechPhase.ENDED, at_ms=200)] == list(endpointer.end())
    assert [] == list(endpointer.end())


@given(st.lists(st.floats(0, 1), max_size=400), st.sampled_from([20, 32]))
def test_phases_alternate_and_times_never_go_back(probabilities: list[float], step_ms: int) -> None:
    """Whatever comes: started, perhaps confirmed, ended, and again; each not before the last."""
    endpointer = Endpointer(RULES, step_ms)
    found = [change for probability in probabilities for change in endpointer.advance(probability)]
    found += endpointer.end()

    phases = "".join(change.phase[0] for change in found)
    assert "" == phases.replace("sce", "").replace("se", "")
    for earlier, later in pairwise(found):
        if later.phase is not SpeechPhase.ENDED or earlier.phase is SpeechPhase.STARTED:
            assert earlier.at_ms <= later.at_ms


@pytest.mark.parametrize("step_ms", [20, 32])
def test_the_shortest_start_is_one_step(step_ms: int) -> None:
    """However short `start_ms` is, one step of voice is needed."""
    endpointer = Endpointer(Endpointing(start_ms=0), step_ms)

    assert [] == list(endpointer.advance(0.0))
    assert [SpeechPhase.STARTED] == [change.phase for change in endpointer.advance(1.0)]
