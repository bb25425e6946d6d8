"""[speech] of the settings file: what makes speech of text, and text of speech."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator

from sip_agent.config.secret_files import secret_or_file
from sip_agent.config.section import Section
from sip_agent.config.values import BaseUrl, Name, OptionalPath, PositiveDuration, SettingsPath, WholeNumber


class EspeakSettings(Section):
    """[speech.espeak]: the synthesizer that needs no network."""

    words_per_minute: Annotated[WholeNumber, Field(ge=80, le=450)] = Field(160, description="how fast it speaks")


class OpenAiSettings(Section):
    """[speech.openai]: a server with OpenAI's audio API, for the synthesizer and the recognizer of this name."""

    base_url: BaseUrl = Field(
        "https://api.openai.com/v1", description="where the API is; your own server has another place"
    )
    api_key_file: OptionalPath = Field(None, description="file with the API key, instead of api_key")
    api_key: SecretStr = Field(SecretStr(""), description="API key; better from the environment or a file")
    model: Name = Field("gpt-4o-mini-tts", description="model that speaks")
    transcription_model: Name = Field("gpt-4o-mini-transcribe", description="model that recognises speech")
    language: str = Field("", description='language of the callers, like "en" (ISO 639-1); empty: the model finds out')
    timeout: PositiveDuration = Field(
        timedelta(seconds=10), description="how long the server may be silent before a request has failed"
    )

    _api_key_from_file = field_validator("api_key")(secret_or_file)


class WhisperSettings(Section):
    """[speech.whisper]: the recognizer faster-whisper."""

    model: Name = Field("base.en", description="name of a Whisper model that was fetched before, or its folder")
    language: str = Field("", description='language of the callers, like "en" (ISO 639-1); empty: the model finds out')
    device: Name = Field("auto", description="cpu, cuda, or auto for the better one that is there")
    cpu_threads: WholeNumber = Field(
        0, ge=0, description="threads on the CPU; 0: half of the processors, so that calls keep the others"
    )


class PocketsphinxSettings(Section):
    """[speech.pocketsphinx]: the recognizer for tests and demonstrations; English."""

    grammar_file: OptionalPath = Field(
        None, description="JSGF grammar of what callers may say, which makes it far more accurate; empty: anything"
    )


class SpeechSettings(Section):
    """[speech]: synthesis for `call.say`, recognition for `call.utterances`."""

    synthesizer: Name = Field("espeak", description="what speaks: espeak, openai, or one that another package brings")
    voice: str = Field("", description='its voice, like "en-us" (espeak) or "alloy" (openai); empty: its default')
    recognizer: str = Field(
        "", description="what recognises speech: openai, faster-whisper, pocketsphinx, …; empty: nothing does"
    )
    cache_dir: SettingsPath = Field(Path("speech-cache"), description="folder that keeps synthesised speech")
    cache_mb: WholeNumber = Field(
        256, ge=0, description="most megabytes of it, the longest unused goes first; 0 keeps none"
    )
    synthesizer_options: dict[str, Any] = Field(
        default_factory=dict, description="further options that the synthesizer is given, if another package brings it"
    )
    recognizer_options: dict[str, Any] = Field(
        default_factory=dict, description="further options that the recognizer is given, if another package brings it"
    )
    espeak: EspeakSettings = Field(default_factory=EspeakSettings, description="the synthesizer espeak")
    openai: OpenAiSettings = Field(default_factory=OpenAiSettings, description="a server with OpenAI's audio API")
    whisper: WhisperSettings = Field(default_factory=WhisperSettings, description="the recognizer faster-whisper")
    pocketsphinx: PocketsphinxSettings = Field(
        default_factory=PocketsphinxSettings, description="the recognizer pocketsphinx"
    )
