"""The recognizer `pocketsphinx`, for real, on what espeak says."""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from media.frames import Samples, silence
from sip_agent.errors import SettingsError, SpeechError
from sip_agent.speech.espeak import EspeakSynthesizer
from sip_agent.speech.pocketsphinx import PocketsphinxRecognizer

pytest.importorskip("pocketsphinx")

ORDER = """#JSGF V1.0;
grammar order;
public <order> = yes please | no thank you | a table for two people tonight | i would like to cancel ;
"""


@pytest.fixture(scope="module")
def grammar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a grammar of what callers may say."""
    path = tmp_path_factory.mktemp("grammar") / "order.gram"
    path.write_text(ORDER)
    return path


@pytest.fixture
async def recognizer(grammar: Path) -> AsyncIterator[PocketsphinxRecognizer]:
    """Start the recognizer."""
    made = PocketsphinxRecognizer(grammar_file=grammar)
    yield made
    await made.close()


async def said(text: str, rate_hz: int = 16000) -> Samples:
    """Return the sound of a text, as an utterance of a call has it."""
    espeak = EspeakSynthesizer(voice="en-us+f2", words_per_minute=150)
    sound = [piece async for piece in espeak.synthesize(text, sample_rate_hz=rate_hz)]
    await espeak.close()
    return np.concatenate([silence(250, rate_hz), *sound, silence(250, rate_hz)])


async def test_phrases_of_a_grammar(recognizer: PocketsphinxRecognizer) -> None:
    """What the grammar has is understood, at the rate of either kind of call."""
    for text in ("yes please", "no thank you", "a table for two people tonight", "I would like to cancel"):
        for rate_hz in (8000, 16000):
            assert text.lower() == await recognizer.recognize(await said(text, rate_hz), rate_hz)


async def test_any_text() -> None:
    """Without a grammar, whole sentences are understood, more or less."""
    recognizer = PocketsphinxRecognizer()
    text = await recognizer.recognize(await said("no thank you"), 16000)
    await recognizer.close()

    assert "thank you" in text


async def test_silence(recognizer: PocketsphinxRecognizer) -> None:
    """Nobody said anything: no text."""
    assert "" == await recognizer.recognize(silence(500, 8000), 8000)
    assert "" == await recognizer.recognize(silence(1, 8000), 8000)


async def test_the_interpreter_goes_on(recognizer: PocketsphinxRecognizer) -> None:
    """While an utterance is being recognised, this process works: it is done in another."""
    sound = np.concatenate([await said("a table for two people tonight")] * 3)
    ticks = 0
    task = asyncio.create_task(recognizer.recognize(sound, 16000))
    while not task.done():
        await asyncio.sleep(0.001)
        ticks += 1

    assert ticks > 5
    assert threading.active_count() < 20


async def test_a_process_that_dies(recognizer: PocketsphinxRecognizer) -> None:
    """An utterance that kills the process is lost, the next has a new one, and this process lives."""
    (child,) = recognizer._process._processes
    os.kill(child, signal.SIGKILL)
    with pytest.raises(SpeechError, match="has died; the next utterance gets a new one"):
        await recognizer.recognize(await said("yes please"), 16000)

    assert "yes please" == await recognizer.recognize(await said("yes please"), 16000)


@pytest.mark.parametrize("text", ["hello {{{", "#JSGF V1.0;\ngrammar g;\npublic <g> = xyzzyqq;\n", ""])
def test_a_wrong_grammar(tmp_path: Path, text: str) -> None:
    """A grammar that cannot be loaded is a wrong setting, whatever PocketSphinx makes of it."""
    (tmp_path / "wrong.gram").write_text(text)
    with pytest.raises(SettingsError, match=r"speech\.pocketsphinx\.grammar_file = .*wrong\.gram: .*does not load"):
        PocketsphinxRecognizer(grammar_file=tmp_path / "wrong.gram")


def test_a_missing_grammar(tmp_path: Path) -> None:
    """A grammar that is not there is said to be."""
    with pytest.raises(SettingsError, match=r"speech\.pocketsphinx\.grammar_file: there is no file .*none\.gram"):
        PocketsphinxRecognizer(grammar_file=tmp_path / "none.gram")


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package is missing, the message says how to install it."""
    monkeypatch.setattr("sip_agent.speech.pocketsphinx.find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r'pip install "sip-agent\[pocketsphinx\]"'):
        PocketsphinxRecognizer()
