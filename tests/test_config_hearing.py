"""[hearing] of the settings file."""

from pathlib import Path

import pytest

from media.endpointing import Endpointing
from sip_agent.config import Settings, load_settings
from sip_agent.config.hearing import DetectorChoice
from sip_agent.digits import InBandDtmf
from sip_agent.errors import SettingsError

pytestmark = pytest.mark.usefixtures("own_environment")


def load(text: str) -> Settings:
    """Load settings from a file with this text."""
    Path("sip-agent.toml").write_text(text, encoding="utf-8")
    return load_settings()


def test_defaults() -> None:
    """The defaults are those of the end-pointing itself, with the model, and tones where there is no other way."""
    hearing = load("").hearing

    assert hearing.detector is DetectorChoice.SILERO
    assert hearing.in_band_dtmf is InBandDtmf.AUTO
    assert Endpointing() == hearing.endpointing


def test_all_of_it() -> None:
    """Each setting reaches the end-pointing, in milliseconds."""
    text = """
    [hearing]
    detector = "levels"
    threshold = 0.7
    speech_start = "100ms"
    end_silence = "1.2s"
    min_speech = "150ms"
    max_utterance = "20s"
    pre_roll = 0
    in_band_dtmf = "always"
    """
    hearing = load(text).hearing

    assert hearing.detector is DetectorChoice.LEVELS
    assert hearing.in_band_dtmf is InBandDtmf.ALWAYS
    assert hearing.endpointing == Endpointing(
        threshold=0.7, start_ms=100, end_silence_ms=1200, min_speech_ms=150, max_utterance_ms=20_000, pre_roll_ms=0
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("threshold = 1.5", "hearing.threshold"),
        ('detector = "magic"', "hearing.detector"),
        ('end_silence = "0s"', "hearing.end_silence"),
        ('max_utterance = "100ms"', "max_utterance is not longer than min_speech"),
        ('speech_start = "1h"', 'hearing.speech_start = "1h": write a duration up to 5s'),
        ('end_silence = "1h"', 'hearing.end_silence = "1h": write a duration up to 30s'),
        ('min_speech = "1h"', "max_utterance is not longer than min_speech"),
        ('max_utterance = "10m"', 'hearing.max_utterance = "10m": write a duration up to 5m'),
        ('pre_roll = "6s"', 'hearing.pre_roll = "6s": write a duration up to 5s'),
        ('in_band_dtmf = "sometimes"', "hearing.in_band_dtmf"),
    ],
)
def test_what_makes_no_sense(line: str, message: str) -> None:
    """A mistake names its key and what to write."""
    with pytest.raises(SettingsError, match=message):
        load(f"[hearing]\n{line}\n")
