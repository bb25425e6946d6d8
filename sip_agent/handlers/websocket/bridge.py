"""One call and one bot: the caller's sound, digits and speech there, the bot's sound and marks back."""

import asyncio
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from typing import Any

import aiohttp

from media.levels import SILENCE_DBOV, level_dbov
from media.live_resample import LiveResampler
from sip_agent.call import Call
from sip_agent.errors import CallEnded, UserAgentError
from sip_agent.handlers.websocket.connection import BotError, Socket
from sip_agent.handlers.websocket.dialect import (
    BotAudio,
    Clear,
    Dialect,
    Digits,
    Mark,
    Stop,
    UnreadableMessage,
)
from sip_agent.handlers.websocket.playout import Playout
from sip_agent.handlers.websocket.reply_watch import ReplyWatch
from sip_agent.hearing import SpeechStarted

UNREADABLE_MAX = 50
"""A bot that sent so many messages which its dialect does not have speaks another one: the call ends."""

DIGITS_MAX = 32
"""Of one message: the bot's sound is not read while more than the engine keeps in line wait to be sent."""

NORMAL_CLOSE_CODES = (
    aiohttp.WSCloseCode.OK,
    aiohttp.WSCloseCode.GOING_AWAY,
    1005,  # a close frame without a code
)


class Bridge:
    """Connects an answered call with a bot's socket; `name` is how messages call the bot."""

    def __init__(
        self, call: Call, socket: Socket, dialect: Dialect, *, name: str, queue_ms: int, slow_after_ms: int
    ) -> None:
        self._call = call
        self._socket = socket
        self._dialect = dialect
        self._name = name
        self._playout = Playout(call, dialect, limit_ms=queue_ms, played=self._report_mark)
        self._watch = ReplyWatch(call, slow_after_ms)
        self._unreadable = 0
        self._last_unreadable: UnreadableMessage | None = None
        self._overflow_ms: int | None = None
        self._digits_refused = False

    async def run(self) -> None:
        """Carry sound until the call ends, or the bot ends the stream and all it said has been sent.

        Raises BotError if the bot goes away without saying so, or speaks another dialect; then what it had said
        is still sent.
        """
        call = self._call
        for message in self._dialect.opening():
            await self._send(message)
        reading = asyncio.create_task(self._read())
        helpers = asyncio.gather(*(_until_over(work) for work in self._helpers()))
        try:
            ends: set[asyncio.Future[Any]] = {reading, call.disconnected}
            await asyncio.wait({*ends, helpers}, return_when=asyncio.FIRST_COMPLETED)
            if helpers.done():
                helpers.result()
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if not call.ended:
                await _until_over(self._playout.drained())
                reading.result()
        finally:
            self._watch.settle(call.elapsed_ms())
            self._note_overflow()
            self._note_unreadable()
            reading.cancel()
            helpers.cancel()
            await asyncio.gather(reading, helpers, return_exceptions=True)
            await self._send(self._dialect.closing())
            await self._socket.close()

    def _helpers(self) -> list[Coroutine[Any, Any, None]]:
        helpers = [self._send_sound(), self._send_digits(), self._playout.run(), self._playout.run_marks()]
        return [*helpers, self._send_speech()] if self._dialect.tells_speech else helpers

    # The caller's side, to the bot

    async def _send_sound(self) -> None:
        call, dialect, socket = self._call, self._dialect, self._socket
        resampler = LiveResampler(call.sample_rate_hz, dialect.sample_rate_hz)
        send_str, send_bytes = socket.send_str, socket.send_bytes
        hear_caller = self._watch.hear_caller
        async for frame in call.frames():
            hear_caller(frame)
            message = dialect.media(resampler.process(frame))
            if isinstance(message, str):
                await send_str(message)
            else:
                await send_bytes(message)

    async def _send_digits(self) -> None:
        async for digit in self._call.dtmf():
            await self._send(self._dialect.digit(digit))

    async def _send_speech(self) -> None:
        async for event in self._call.speech():
            await self._send(self._dialect.speech(event.at_ms, started=isinstance(event, SpeechStarted)))

    async def _report_mark(self, name: str, cleared: bool) -> None:
        await self._send(self._dialect.played(name, cleared=cleared))

    async def _send(self, message: str | None) -> None:
        """Send a message, if there is one; to a bot that is gone it is lost, and whoever reads the socket says so."""
        if message is not None:
            with suppress(aiohttp.ClientError, ConnectionError):
                await self._socket.send_str(message)

    # The bot's side, to the caller

    async def _read(self) -> None:
        """Do what the bot says until it ends the stream; raises BotError if it ends otherwise."""
        while True:
            message = await self._socket.receive()
            if message.type not in {aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY}:
                break
            try:
                if await self._take(message.data):
                    return
            except UnreadableMessage as error:
                await self._drop(error)
        code = self._socket.close_code
        if code not in NORMAL_CLOSE_CODES:
            cause = f": {message.data}" if message.type is aiohttp.WSMsgType.ERROR else ""
            raise BotError(f"the bot at {self._name} went away during the call (WebSocket close code {code}){cause}")

    async def _take(self, data: str | bytes) -> bool:
        """Do what one message asks for; True if it ends the stream."""
        message = self._dialect.read(data)
        if isinstance(message, BotAudio):
            if self._watch.owed and level_dbov(self._dialect.decode(message.payload)) > SILENCE_DBOV:
                self._watch.settle(self._call.elapsed_ms())
            if not await self._playout.add(message):
                self._begin_overflow()
            elif self._overflow_ms is not None:
                self._note_overflow()
        elif isinstance(message, Mark):
            self._playout.mark(message)
        elif isinstance(message, Clear):
            dropped_ms = await self._playout.clear()
            await self._send(self._dialect.cleared())
            self._call.log.debug("bot.cleared", dropped_ms=dropped_ms)
        elif isinstance(message, Digits):
            await self._press(message.digits)
        return isinstance(message, Stop)

    async def _press(self, digits: str) -> None:
        if len(digits) > DIGITS_MAX:
            raise UnreadableMessage(f"{len(digits)} digits in one message; {DIGITS_MAX} are allowed")
        try:
            await self._call.send_dtmf(digits)
        except ValueError as error:
            raise UnreadableMessage(str(error)) from error
        except UserAgentError as error:
            if not self._digits_refused:
                self._call.log.warning("bot.digits_not_sent", error=str(error), hint="further ones are not logged")
            self._digits_refused = True

    async def _drop(self, error: UnreadableMessage) -> None:
        self._unreadable += 1
        self._last_unreadable = error
        self._watch.blame(f"unreadable_bot: {error}")
        if self._unreadable == 1:
            self._call.log.warning("bot.message_dropped", error=str(error), hint="further ones are only counted")
        if self._unreadable >= UNREADABLE_MAX:
            raise BotError(
                f"the bot at {self._name} sent {UNREADABLE_MAX} messages that are not of its dialect; the last: {error}"
            )
        await self._send(self._dialect.unreadable(error))

    def _note_unreadable(self) -> None:
        if self._last_unreadable is not None:
            self._call.log.warning("bot.messages_dropped", count=self._unreadable, last=str(self._last_unreadable))

    def _begin_overflow(self) -> None:
        if self._overflow_ms is None:
            self._overflow_ms = self._call.elapsed_ms()
            self._call.log.warning("bot.queue_full", hint="queue_s bounds what a bot may be ahead; the rest is dropped")

    def _note_overflow(self) -> None:
        since_ms, self._overflow_ms = self._overflow_ms, None
        if since_ms is not None:
            self._call.note_stall("bot_queue_full", since_ms, self._call.elapsed_ms())


async def _until_over(work: Awaitable[None]) -> None:
    """Let work end quietly when the call, or the connection, is over: whoever reads the socket says why."""
    try:
        await work
    except (CallEnded, aiohttp.ClientError, ConnectionError):
        return
