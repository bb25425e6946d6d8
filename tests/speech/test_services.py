"""`Speech`: what a call is given."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from aiohttp import web

from media.frames import Samples
from media.wav_stream import wav_bytes
from sip_agent.config.speech import OpenAiSettings, SpeechSettings
from sip_agent.errors import SettingsError, SpeechError
from sip_agent.speech import Speech
from sip_agent.speech.cache import SoundCache
from sip_agent.speech.services import MAX_CHARACTERS, MAX_SOUND_S, MAX_WAITING
from tests.speech.openai_server import KEY, openai_server


class StrangersVoice:
    """Say each word as one piece of a second, and count the texts."""

    fingerprint = "1.0"

    def __init__(self) -> None:
        self.texts: list[tuple[str, str | None]] = []
        self.closed = False
        self.ended = asyncio.Event()
        self.word: Callable[[int], Samples] = lambda rate_hz: np.full(rate_hz, 7, np.int16)

    async def synthesize(self, text: str, *, voice: str | None, sample_rate_hz: int) -> AsyncGenerator[Samples, None]:
        """See `Synthesizer`."""
        self.texts.append((text, voice))
        try:
            for _ in text.split():
                yield self.word(sample_rate_hz)
        finally:
            self.ended.set()

    async def close(self) -> None:
        """See `Synthesizer`."""
        self.closed = True


class StrangersEar:
    """Understand what it is told to, when it is let."""

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.text: str | Exception = " yes, please\n"
        self.closed = False

    async def recognize(self, samples: Samples, sample_rate_hz: int) -> str:
        """See `Recognizer`."""
        assert len(samples) == sample_rate_hz
        await self.let.wait()
        if isinstance(self.text, Exception):
            raise self.text
        return self.text

    async def close(self) -> None:
        """See `Recognizer`."""
        self.closed = True


@pytest.fixture
async def voice() -> StrangersVoice:
    """Make a synthesizer."""
    return StrangersVoice()


@pytest.fixture
async def ear() -> StrangersEar:
    """Make a recognizer."""
    return StrangersEar()


@pytest.fixture
async def speech(voice: StrangersVoice, ear: StrangersEar, tmp_path: Path) -> AsyncIterator[Speech]:
    """Make speech services of the two, with a cache."""
    made = Speech(voice, recognizer=ear, cache=SoundCache(tmp_path / "cache", 1_000_000))
    yield made
    await made.close()


async def pieces_of(speech: Speech, text: str, voice: str | None = None, rate_hz: int = 100) -> list[int]:
    """Return the lengths of the pieces of a text."""
    return [len(piece) async for piece in speech.synthesize(text, voice=voice, sample_rate_hz=rate_hz)]


async def test_each_text_is_made_once(speech: Speech, voice: StrangersVoice) -> None:
    """What was said is kept: the same text, voice and rate are not made again, and come in one piece."""
    assert [100, 100, 100] == await pieces_of(speech, "one two three")
    assert [300] == await pieces_of(speech, "one two three")
    assert [("one two three", None)] == voice.texts


async def test_what_tells_sounds_apart(speech: Speech, voice: StrangersVoice) -> None:
    """Another voice, rate, or version of the synthesizer makes another sound."""
    await pieces_of(speech, "one")
    await pieces_of(speech, "one", voice="f")
    await pieces_of(speech, "one", rate_hz=50)
    voice.fingerprint = "1.1"
    await pieces_of(speech, "one")

    assert 4 == len(voice.texts)


async def test_a_text_that_is_not_heard_out(speech: Speech, voice: StrangersVoice) -> None:
    """Half a text is not kept, and its synthesis ends with the listener."""
    async with aclosing(speech.synthesize("one two three", sample_rate_hz=100)) as sound:
        await anext(sound)

    assert voice.ended.is_set()
    assert [100, 100, 100] == await pieces_of(speech, "one two three")


@pytest.mark.parametrize("text", ["", "  ", "\n\t"])
async def test_a_blank_text(speech: Speech, voice: StrangersVoice, text: str) -> None:
    """Nothing is said for nothing."""
    assert [] == await pieces_of(speech, text)
    assert [] == voice.texts


async def test_no_sound_for_words(speech: Speech, voice: StrangersVoice) -> None:
    """A text with words that makes no sound is an error, and one without is silence; neither is kept."""
    good, voice.word = voice.word, lambda _: np.zeros(0, np.int16)
    with pytest.raises(SpeechError, match="the synthesizer made no sound of 'one'"):
        await pieces_of(speech, "one")
    assert [0] == await pieces_of(speech, "...")
    voice.word = good

    assert [100] == await pieces_of(speech, "one")
    assert [100] == await pieces_of(speech, "...")


async def test_a_text_without_end(speech: Speech) -> None:
    """A text that is no sentence is refused."""
    with pytest.raises(SpeechError, match=f"divide it; {MAX_CHARACTERS} is the most"):
        await pieces_of(speech, "x" * (MAX_CHARACTERS + 1))


async def test_sound_without_end(speech: Speech, voice: StrangersVoice) -> None:
    """A synthesizer that does not stop is stopped."""
    with pytest.raises(SpeechError, match=f"more than {MAX_SOUND_S} s of sound of one text"):
        await pieces_of(speech, "a " * (MAX_SOUND_S + 1))

    assert voice.ended.is_set()


async def test_a_synthesizer_that_fails(speech: Speech, voice: StrangersVoice) -> None:
    """Whatever a stranger's synthesizer raises is a SpeechError, and nothing is kept of it."""

    def fail(_: int) -> Samples:
        raise ZeroDivisionError("division by zero")

    good, voice.word = voice.word, fail
    with pytest.raises(SpeechError, match="the synthesizer failed: ZeroDivisionError: division by zero"):
        await pieces_of(speech, "one")
    voice.word = good

    assert [100] == await pieces_of(speech, "one")


async def test_recognition(speech: Speech, ear: StrangersEar) -> None:
    """An utterance becomes text, without the space around it."""
    ear.let.set()

    assert "yes, please" == await speech.recognize(np.zeros(8000, np.int16), 8000)


async def test_an_utterance_without_sound(speech: Speech) -> None:
    """No recognizer is asked what was said in no time."""
    assert "" == await speech.recognize(np.zeros(0, np.int16), 8000)


async def test_recognition_is_off_by_default(voice: StrangersVoice) -> None:
    """Without a recognizer there is no text, and no error."""
    assert await Speech(voice).recognize(np.zeros(8000, np.int16), 8000) is None
    assert "" == SpeechSettings().recognizer


async def test_a_recognizer_that_fails(speech: Speech, ear: StrangersEar) -> None:
    """Whatever a stranger's recognizer raises is a SpeechError."""
    ear.let.set()
    ear.text = RuntimeError("out of memory")
    with pytest.raises(SpeechError, match="the recognizer failed: RuntimeError: out of memory"):
        await speech.recognize(np.zeros(8000, np.int16), 8000)


async def test_a_recognizer_that_does_not_keep_up(speech: Speech, ear: StrangersEar) -> None:
    """Utterances do not pile up: one too many is refused at once, and room is made by those that are done."""
    utterance = np.zeros(8000, np.int16)
    waiting = [asyncio.create_task(speech.recognize(utterance, 8000)) for _ in range(MAX_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(SpeechError, match=f"{MAX_WAITING} utterances wait for the recognizer"):
        await speech.recognize(utterance, 8000)
    ear.let.set()

    assert {"yes, please"} == set(await asyncio.gather(*waiting))
    assert "yes, please" == await speech.recognize(utterance, 8000)


async def test_closing(speech: Speech, voice: StrangersVoice, ear: StrangersEar) -> None:
    """Whoever works for it is closed with it."""
    await speech.close()

    assert voice.closed
    assert ear.closed


@asynccontextmanager
async def opened(settings: SpeechSettings, folder: Path) -> AsyncIterator[Speech]:
    """Build speech services from settings, and close them."""
    speech = Speech.from_settings(settings, folder)
    try:
        yield speech
    finally:
        await speech.close()


def kept_in(folder: Path) -> list[Path]:
    """Return the files in a folder."""
    return list(folder.iterdir())


async def test_the_defaults(tmp_path: Path) -> None:
    """With no setting at all, espeak speaks, sound is kept beside the settings file, and nothing is recognised."""
    async with opened(SpeechSettings(), tmp_path) as speech:
        first = await pieces_of(speech, "Hello.", rate_hz=8000)

        assert first == await pieces_of(speech, "Hello.", rate_hz=8000)
        assert await speech.recognize(np.zeros(8000, np.int16), 8000) is None
    assert 1 == len(kept_in(tmp_path / "speech-cache"))


async def test_no_cache(tmp_path: Path) -> None:
    """A cache of no size keeps nothing."""
    async with opened(SpeechSettings(cache_mb=0), tmp_path) as speech:
        assert 1 == len(await pieces_of(speech, "Hello.", rate_hz=8000))
    assert [] == kept_in(tmp_path)


async def test_the_voice_of_the_settings_tells_sounds_apart(tmp_path: Path) -> None:
    """After a change of the voice, the old one's sound is not played."""
    for voice in ("en-us", "de"):
        async with opened(SpeechSettings(voice=voice), tmp_path) as speech:
            await pieces_of(speech, "Hello.", rate_hz=8000)

    assert 2 == len(kept_in(tmp_path / "speech-cache"))


async def test_openai_both_ways(tmp_path: Path) -> None:
    """One server and one key serve the synthesizer and the recognizer, each with its model."""
    async with openai_server() as server:
        settings = SpeechSettings.model_validate(
            {
                "synthesizer": "openai",
                "recognizer": "openai",
                "voice": "verse",
                "openai": {"base_url": server.url, "api_key": KEY, "language": "de"},
            }
        )
        async with opened(settings, tmp_path) as speech:
            assert 2400 == sum(await pieces_of(speech, "a" * 30, rate_hz=8000))
            assert "1000 ms at 8000 Hz, peak 0" == await speech.recognize(np.zeros(8000, np.int16), 8000)
    spoken, heard = server.requests

    assert (OpenAiSettings().model, "verse") == (spoken["model"], spoken["voice"])
    assert (OpenAiSettings().transcription_model, "de") == (heard["model"], heard["language"])


async def test_a_sentence_that_breaks_off(tmp_path: Path) -> None:
    """A server that announces more sound than it sends fails, and the fragment is not said again on the next call."""
    whole = wav_bytes(np.full(8000, 7, np.int16), 8000)
    async with openai_server() as server:
        settings = SpeechSettings.model_validate(
            {"synthesizer": "openai", "openai": {"base_url": server.url, "api_key": KEY}}
        )
        async with opened(settings, tmp_path) as speech:
            server.fault = lambda _: web.Response(body=whole[:4000])
            for _ in range(2):
                with pytest.raises(SpeechError, match="a WAV that breaks off: 12044 bytes of its sound are missing"):
                    await pieces_of(speech, "Hello.", rate_hz=8000)
            server.fault = lambda _: web.Response(body=whole)

            assert 8000 == sum(await pieces_of(speech, "Hello.", rate_hz=8000))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"synthesizer": "nope"}, r'speech\.synthesizer = "nope": there is: espeak, openai'),
        ({"synthesizer": "openai"}, r"speech\.openai\.api_key_file"),
        ({"recognizer": "openai"}, r"speech\.openai\.api_key_file"),
        ({"recognizer": "nope"}, r'speech\.recognizer = "nope": there is: faster-whisper'),
        ({"voice": "nope"}, r'speech\.voice = "nope"'),
        ({"synthesizer_options": {"pitch": 3}}, "it cannot be built: .*'pitch'; it takes: voice, words_per_minute"),
        ({"pocketsphinx": {"grammar_file": "no.gram"}, "recognizer": "pocketsphinx"}, "there is no file .*no.gram"),
    ],
)
def test_wrong_settings(tmp_path: Path, values: dict[str, object], message: str) -> None:
    """What is wrong shows when the agent starts, with the setting's name."""
    with pytest.raises(SettingsError, match=message):
        Speech.from_settings(SpeechSettings.model_validate(values), tmp_path)
