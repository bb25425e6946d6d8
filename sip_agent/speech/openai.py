"""The synthesizer and the recognizer `openai`: any server with OpenAI's audio API.

Requests, responses and errors are those of OpenAI's published API description (github.com/openai/openai-openapi):
`createSpeech` and `createTranscription`. Speech is asked for as WAV, which says its own sample rate: servers
differ in it. OpenAI streams it with sizes that mean "to the end".
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from media.frames import Samples
from media.wav_stream import WavStream, wav_bytes
from sip_agent.errors import SettingsError, SpeechError

DEFAULT_VOICE = "alloy"

_NEEDS_KEY = "api.openai.com"
_MAX_TEXT_BYTES = 1_000_000
"""A transcription, or what a server says of an error, is not longer."""

LONGEST_WAIT_S = 120.0
"""A sentence lasts 20 s at most, a transcription is a few lines: a server that has not begun after this time, or for
whose bytes we have waited as long in all, drips. Where `timeout` allows a longer silence, that is the limit."""


class OpenAiSynthesizer:
    """Speak by a server with OpenAI's audio API: POST /audio/speech."""

    def __init__(self, *, base_url: str, model: str, timeout: timedelta, voice: str = "", api_key: str = "") -> None:
        self._server = _Server(base_url, api_key, timeout)
        self._model = model
        self._voice = voice or DEFAULT_VOICE
        self.fingerprint = json.dumps([base_url, model])

    async def synthesize(
        self, text: str, *, voice: str | None = None, sample_rate_hz: int
    ) -> AsyncGenerator[Samples, None]:
        """Yield the speech of a text as the server sends it: int16 mono. Raises SpeechError."""
        request = {"model": self._model, "input": text, "voice": voice or self._voice, "response_format": "wav"}
        stream = WavStream(sample_rate_hz)
        async with self._server.post("audio/speech", json=request) as response:
            try:
                async for data in self._server.arriving(response):
                    if len(samples := stream.feed(data)):
                        yield samples
                yield stream.feed(b"", last=True)
            except ValueError as error:
                advice = "does this server offer response_format wav, and is it well?"
                raise SpeechError(f"{response.url}: {error}: {advice}") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._server.close()


class OpenAiRecognizer:
    """Recognise speech by a server with OpenAI's audio API: POST /audio/transcriptions."""

    def __init__(self, *, base_url: str, model: str, timeout: timedelta, api_key: str = "", language: str = "") -> None:
        self._server = _Server(base_url, api_key, timeout)
        self._model = model
        self._language = language

    async def recognize(self, samples: Samples, sample_rate_hz: int) -> str:
        """Return what was said. Raises SpeechError."""
        form = aiohttp.FormData()
        form.add_field("file", wav_bytes(samples, sample_rate_hz), filename="speech.wav", content_type="audio/wav")
        form.add_field("model", self._model)
        form.add_field("response_format", "json")
        if self._language:
            form.add_field("language", self._language)
        async with self._server.post("audio/transcriptions", data=form) as response:
            text = _field(await self._server.content(response), "text")
            if text is None:
                raise SpeechError(f"{response.url}: the answer has no text: is this OpenAI's audio API?")
            return text

    async def close(self) -> None:
        """Close the connections."""
        await self._server.close()


class _Server:
    """The API's address and key; one set of connections, opened when they are needed."""

    def __init__(self, base_url: str, api_key: str, timeout: timedelta) -> None:
        if not api_key and urlsplit(base_url).hostname == _NEEDS_KEY:
            raise SettingsError(
                f"speech.openai.api_key_file: {_NEEDS_KEY} wants an API key: write it into a file and name that here, "
                "or set SIP_AGENT_SPEECH__OPENAI__API_KEY; a server of your own goes into speech.openai.base_url"
            )
        self._base_url = base_url
        self._api_key = api_key
        self._timeout_s = timeout.total_seconds()
        self._longest_wait_s = max(LONGEST_WAIT_S, self._timeout_s)
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def post(self, path: str, **body: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open the response to a request; raises SpeechError if the server refuses it, fails, falls silent or drips."""
        url = f"{self._base_url}/{path}"
        if self._session is None:
            silence = aiohttp.ClientTimeout(sock_connect=self._timeout_s, sock_read=self._timeout_s)
            headers = {"Authorization": f"Bearer {self._api_key}"} if self._api_key else {}
            self._session = aiohttp.ClientSession(headers=headers, timeout=silence)
        try:
            # The key is for this server alone: a redirection is not followed.
            async with asyncio.timeout(self._longest_wait_s):
                opened = await self._session.post(url, allow_redirects=False, **body)
            async with opened as response:
                if response.status != HTTPStatus.OK:
                    raise SpeechError(f"{url}: {await self._refusal(response)}")
                yield response
        except aiohttp.ServerTimeoutError as error:
            raise SpeechError(
                f"{url}: the server was silent for {self._timeout_s:g} s: try later, or raise speech.openai.timeout"
            ) from error
        except TimeoutError as error:
            raise SpeechError(f"{url}: the answer takes more than {self._longest_wait_s:g} s to come") from error
        except aiohttp.ClientError as error:
            raise SpeechError(f"{url}: {error}: is speech.openai.base_url right, and the server up?") from error

    async def arriving(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """Yield the bytes of a response as they come; raises TimeoutError when they were waited for too long in all.

        Who takes them slowly, as a call does that plays them, is given that time.
        """
        clock = asyncio.get_running_loop().time
        left_s = self._longest_wait_s
        while left_s > 0:
            asked_at = clock()
            if not (data := await response.content.readany()):
                return
            left_s -= clock() - asked_at
            yield data
        raise TimeoutError

    async def content(self, response: aiohttp.ClientResponse) -> bytes:
        """Read a response that is to be short; what is too much of it is left, and makes no JSON."""
        content = b""
        async for data in self.arriving(response):
            content += data
            if len(content) > _MAX_TEXT_BYTES:
                break
        return content

    async def _refusal(self, response: aiohttp.ClientResponse) -> str:
        """Say why the server refused, and what to do."""
        status = f"HTTP {response.status}"
        if response.status == HTTPStatus.UNAUTHORIZED:
            # What servers say here shows a part of the key.
            return f"{status}: the server does not take the API key: correct speech.openai.api_key_file"
        said = _field(await self.content(response), "error", "message") or response.reason or "no reason given"
        if self._api_key:
            said = said.replace(self._api_key, "***")
        if response.status == HTTPStatus.TOO_MANY_REQUESTS:
            return f"{status}: {said}: the server's limit is reached: wait, or raise it there"
        if response.status == HTTPStatus.NOT_FOUND:
            return f"{status}: {said}: correct speech.openai.base_url or the model"
        return f"{status}: {said}"

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def _field(document: bytes, *names: str) -> str | None:
    """Return a text inside a JSON document, or None where there is none."""
    try:
        value = json.loads(document)
    except ValueError:
        return None
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) else None
