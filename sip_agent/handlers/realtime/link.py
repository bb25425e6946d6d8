"""The WebSocket to a realtime server: connecting, sending, receiving, and every way in which that goes wrong."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import structlog

from sip_agent.errors import SipAgentError
from sip_agent.handlers.realtime.protocol import Event

log = structlog.get_logger()

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
"""The protocol bounds an event's sound by 15 MiB."""

BAD_EVENTS_MAX = 5
"""A server that sends more than this that is no event is not one of ours."""

ERROR_LENGTH_MAX = 300
"""What a server says of an error is cut to so many characters: it goes into the log and the record."""

SEND_S = 5.0
"""A server that takes nothing for so long is gone."""

CLOSE_S = 1.0
"""A call that is over does not wait longer for the server to say goodbye."""

HEARTBEAT_S = 15.0
"""A ping that often, so that a server that vanished without a word is noticed."""


class RealtimeError(SipAgentError):
    """The conversation with the model cannot go on; the message says why, and is what the record shows."""


class RealtimeLink:
    """A connection to a realtime server; `connect` opens it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._bad_events = 0
        self._last_error = ""

    async def send(self, event: Mapping[str, Any] | str) -> None:
        """Send one event, as an object or as JSON text; raise RealtimeError if the server does not take it."""
        text = event if isinstance(event, str) else json.dumps(event)
        try:
            async with asyncio.timeout(SEND_S):
                await self._socket.send_str(text)
        except TimeoutError as error:
            raise RealtimeError(f"the realtime server took nothing for {SEND_S:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._closed() from error

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield what the server sends, event by event; raise RealtimeError when it closes the connection."""
        async for message in self._socket:
            event = _parse(message)
            if event is None:
                self.bad_event("it is no JSON object with a type")
                continue
            if event["type"] == "error":
                self._last_error = describe_error(event.get("error"))
            yield event
        raise self._closed()

    def bad_event(self, problem: str) -> None:
        """Count an event that cannot be understood; raise RealtimeError after too many."""
        self._bad_events += 1
        problem = _cut(problem)
        log.warning("realtime.bad_event", problem=problem, count=self._bad_events)
        if self._bad_events > BAD_EVENTS_MAX:
            raise RealtimeError(f"the realtime server sends what is no event of the protocol: {problem}")

    def _closed(self) -> RealtimeError:
        code = self._socket.close_code
        text = f"the realtime server closed the connection (code {code or 1006})"
        if self._last_error:
            text = f"{text}; its last error was: {self._last_error}"
        return RealtimeError(text)


@asynccontextmanager
async def connect(url: str, headers: Mapping[str, str], *, timeout_s: float) -> AsyncIterator[RealtimeLink]:
    """Connect to a server; raise RealtimeError if it is not there, or refuses."""
    async with aiohttp.ClientSession() as client:
        try:
            async with asyncio.timeout(timeout_s):
                socket = await client.ws_connect(
                    url,
                    headers=headers,
                    heartbeat=HEARTBEAT_S,
                    max_msg_size=MESSAGE_BYTES_MAX,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
                )
        except TimeoutError as error:
            raise RealtimeError(f"the realtime server {url} did not answer within {timeout_s:g} s") from error
        except aiohttp.WSServerHandshakeError as error:
            raise RealtimeError(f"the realtime server {url} {_refusal(error.status)}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise RealtimeError(f"the realtime server {url} cannot be reached: {error}") from error
        async with socket:
            yield RealtimeLink(socket)


def describe_error(error: Any) -> str:
    """Put the error object of an `error` event, or of a failed response, into one line."""
    if not isinstance(error, Mapping):
        return "no details"
    label = error.get("code") or error.get("type")
    text = str(error.get("message") or "no message")
    return _cut(f"{label}: {text}" if label else text)


def _cut(text: str) -> str:
    return text if len(text) <= ERROR_LENGTH_MAX else f"{text[:ERROR_LENGTH_MAX]}…"


def _parse(message: aiohttp.WSMessage) -> Event | None:
    if message.type is not aiohttp.WSMsgType.TEXT:
        return None
    try:
        event = json.loads(message.data)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("type"), str) else None


def _refusal(status: int) -> str:
    match status:
        case 401 | 403:
            return f"refused the key ({status}): put a valid one into api_key_file or OPENAI_API_KEY"
        case 404:
            return "does not know this address (404): check base_url and model"
        case 429:
            return "takes no more sessions (429): a rate limit or the account's quota is reached"
    return f"refused the connection ({status})"
