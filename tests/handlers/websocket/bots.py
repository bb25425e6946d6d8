"""Bots to connect to: real WebSocket servers inside the test, which do what the test tells them."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from aiohttp import WSCloseCode, WSMsgType, web

from media.frames import Samples
from media.g711 import decode_mulaw, encode_mulaw
from tests.serving import serving_application


class Bot:
    """One bot: `messages` is what it was told so far, JSON decoded, sound taken out and put into `sound`."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.sound = bytearray()
        self.headers: dict[str, str] = {}
        self.close_code: int | None = None
        self.connected = asyncio.Event()
        self.over = asyncio.Event()
        self.url = ""
        self._news = asyncio.Event()
        self._socket: web.WebSocketResponse | None = None

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """Take the connection, and read until it ends."""
        self.headers = dict(request.headers)
        socket = self._socket = web.WebSocketResponse(protocols=("audio.example",))
        await socket.prepare(request)
        self.connected.set()
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                self.take(json.loads(message.data))
            elif message.type is WSMsgType.BINARY:
                self.sound += message.data
            self._news.set()
        self.close_code = socket.close_code
        self.over.set()
        return socket

    def take(self, message: dict[str, Any]) -> None:
        """Keep a message."""
        if message.get("event") == "media":
            self.sound += base64.b64decode(message["media"]["payload"])
        self.messages.append(message)

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the messages of one kind so far."""
        return [message for message in self.messages if kind in {message.get("event"), message.get("type")}]

    async def send(self, message: dict[str, Any] | str | bytes) -> None:
        """Send a message: JSON, or what is given as it is."""
        assert self._socket is not None
        if isinstance(message, bytes):
            await self._socket.send_bytes(message)
        else:
            await self._socket.send_str(message if isinstance(message, str) else json.dumps(message))

    async def say(self, samples: Samples) -> None:
        """Send sound in Twilio's form, in one piece."""
        payload = base64.b64encode(encode_mulaw(samples)).decode()
        await self.send({"event": "media", "streamSid": "MZ", "media": {"payload": payload}})

    async def close(self, code: int = WSCloseCode.OK) -> None:
        """Close the socket in order."""
        assert self._socket is not None
        await self._socket.close(code=code)

    def break_off(self) -> None:
        """Drop the connection, as a process that dies does."""
        assert self._socket is not None
        transport = self._socket._req.transport  # type: ignore[union-attr]
        assert transport is not None
        transport.abort()

    @property
    def heard(self) -> Samples:
        """What the bot heard so far, from mu-law."""
        return decode_mulaw(bytes(self.sound))


@asynccontextmanager
async def serving(handle: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """Serve every path with `handle` on a free port; yields the address, without a scheme."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handle)
    async with serving_application(application) as address:
        yield address.removeprefix("http://")


@asynccontextmanager
async def running_bot() -> AsyncIterator[Bot]:
    """Run a bot; its address is in `url`."""
    bot = Bot()
    async with serving(bot.serve) as address:
        bot.url = f"ws://{address}/stream"
        yield bot


def tone(hz: float, ms: int, rate_hz: int = 8000) -> Samples:
    """Return a sine."""
    times = np.arange(ms * rate_hz // 1000) / rate_hz
    return np.round(8000 * np.sin(2 * np.pi * hz * times)).astype(np.int16)
