"""The engines `openai`, with a server as strict as the published API."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta

import numpy as np
import pytest
from aiohttp import web

from media.frames import Samples
from media.tones import ToneGenerator
from sip_agent.errors import SettingsError, SpeechError
from sip_agent.speech import openai
from sip_agent.speech.openai import OpenAiRecognizer, OpenAiSynthesizer
from tests.speech.openai_server import KEY, OpenAiServer, error, openai_server

PATIENCE = timedelta(seconds=20)


@pytest.fixture
async def server() -> AsyncIterator[OpenAiServer]:
    """Run a server."""
    async with openai_server() as running:
        yield running


@pytest.fixture
async def synthesizer(server: OpenAiServer) -> AsyncIterator[OpenAiSynthesizer]:
    """Build a synthesizer for the server."""
    made = OpenAiSynthesizer(base_url=server.url, api_key=KEY, model="gpt-4o-mini-tts", timeout=PATIENCE)
    yield made
    await made.close()


@pytest.fixture
async def recognizer(server: OpenAiServer) -> AsyncIterator[OpenAiRecognizer]:
    """Build a recognizer for the server."""
    made = OpenAiRecognizer(
        base_url=server.url, api_key=KEY, model="gpt-4o-mini-transcribe", timeout=PATIENCE, language="en"
    )
    yield made
    await made.close()


async def speak(synthesizer: OpenAiSynthesizer, text: str, voice: str | None = None, rate_hz: int = 16000) -> Samples:
    """Return the whole speech of a text."""
    return np.concatenate([piece async for piece in synthesizer.synthesize(text, voice=voice, sample_rate_hz=rate_hz)])


async def test_speech_at_the_rate_of_the_call(synthesizer: OpenAiSynthesizer, server: OpenAiServer) -> None:
    """The server's sound arrives whole, at the rate that was asked for; the request is what the API describes."""
    sound = await speak(synthesizer, "a" * 50, rate_hz=8000)

    expected = ToneGenerator(440, 8000).next(4000)
    assert len(expected) == len(sound)
    assert np.abs(sound[100:-100].astype(int) - expected[100:-100]).max() < 100
    assert [
        {"model": "gpt-4o-mini-tts", "input": "a" * 50, "voice": "alloy", "response_format": "wav"}
    ] == server.requests


async def test_the_voice_of_one_text(synthesizer: OpenAiSynthesizer, server: OpenAiServer) -> None:
    """A text may have a voice of its own."""
    await speak(synthesizer, "hello", voice="verse")

    assert "verse" == server.requests[0]["voice"]


async def test_the_first_sound_does_not_wait_for_the_last(synthesizer: OpenAiSynthesizer, server: OpenAiServer) -> None:
    """Sound is handed on while the server is still speaking."""
    server.stall = asyncio.Event()
    async with aclosing(synthesizer.synthesize("a" * 500, voice=None, sample_rate_hz=24000)) as sound:
        first = await anext(sound)
        server.stall.set()
        rest = [piece async for piece in sound]

    assert 0 < len(first) < 24000
    assert 120_000 == len(first) + sum(len(piece) for piece in rest)


async def test_a_speech_that_is_stopped_is_not_fetched(synthesizer: OpenAiSynthesizer, server: OpenAiServer) -> None:
    """Who stops listening lets go of the response, and the next text is spoken."""
    server.stall = asyncio.Event()
    async with aclosing(synthesizer.synthesize("a" * 500, voice=None, sample_rate_hz=24000)) as sound:
        await anext(sound)
    server.stall.set()

    assert 480 == len(await speak(synthesizer, "ab", rate_hz=24000))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (error(400, "bad voice"), "HTTP 400: bad voice"),
        (error(404, "no such model"), r"HTTP 404: no such model: correct speech\.openai\.base_url or the model"),
        (error(429, "quota exceeded"), "HTTP 429: quota exceeded: the server's limit is reached"),
        (error(500, f"crashed on Bearer {KEY}"), r"HTTP 500: crashed on Bearer \*\*\*$"),
        (web.Response(status=503, text="<html>"), "HTTP 503: Service Unavailable$"),
        (web.Response(status=307, headers={"Location": "http://192.0.2.1/"}), "HTTP 307: Temporary Redirect$"),
        (web.Response(body=b"ID3\x04mp3 instead of wav"), "no WAV: it begins with .*does this server offer"),
        (web.Response(body=b""), "a WAV without sound"),
    ],
    ids=["wrong", "not there", "limit", "echoes the key", "no JSON", "redirects", "no WAV", "empty"],
)
async def test_what_a_server_may_answer(
    synthesizer: OpenAiSynthesizer, server: OpenAiServer, answer: web.Response, message: str
) -> None:
    """A refusal says what the server said, what to do, and no secret."""
    server.fault = lambda _: answer
    with pytest.raises(SpeechError, match=message) as caught:
        await speak(synthesizer, "hello")

    assert KEY not in str(caught.value)
    assert server.url in str(caught.value)


async def test_a_wrong_key(server: OpenAiServer) -> None:
    """A refused key is said to be one, and not shown, though the server shows it."""
    synthesizer = OpenAiSynthesizer(base_url=server.url, api_key="sk-wrong", model="m", timeout=PATIENCE)
    with pytest.raises(SpeechError, match=r"HTTP 401: .*correct speech\.openai\.api_key_file") as caught:
        await speak(synthesizer, "hello")
    await synthesizer.close()

    assert "sk-wrong" not in repr(caught.value)


async def test_a_server_that_falls_silent(server: OpenAiServer) -> None:
    """A server that says nothing more is given up."""
    server.stall = asyncio.Event()
    synthesizer = OpenAiSynthesizer(base_url=server.url, api_key=KEY, model="m", timeout=timedelta(milliseconds=50))
    with pytest.raises(SpeechError, match=r"silent for 0\.05 s: .*raise speech\.openai\.timeout"):
        await speak(synthesizer, "a" * 500)
    server.stall.set()
    await synthesizer.close()


async def test_a_server_that_drips(server: OpenAiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that never falls silent and never comes to an end is given up."""
    monkeypatch.setattr(openai, "LONGEST_WAIT_S", 0.2)
    patience = timedelta(milliseconds=150)
    server.drips = True
    synthesizer = OpenAiSynthesizer(base_url=server.url, api_key=KEY, model="m", timeout=patience)
    recognizer = OpenAiRecognizer(base_url=server.url, api_key=KEY, model="m", timeout=patience)
    with pytest.raises(SpeechError, match=r"the answer takes more than 0\.2 s to come"):
        await speak(synthesizer, "hello")
    with pytest.raises(SpeechError, match=r"the answer takes more than 0\.2 s to come"):
        await recognizer.recognize(np.zeros(160, np.int16), 8000)
    await synthesizer.close()
    await recognizer.close()


async def test_a_listener_that_takes_its_time(server: OpenAiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time in which nobody asks for sound is not the server's."""
    monkeypatch.setattr(openai, "LONGEST_WAIT_S", 1.0)
    synthesizer = OpenAiSynthesizer(base_url=server.url, api_key=KEY, model="m", timeout=timedelta(seconds=1))
    sound = synthesizer.synthesize("a" * 50, voice=None, sample_rate_hz=24000)
    async with aclosing(sound):
        pieces = [await anext(sound)]
        await asyncio.sleep(1.1)
        pieces += [piece async for piece in sound]
    await synthesizer.close()

    assert 12_000 == sum(map(len, pieces))


async def test_a_server_that_is_not_there() -> None:
    """Where nobody listens, the message names the setting."""
    recognizer = OpenAiRecognizer(base_url="http://127.0.0.1:1/v1", model="m", timeout=PATIENCE)
    with pytest.raises(SpeechError, match=r"is speech\.openai\.base_url right, and the server up\?"):
        await recognizer.recognize(np.zeros(160, np.int16), 8000)
    await recognizer.close()


@pytest.mark.parametrize("base_url", ["https://api.openai.com/v1", "https://API.openai.com"])
def test_openai_itself_wants_a_key(base_url: str) -> None:
    """A missing key is a wrong setting; a server of one's own may need none."""
    with pytest.raises(SettingsError, match=r"speech\.openai\.api_key_file: .*SIP_AGENT_SPEECH__OPENAI__API_KEY"):
        OpenAiSynthesizer(base_url=base_url, model="m", timeout=PATIENCE)


async def test_transcription(recognizer: OpenAiRecognizer, server: OpenAiServer) -> None:
    """An utterance is sent as a WAV file with the fields of the API; the text of the answer is what was said."""
    samples = np.full(12_000, 1234, np.int16)

    assert "1500 ms at 8000 Hz, peak 1234" == (await recognizer.recognize(samples, 8000)).strip()
    assert {"file", "model", "response_format", "language"} == set(server.requests[0])
    assert "en" == server.requests[0]["language"]


async def test_a_transcription_without_text(recognizer: OpenAiRecognizer, server: OpenAiServer) -> None:
    """What is no transcription is an error, not silence."""
    server.fault = lambda _: web.json_response(["text"])
    with pytest.raises(SpeechError, match="the answer has no text"):
        await recognizer.recognize(np.zeros(160, np.int16), 8000)


async def test_an_endless_transcription(recognizer: OpenAiRecognizer, server: OpenAiServer) -> None:
    """A transcription of megabytes is not read to its end."""
    server.fault = lambda _: web.json_response({"text": "x" * 5_000_000})
    with pytest.raises(SpeechError, match="the answer has no text"):
        await recognizer.recognize(np.zeros(160, np.int16), 8000)


async def test_the_fingerprint_has_no_secret(synthesizer: OpenAiSynthesizer) -> None:
    """Sound is kept under server and model, not under the key."""
    assert "gpt-4o-mini-tts" in synthesizer.fingerprint
    assert KEY not in synthesizer.fingerprint
