"""[hearing] of the settings file: when a caller speaks, and where digits are heard."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from media.endpointing import Endpointing
from sip_agent.config.section import Section
from sip_agent.config.values import Duration, PositiveDuration, at_most
from sip_agent.digits import InBandDtmf

_DEFAULTS = Endpointing()


class DetectorChoice(StrEnum):
    """What tells a voice from other sound."""

    SILERO = "silero"
    LEVELS = "levels"


class HearingSettings(Section):
    """[hearing]: voice activity and end-pointing, for `call.utterances`, `call.speech` and barge-in; in-band DTMF.

    Durations have limits: so much sound of each call is kept in memory.
    """

    detector: DetectorChoice = Field(
        DetectorChoice.SILERO,
        description="what tells a voice from noise: the silero model, or levels alone (music and knocks count too)",
    )
    threshold: Annotated[float, Field(ge=0.2, le=0.95)] = Field(
        _DEFAULTS.threshold, description="how sure the detector must be of a voice; higher hears less, and less noise"
    )
    speech_start: Annotated[PositiveDuration, at_most(timedelta(seconds=5))] = Field(
        timedelta(milliseconds=_DEFAULTS.start_ms),
        description="voice that makes a start of speech; shorter interrupts sooner, also on a click",
    )
    end_silence: Annotated[PositiveDuration, at_most(timedelta(seconds=30))] = Field(
        timedelta(milliseconds=_DEFAULTS.end_silence_ms),
        description="silence that ends an utterance; shorter answers sooner, also into a pause for breath",
    )
    min_speech: Duration = Field(
        timedelta(milliseconds=_DEFAULTS.min_speech_ms),
        description="voice that makes an utterance; less is a cough, and a paused playback goes on",
    )
    max_utterance: Annotated[PositiveDuration, at_most(timedelta(minutes=5))] = Field(
        timedelta(milliseconds=_DEFAULTS.max_utterance_ms), description="longest utterance; a longer one is divided"
    )
    pre_roll: Annotated[Duration, at_most(timedelta(seconds=5))] = Field(
        timedelta(milliseconds=_DEFAULTS.pre_roll_ms), description="sound before its start that an utterance keeps"
    )
    in_band_dtmf: InBandDtmf = Field(
        InBandDtmf.AUTO,
        description="look for digits in the sound: auto where the caller offers no telephone-event, always, never",
    )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.max_utterance <= self.min_speech:
            raise ValueError("max_utterance is not longer than min_speech: no utterance could ever be heard")
        return self

    @property
    def endpointing(self) -> Endpointing:
        """The rules by which speech starts and ends."""
        return Endpointing(
            threshold=self.threshold,
            start_ms=_milliseconds(self.speech_start),
            end_silence_ms=_milliseconds(self.end_silence),
            min_speech_ms=_milliseconds(self.min_speech),
            max_utterance_ms=_milliseconds(self.max_utterance),
            pre_roll_ms=_milliseconds(self.pre_roll),
        )


def _milliseconds(duration: timedelta) -> int:
    return round(duration / timedelta(milliseconds=1))
