"""`Speech`, what a call needs to say a text and to understand the caller."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any, Self

import numpy as np

from media.frames import Samples
from sip_agent.config.speech import SpeechSettings
from sip_agent.errors import SpeechError
from sip_agent.speech.cache import SoundCache
from sip_agent.speech.engines import Recognizer, Synthesizer, build_recognizer, build_synthesizer

MAX_CHARACTERS = 4096
"""What OpenAI's API takes as one text (createSpeech, `input`); about five minutes of speech."""

MAX_SOUND_S = 600
"""A server that sends more for one text does not speak it."""

MAX_WAITING = 32
"""Utterances that may wait for the recognizer: more means that it is slower than the callers."""


class Speech:
    """The speech services of the agent, the same for all calls.

    Sound that `synthesizer` made is kept in `cache`, where `name` tells it from another's; without a `recognizer`,
    nothing is recognised.
    """

    def __init__(
        self,
        synthesizer: Synthesizer,
        *,
        recognizer: Recognizer | None = None,
        cache: SoundCache | None = None,
        name: str = "",
    ) -> None:
        self._synthesizer = synthesizer
        self._recognizer = recognizer
        self._cache = cache
        self._name = name
        self._waiting = 0

    @classmethod
    def from_settings(cls, settings: SpeechSettings, base_dir: Path) -> Self:
        """Build what the settings name; takes seconds where a model is loaded.

        Raises SettingsError for an engine that is not there, or that cannot work with its options.
        """
        synthesizer = build_synthesizer(settings.synthesizer, settings.voice, _synthesizer_options(settings), base_dir)
        recognizer = None
        if settings.recognizer:
            recognizer = build_recognizer(settings.recognizer, _recognizer_options(settings, base_dir), base_dir)
        cache = None
        if settings.cache_mb:
            cache = SoundCache(base_dir / settings.cache_dir, settings.cache_mb * 1_000_000)
        name = json.dumps([settings.synthesizer, settings.voice])
        return cls(synthesizer, recognizer=recognizer, cache=cache, name=name)

    async def synthesize(
        self, text: str, *, voice: str | None = None, sample_rate_hz: int
    ) -> AsyncGenerator[Samples, None]:
        """Yield the speech of a text piece by piece: int16 mono at `sample_rate_hz`; nothing for a blank text.

        `voice` None is that of the settings. A text is a sentence or a few (`split_sentences` makes such of a long
        one). Raises SpeechError, also where a text with letters or digits makes no sound.
        """
        if not text.strip():
            return
        if len(text) > MAX_CHARACTERS:
            raise SpeechError(
                f"a text of {len(text)} characters is too long to say at once: divide it; {MAX_CHARACTERS} is the most"
            )
        key = json.dumps([self._name, self._synthesizer.fingerprint, voice, text, sample_rate_hz])
        if self._cache is not None and (kept := await self._cache.load(key)) is not None and len(kept):
            yield kept
            return
        pieces: list[Samples] = []
        room = MAX_SOUND_S * sample_rate_hz
        async with aclosing(self._made(text, voice, sample_rate_hz)) as made:
            async for piece in made:
                room -= len(piece)
                if room < 0:
                    raise SpeechError(f"the synthesizer made more than {MAX_SOUND_S} s of sound of one text")
                pieces.append(piece)
                yield piece
        if not any(map(len, pieces)):
            if any(map(str.isalnum, text)):
                raise SpeechError(f"the synthesizer made no sound of {text[:60]!r}")
        elif self._cache is not None:
            await self._cache.store(key, np.concatenate(pieces))

    async def _made(self, text: str, voice: str | None, sample_rate_hz: int) -> AsyncGenerator[Samples, None]:
        try:
            sound = self._synthesizer.synthesize(text, voice=voice, sample_rate_hz=sample_rate_hz)
            async with aclosing(sound):
                async for piece in sound:
                    yield piece
        except SpeechError:
            raise
        except Exception as error:  # a stranger's synthesizer may fail in any way
            raise SpeechError(f"the synthesizer failed: {type(error).__name__}: {error}") from error

    async def recognize(self, samples: Samples, sample_rate_hz: int) -> str | None:
        """Return what was said in an utterance (int16 mono): "" for nothing, None where no recognizer is set.

        Raises SpeechError, also at once when the recognizer does not keep up with the callers.
        """
        if self._recognizer is None:
            return None
        if not len(samples):
            return ""
        if self._waiting >= MAX_WAITING:
            raise SpeechError(
                f"{self._waiting} utterances wait for the recognizer: it is slower than the callers; "
                "take a smaller model, or set speech.recognizer to a faster one"
            )
        self._waiting += 1
        try:
            return (await self._recognizer.recognize(samples, sample_rate_hz)).strip()
        except SpeechError:
            raise
        except Exception as error:  # as above
            raise SpeechError(f"the recognizer failed: {type(error).__name__}: {error}") from error
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """Let go of connections, threads and processes."""
        await self._synthesizer.close()
        if self._recognizer is not None:
            await self._recognizer.close()
        if self._cache is not None:
            self._cache.close()


def _synthesizer_options(settings: SpeechSettings) -> dict[str, Any]:
    match settings.synthesizer:
        case "espeak":
            return {"words_per_minute": settings.espeak.words_per_minute, **settings.synthesizer_options}
        case "openai":
            return {**_server(settings), "model": settings.openai.model, **settings.synthesizer_options}
        case _:
            return settings.synthesizer_options


def _recognizer_options(settings: SpeechSettings, base_dir: Path) -> dict[str, Any]:
    own: dict[str, Any] = {}
    match settings.recognizer:
        case "openai":
            openai = settings.openai
            own = {**_server(settings), "model": openai.transcription_model, "language": openai.language}
        case "faster-whisper":
            whisper = settings.whisper
            folder = base_dir / whisper.model
            own = {**dict(whisper), "model": str(folder) if folder.is_dir() else whisper.model}
        case "pocketsphinx":
            own = dict(settings.pocketsphinx)
    return {**own, **settings.recognizer_options}


def _server(settings: SpeechSettings) -> dict[str, Any]:
    openai = settings.openai
    return {
        "base_url": openai.base_url,
        "api_key": openai.api_key.get_secret_value(),
        "timeout": openai.timeout,
    }
