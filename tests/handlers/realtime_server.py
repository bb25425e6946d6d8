"""A realtime server for tests: it speaks the published protocol, and the test speaks for its model."""

import base64
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import aiohttp
import numpy as np
from aiohttp import web

from media.frames import Samples
from media.g711 import decode_mulaw, encode_mulaw
from tests.handlers.realtime_schema import CLIENT_EVENTS, SERVER_EVENTS, check

Event = dict[str, Any]

DELTA_MS = 200

_NAMES_OF_BETA = {
    "response.output_audio.delta": "response.audio.delta",
    "response.output_audio.done": "response.audio.done",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "response.output_audio_transcript.done": "response.audio_transcript.done",
    "conversation.item.added": "conversation.item.created",
}


class Connection:
    """One client: what it sent (`events`, without its sound), its sound, and what the model answers.

    Every event of either side is checked against the schema.
    """

    def __init__(self, request: web.Request, socket: web.WebSocketResponse, shape: str) -> None:
        self.headers = request.headers
        self.query = dict(request.query)
        self.events: list[Event] = []
        self.schema_errors: list[str] = []
        self.session: Event = {}
        self._heard = bytearray()
        self._socket = socket
        self._shape = shape
        self._numbers = itertools.count(1)

    @property
    def encoding(self) -> str:
        """The format of the sound, as the session has it."""
        if self._shape == "beta":
            return str(self.session["input_audio_format"])
        return str(self.session["audio"]["input"]["format"]["type"])

    @property
    def rate_hz(self) -> int:
        """The sample rate of the sound, both ways."""
        return 24_000 if self.encoding in {"audio/pcm", "pcm16"} else 8_000

    def heard(self) -> Samples:
        """Return the sound that the client sent."""
        return np.frombuffer(bytes(self._heard), "<i2") if self.rate_hz == 24_000 else decode_mulaw(bytes(self._heard))

    def sent(self, event_type: str) -> list[Event]:
        """Return the events of a type that the client sent."""
        return [event for event in self.events if event["type"] == event_type]

    async def send(self, event_type: str, **fields: Any) -> None:
        """Send an event."""
        event = {"type": event_type, "event_id": f"event_{next(self._numbers)}", **fields}
        if self._shape == "beta":
            event["type"] = _NAMES_OF_BETA.get(event_type, event_type)
        check(SERVER_EVENTS[self._shape], event)
        await self.send_text(json.dumps(event))

    async def send_text(self, text: str) -> None:
        """Send whatever it is."""
        await self._socket.send_str(text)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection."""
        await self._socket.close(code=code, message=reason.encode())

    # What the model does, in the order of events that the documentation has

    async def begin_response(self, response_id: str = "resp_1") -> None:
        """Begin a response."""
        response: Event = {"id": response_id, "object": "realtime.response", "status": "in_progress", "output": []}
        await self.send("response.created", response=response)

    async def say(self, text: str, sound: Samples, *, response_id: str = "resp_1", item_id: str = "item_1") -> None:
        """Say something as an item, up to its end."""
        await self.begin_item(response_id, item_id)
        await self.say_part(text, sound, response_id=response_id, item_id=item_id)
        await self.end_item(text, response_id, item_id)

    async def begin_item(self, response_id: str = "resp_1", item_id: str = "item_1") -> None:
        """Begin an item."""
        item = _message(item_id, "in_progress", [])
        await self.send("response.output_item.added", response_id=response_id, output_index=0, item=item)
        await self.send("conversation.item.added", previous_item_id=None, item=item)
        part = {"type": "audio", "transcript": ""}
        await self.send("response.content_part.added", **_place(response_id, item_id), part=part)

    async def say_part(
        self, text: str, sound: Samples, *, response_id: str = "resp_1", item_id: str = "item_1"
    ) -> None:
        """Send words and sound, as fast as the connection takes them."""
        place = _place(response_id, item_id)
        await self.send("response.output_audio_transcript.delta", **place, delta=text)
        size = DELTA_MS * self.rate_hz // 1000
        for start in range(0, len(sound), size):
            piece = sound[start : start + size]
            content = piece.astype("<i2").tobytes() if self.rate_hz == 24_000 else encode_mulaw(piece)
            delta = base64.b64encode(content).decode()
            await self.send("response.output_audio.delta", **place, delta=delta)

    async def end_item(self, text: str, response_id: str = "resp_1", item_id: str = "item_1") -> None:
        """End an item."""
        place = _place(response_id, item_id)
        await self.send("response.output_audio.done", **place)
        await self.send("response.output_audio_transcript.done", **place, transcript=text)
        await self.send("response.content_part.done", **place, part={"type": "audio", "transcript": text})
        kind = "audio" if self._shape == "beta" else "output_audio"
        item = _message(item_id, "completed", [{"type": kind, "transcript": text}])
        await self.send("response.output_item.done", response_id=response_id, output_index=0, item=item)

    async def call_tool(
        self, name: str, arguments: str, *, response_id: str = "resp_1", call_id: str = "call_1"
    ) -> None:
        """Call a function of the client."""
        place = {"response_id": response_id, "item_id": f"item_{call_id}", "output_index": 0, "call_id": call_id}
        await self.send("response.function_call_arguments.delta", **place, delta=arguments)
        item = {
            "id": f"item_{call_id}",
            "object": "realtime.item",
            "type": "function_call",
            "status": "completed",
            "name": name,
            "call_id": call_id,
            "arguments": arguments,
        }
        await self.send("response.output_item.done", response_id=response_id, output_index=0, item=item)

    async def end_response(
        self, response_id: str = "resp_1", status: str = "completed", details: Event | None = None
    ) -> None:
        """End a response, with the tokens that it took."""
        usage = {"total_tokens": 153, "input_tokens": 100, "output_tokens": 53}
        response: Event = {"id": response_id, "object": "realtime.response", "status": status, "usage": usage}
        if details is not None:
            response["status_details"] = details
        await self.send("response.done", response={**response, "output": []})

    async def start_speech(self, item_id: str = "item_user_1", at_ms: int = 0) -> None:
        """Notice that the caller began to speak."""
        await self.send("input_audio_buffer.speech_started", item_id=item_id, audio_start_ms=at_ms)

    async def stop_speech(self, item_id: str = "item_user_1", at_ms: int = 0) -> None:
        """Notice that the caller stopped, and take up what was said."""
        await self.send("input_audio_buffer.speech_stopped", item_id=item_id, audio_end_ms=at_ms)
        await self.send("input_audio_buffer.committed", item_id=item_id, previous_item_id=None)

    async def transcribe(self, text: str, item_id: str = "item_user_1") -> None:
        """Tell what the caller said."""
        usage = {} if self._shape == "beta" else {"usage": {"type": "duration", "seconds": 1.0}}
        event_type = "conversation.item.input_audio_transcription.completed"
        await self.send(event_type, item_id=item_id, content_index=0, transcript=text, **usage)

    async def run(self) -> None:
        """Set up the session by itself, and keep what the client sends."""
        session: Event = {} if self._shape == "beta" else {"type": "realtime"}
        await self.send("session.created", session=session)
        async for message in self._socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                await self.take(json.loads(message.data))

    async def take(self, event: Event) -> None:
        """Take one event of the client."""
        try:
            check(CLIENT_EVENTS[self._shape], event)
        except (AssertionError, ValueError) as error:
            self.schema_errors.append(str(error))
        if event["type"] == "input_audio_buffer.append":
            self._heard += base64.b64decode(event["audio"], validate=True)
            return
        self.events.append(event)
        if event["type"] == "session.update":
            self.session = event["session"]
            await self.send("session.updated", session=self.session)


class RealtimeServer:
    """Serves on a free port; leaving it fails if a client broke the schema. `refuse` answers with that status."""

    def __init__(
        self, shape: str = "ga", *, refuse: int = 0, connection: Callable[..., Connection] = Connection
    ) -> None:
        self.connections: list[Connection] = []
        self._shape = shape
        self._refuse = refuse
        self._connection = connection
        app = web.Application()
        app.router.add_get("/v1/realtime", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        self.url = ""

    @property
    def connection(self) -> Connection:
        """The only client."""
        (connection,) = self.connections
        return connection

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        for connection in self.connections:
            assert connection.schema_errors == []

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if self._refuse:
            return web.Response(status=self._refuse)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        connection = self._connection(request, socket, self._shape)
        self.connections.append(connection)
        await connection.run()
        return socket


def _message(item_id: str, status: str, content: Sequence[Mapping[str, Any]]) -> Event:
    return {
        "id": item_id,
        "object": "realtime.item",
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": list(content),
    }


def _place(response_id: str, item_id: str) -> Event:
    return {"response_id": response_id, "item_id": item_id, "output_index": 0, "content_index": 0}
