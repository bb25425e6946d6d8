"""The synthesizer `espeak`, with the real library."""

import asyncio
import threading
from collections.abc import AsyncIterator

import numpy as np
import pytest

from media.frames import Samples
from media.levels import level_dbov
from sip_agent.errors import SettingsError, SpeechError
from sip_agent.speech.espeak import EspeakSynthesizer

TEXT = "Good evening, how many people will come tonight?"


@pytest.fixture
async def espeak() -> AsyncIterator[EspeakSynthesizer]:
    """Build the synthesizer."""
    made = EspeakSynthesizer()
    yield made
    await made.close()


async def speak(synthesizer: EspeakSynthesizer, text: str, voice: str | None = None, rate_hz: int = 16000) -> Samples:
    """Return the whole speech of a text."""
    return np.concatenate([piece async for piece in synthesizer.synthesize(text, voice=voice, sample_rate_hz=rate_hz)])


@pytest.mark.parametrize("rate_hz", [8000, 16000, 48000])
async def test_speech_at_the_rate_of_the_call(espeak: EspeakSynthesizer, rate_hz: int) -> None:
    """A text becomes loud sound of a plausible length, whatever the rate."""
    sound = await speak(espeak, TEXT, rate_hz=rate_hz)

    assert np.int16 == sound.dtype
    assert 2.0 < len(sound) / rate_hz < 4.0
    assert -30 < level_dbov(sound) < -10


async def test_no_silence_after_the_last_word(espeak: EspeakSynthesizer) -> None:
    """What comes after a sentence is for the one who says it."""
    sound = await speak(espeak, "Hello there.")

    assert np.abs(sound[-800:]).max() > 100


async def test_voices_and_speed_are_told_apart(espeak: EspeakSynthesizer) -> None:
    """A voice for one text and the speed of a synthesizer hold for it alone, though the library has one state."""
    quick = EspeakSynthesizer(voice="en-us+f2", words_per_minute=320)
    texts = [speak(espeak, TEXT), speak(quick, TEXT), speak(espeak, TEXT, voice="de"), speak(espeak, TEXT)]
    first, fast, german, again = await asyncio.gather(*texts)
    await quick.close()

    assert len(first) == pytest.approx(len(again), rel=0.01)
    assert len(first) != pytest.approx(len(german), rel=0.03)
    assert len(first) > 1.5 * len(fast)
    assert quick.fingerprint != espeak.fingerprint


@pytest.mark.parametrize(
    "text",
    ["...", "\0", "a\0b", "\ud800", "<speak>x</speak>", "[[h@'loU]]", "🙂", "%n%s", "9" * 500, "\x1b[2J", "()" * 1000],
)
async def test_any_text(espeak: EspeakSynthesizer, text: str) -> None:
    """Whatever a text contains, the next one is spoken."""
    await speak(espeak, text)

    assert len(await speak(espeak, "Hello.")) > 1000


async def test_text_is_not_cut_at_a_zero(espeak: EspeakSynthesizer) -> None:
    """A zero byte, which ends texts in C, does not end this one."""
    assert len(await speak(espeak, f"Hello.\0{TEXT}")) > len(await speak(espeak, TEXT))


async def test_markup_is_text(espeak: EspeakSynthesizer) -> None:
    """What looks like SSML has no power: nothing is read from files."""
    silent = await speak(espeak, "one two")

    assert len(await speak(espeak, '<audio src="/etc/passwd"/>one two')) > len(silent)


def test_an_unknown_voice_in_the_settings() -> None:
    """The setting is named, with what to write."""
    with pytest.raises(SettingsError, match=r'speech\.voice = "xx-nope": espeak has no such voice; .*en-us\+f2'):
        EspeakSynthesizer(voice="xx-nope")


async def test_an_unknown_voice_in_a_call(espeak: EspeakSynthesizer) -> None:
    """A handler's voice that does not exist is an error, and no other voice's text."""
    with pytest.raises(SpeechError, match='espeak has no voice "xx-nope"'):
        await speak(espeak, "Hello.", voice="xx-nope")

    assert len(await speak(espeak, "Hello.")) > 1000


@pytest.mark.parametrize(
    "voice",
    [
        "en+" + "x" * 300,
        "en+" + "å" * 20,
        "x" * 5000,
        "en+f1+f2",
        "en\n",
        "\0",
        "\udc80",
        "../../../../etc/passwd",
        "+f2",
    ],
)
async def test_what_is_no_name_of_a_voice(espeak: EspeakSynthesizer, voice: str) -> None:
    """The library would abort the process over some: it never sees them, and the message is short."""
    with pytest.raises(SpeechError, match="espeak has no voice") as caught:
        await speak(espeak, "Hello.", voice=voice)

    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "voice", ["gmw/en-US-nyc", "Norwegian Bokmål", "English (America)+Mr serious", "en+UniRobot", "fr+5"]
)
async def test_names_of_voices(espeak: EspeakSynthesizer, voice: str) -> None:
    """Voices go by their file, their name or their language, with the name or number of a variant."""
    assert len(await speak(espeak, "Hello.", voice=voice)) > 1000


async def test_the_interpreter_goes_on(espeak: EspeakSynthesizer) -> None:
    """While the library speaks, other threads run: it holds no lock of the interpreter."""
    counted = 0
    stop = threading.Event()

    def count() -> None:
        nonlocal counted
        while not stop.is_set():
            counted += 1

    counter = threading.Thread(target=count)
    counter.start()
    task = asyncio.create_task(speak(espeak, TEXT * 40))
    await asyncio.sleep(0)
    before = counted
    await task
    stop.set()
    counter.join()

    assert counted > before
