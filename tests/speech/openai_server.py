"""A server with the audio part of OpenAI's API, as strict as the published description (openapi.yaml) has it.

It speaks a tone as long as the text has characters, times 10 ms, and understands the level of what it is sent.
"""

import asyncio
import io
import json
import wave
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from aiohttp import web
from aiohttp.test_utils import TestServer

from media.tones import ToneGenerator

KEY = "sk-test-0123456789"
RATE_HZ = 24000
SPEECH_FIELDS = {"model", "input", "instructions", "voice", "response_format", "speed", "stream_format"}
SPEECH_FORMATS = {"mp3", "opus", "aac", "flac", "wav", "pcm"}
TRANSCRIPTION_FIELDS = {
    *("file", "model", "language", "languages", "keywords", "prompt", "response_format", "temperature"),
    *("include", "timestamp_granularities", "stream", "chunking_strategy"),
    *("known_speaker_names", "known_speaker_references"),
}


@dataclass
class OpenAiServer:
    """What the server was asked, and what it is to do wrong."""

    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    fault: Callable[[web.Request], web.StreamResponse] | None = None
    stall: asyncio.Event | None = None
    """Wait for it after the first bytes of speech."""
    drips: bool = False
    """Answer byte by byte, without end."""

    async def speech(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/audio/speech: CreateSpeechRequest, answered by a stream of bytes."""
        if (refusal := self._refuse(request)) is not None:
            return refusal
        if self.drips:
            return await _drip(request, streamed_header(RATE_HZ))
        if request.content_type != "application/json":
            return error(400, f"unsupported content type {request.content_type}")
        body = json.loads(await request.text())
        self.requests.append(body)
        if problem := _problem_of_speech(body):
            return error(400, problem)
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        sound = ToneGenerator(440, RATE_HZ).next(len(body["input"]) * RATE_HZ // 100)
        data = streamed_header(RATE_HZ) + sound.astype("<i2").tobytes()
        for start in range(0, len(data), 1001):
            await response.write(data[start : start + 1001])
            if self.stall is not None:
                await self.stall.wait()
        await response.write_eof()
        return response

    async def transcriptions(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/audio/transcriptions: CreateTranscriptionRequest, answered by CreateTranscriptionResponseJson."""
        if (refusal := self._refuse(request)) is not None:
            return refusal
        if self.drips:
            return await _drip(request, b'{"text": "')
        if request.content_type != "multipart/form-data":
            return error(400, f"unsupported content type {request.content_type}")
        body: dict[str, Any] = dict(await request.post())
        self.requests.append(body)
        if problem := _problem_of_transcription(body):
            return error(400, problem)
        with wave.open(io.BytesIO(body["file"].file.read())) as reader:
            assert (1, 2) == (reader.getnchannels(), reader.getsampwidth())
            samples = np.frombuffer(reader.readframes(reader.getnframes()), "<i2")
            rate_hz = reader.getframerate()
        text = f"{len(samples) * 1000 // rate_hz} ms at {rate_hz} Hz, peak {int(np.abs(samples).max())}"
        return web.json_response({"text": f" {text}\n", "usage": {"type": "duration", "seconds": 1}})

    def _refuse(self, request: web.Request) -> web.StreamResponse | None:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return error(401, f"Incorrect API key provided: {request.headers.get('Authorization')}.")
        return None if self.fault is None else self.fault(request)


async def _drip(request: web.Request, begin: bytes) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(begin)
    with suppress(ConnectionError):
        while True:
            await response.write(b"xx")
            await asyncio.sleep(0.01)
    return response


def _problem_of_speech(body: dict[str, Any]) -> str | None:
    if unknown := set(body) - SPEECH_FIELDS:
        return f"Unknown parameter: {sorted(unknown)}"
    if missing := [name for name in ("model", "input", "voice") if not isinstance(body.get(name), str)]:
        return f"Missing required parameter: {missing}"
    if not 0 < len(body["input"]) <= 4096:
        return "string_too_long"
    return None if body.get("response_format", "mp3") in SPEECH_FORMATS else "invalid response_format"


def _problem_of_transcription(body: dict[str, Any]) -> str | None:
    if unknown := set(body) - TRANSCRIPTION_FIELDS:
        return f"Unknown parameter: {sorted(unknown)}"
    file = body.get("file")
    if not isinstance(file, web.FileField) or not file.filename.endswith(".wav"):
        return "Unrecognized file format"
    if not body.get("model"):
        return "Missing required parameter: 'model'"
    # Of the gpt-4o models: "the only supported format is `json`".
    return None if body.get("response_format", "json") == "json" else "response_format is not compatible"


def error(status: int, message: str) -> web.Response:
    """Return an ErrorResponse."""
    problem = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return web.json_response({"error": problem}, status=status)


def streamed_header(rate_hz: int) -> bytes:
    """Return the WAV header of sound whose length is not known yet, as OpenAI sends it."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate_hz)
        writer.writeframes(b"")
    header = bytearray(file.getvalue())
    header[4:8] = header[40:44] = b"\xff" * 4
    return bytes(header)


@asynccontextmanager
async def openai_server() -> AsyncIterator[OpenAiServer]:
    """Run the server on a port of its own."""
    server = OpenAiServer()
    app = web.Application()
    app.router.add_post("/v1/audio/speech", server.speech)
    app.router.add_post("/v1/audio/transcriptions", server.transcriptions)
    async with TestServer(app) as running:
        server.url = str(running.make_url("/v1"))
        yield server
