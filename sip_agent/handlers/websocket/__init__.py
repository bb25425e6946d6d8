"""Any voice bot that speaks a provider's WebSocket protocol, with us in the provider's place."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp

from media.wav import AudioFileError
from sip_agent.call import BargeIn, Call
from sip_agent.errors import CallEnded, CallRejected, UserAgentError
from sip_agent.handlers.options import check_sound
from sip_agent.handlers.websocket.bridge import Bridge
from sip_agent.handlers.websocket.connection import (
    BotError,
    ConnectOptions,
    Socket,
    authority,
    check_headers,
    check_url,
    connect,
    open_session,
    read_secret,
    shown,
)
from sip_agent.handlers.websocket.dialect import Dialect, StreamInfo
from sip_agent.handlers.websocket.live import LIVE_CALLS, LiveCall
from sip_agent.handlers.websocket.pcm import PcmDialect
from sip_agent.handlers.websocket.plivo import CONTENT_TYPES, PlivoDialect
from sip_agent.handlers.websocket.telnyx import TelnyxDialect
from sip_agent.handlers.websocket.twilio import NO_ACCOUNT, TwilioDialect, call_sid
from sip_agent.handlers.websocket.twiml import Hangup, Pause, Play, Reject, Say, Stream, Verb
from sip_agent.handlers.websocket.voice_url import ask_voice_url, fetch_sound, signature, voice_parameters
from sip_agent.status import SipStatus

T = TypeVar("T")

DIALECTS: Mapping[str, Callable[[StreamInfo], Dialect]] = {
    "twilio": TwilioDialect,
    "telnyx": TelnyxDialect,
    "plivo": PlivoDialect,
    "pcm": PcmDialect,
}

DIGIT_S = 0.3
"""A digit that is sent, and the pause after it."""

WAITS_S: Mapping[str, float] = {"w": 0.5, "W": 1.0}
"""What Twilio's letters between digits wait."""


class WebSocketHandler:
    """Connect the call with a voice bot: its WebSocket at `url`, or whatever TwiML at `voice_url` says.

    `dialect` is the protocol that the bot was written for: `twilio` (Media Streams), `telnyx`, `plivo`, or `pcm`
    (16-bit sound at 16 kHz in binary messages, Cekura's CHIRP). The bot is told every `X-` header of the call, and
    `parameters`, as its custom parameters (`pcm`: as headers of the upgrade). `content_type` is what `contentType` of
    Plivo's `<Stream>` would be; without it that is audio/x-mulaw;rate=8000.

    The bot is connected before the call is answered: one that cannot be reached within `connect_timeout_s` refuses
    the call with 502 or 504, unless there is a `fallback_file`: then the call is answered, and this sound file played
    instead; so it is when the bot goes away in the middle of the call. The record says `failed` then, and why. A bot
    that closes its socket in order (1000) hangs up: what it had said is still sent. It is not connected again.

    A bot may be `queue_s` seconds of sound ahead; what comes beyond that is dropped (stall `bot_queue_full`). One
    that leaves the caller without a first word or an answer for `slow_after_s` is noted (stall `slow_bot`); 0 does not
    watch.

    `headers`, `subprotocol` and `basic_auth_file` (one line, user:password) go into the upgrade; `ca_file` trusts a
    private authority for wss. `account_sid` and `auth_token_file` are the Twilio account that we stand for: they sign
    requests (X-Twilio-Signature) and let the bot end the call through `POST /2010-04-01/Accounts/…/Calls/….json`.
    """

    def __init__(
        self,
        url: str = "",
        *,
        voice_url: str = "",
        dialect: str = "twilio",
        content_type: str = "",
        fallback_file: str = "",
        connect_timeout_s: float = 5,
        queue_s: float = 300,
        slow_after_s: float = 2,
        parameters: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        subprotocol: str = "",
        basic_auth_file: str = "",
        ca_file: str = "",
        account_sid: str = "",
        auth_token_file: str = "",
    ) -> None:
        _check_bot(url, voice_url, dialect, content_type)
        for name, seconds in (("connect_timeout_s", connect_timeout_s), ("queue_s", queue_s)):
            if seconds <= 0:
                raise ValueError(f"{name} is more than 0, not {seconds}")
        if slow_after_s < 0:
            raise ValueError(f"slow_after_s is not negative: {slow_after_s}")
        if fallback_file:
            check_sound("fallback_file", fallback_file)
        check_headers("headers", headers or {})
        if dialect == "pcm":
            check_headers("parameters", parameters or {})
        if ca_file:
            authority(ca_file)
        self._url = url
        self._voice_url = voice_url
        self._dialect = dialect
        self._content_type = content_type
        self._fallback_file = fallback_file
        self._queue_ms = round(queue_s * 1000)
        self._slow_after_ms = round(slow_after_s * 1000)
        self._parameters = {str(name): str(value) for name, value in (parameters or {}).items()}
        self._account_sid = account_sid
        self._auth_token = read_secret("auth_token_file", auth_token_file) if auth_token_file else ""
        self._options = ConnectOptions(
            timeout_s=connect_timeout_s,
            headers={str(name): str(value) for name, value in (headers or {}).items()},
            subprotocol=subprotocol,
            credentials=read_secret("basic_auth_file", basic_auth_file) if basic_auth_file else "",
            ca_file=ca_file,
        )

    async def handle(self, call: Call) -> None:
        """Ring, reach the bot, answer, and carry sound both ways."""
        await call.ring()
        live = LiveCall(call=call, account_sid=self._account_sid or NO_ACCOUNT, auth_token=self._auth_token)
        try:
            async with open_session() as session:
                with LIVE_CALLS.holding(call_sid(call.call_uuid), live):
                    if self._url:
                        await self._stream(call, session, Stream(self._url))
                    else:
                        await self._follow_voice_url(call, session)
        except BotError as error:
            await self._fall_back(call, error)

    async def _follow_voice_url(self, call: Call, session: aiohttp.ClientSession) -> None:
        parameters = voice_parameters(call, self._account_sid)
        asking = ask_voice_url(session, self._voice_url, parameters, self._auth_token, self._options)
        response = await _unless_over(call, asking)
        if response.ignored:
            call.log.warning("twiml.ignored", attributes=", ".join(response.ignored))
        for verb in response.verbs:
            if call.ended:
                return
            await self._carry_out(call, session, verb)
        if not call.ended:
            await call.hangup(reason="the TwiML of the voice URL came to its end")

    async def _carry_out(self, call: Call, session: aiohttp.ClientSession, verb: Verb) -> None:
        if isinstance(verb, Stream):
            await self._stream(call, session, verb)
            return
        if isinstance(verb, Reject):
            if not call.answered:
                status = SipStatus.BUSY_HERE if verb.busy else SipStatus.DECLINE
                raise CallRejected(status, "the TwiML of the voice URL rejects the call")
            return
        if isinstance(verb, Hangup):
            await call.hangup(reason="the TwiML of the voice URL hangs up")
            return
        if isinstance(verb, Pause):
            await asyncio.wait([call.disconnected], timeout=verb.seconds)
            return
        if not call.answered:
            await call.answer()
        if isinstance(verb, Say):
            for _ in range(verb.loops):
                await call.say(verb.text, barge_in=BargeIn.IGNORE)
        elif verb.digits:
            await _send_digits(call, verb.digits)
        else:
            await self._play(call, session, verb)

    async def _play(self, call: Call, session: aiohttp.ClientSession, verb: Play) -> None:
        content = await _unless_over(call, fetch_sound(session, verb.url, self._options))
        with tempfile.NamedTemporaryFile(suffix=Path(urlsplit(verb.url).path).suffix) as file:
            await asyncio.to_thread(_write, file.name, content)
            try:
                for _ in range(verb.loops):
                    await call.play(file.name)
            except AudioFileError as error:
                raise BotError(f"what {shown(verb.url)} answered with is no sound that can be played") from error

    async def _stream(self, call: Call, session: aiohttp.ClientSession, stream: Stream) -> None:
        socket = await _unless_over(call, self._connect(call, session, stream))
        try:
            if not call.answered:
                await call.answer()
            bridge = Bridge(
                call,
                socket,
                self._open_dialect(call, stream),
                name=shown(stream.url),
                queue_ms=self._queue_ms,
                slow_after_ms=self._slow_after_ms,
            )
            await bridge.run()
        finally:
            await socket.close()
        if self._url and not call.ended:
            await call.hangup(reason=f"the bot at {shown(stream.url)} closed the stream")

    async def _connect(self, call: Call, session: aiohttp.ClientSession, stream: Stream) -> Socket:
        headers: dict[str, str] = {}
        if self._dialect == "pcm":
            headers = {**_joined(call), **self._parameters}
        if self._auth_token:
            headers["X-Twilio-Signature"] = signature(self._auth_token, stream.url, {})
        return await connect(session, stream.url, self._options, headers)

    def _open_dialect(self, call: Call, stream: Stream) -> Dialect:
        info = StreamInfo(
            call_uuid=call.call_uuid,
            caller=call.invite.from_uri,
            called=call.invite.to_uri,
            account_id=self._account_sid,
            content_type=self._content_type,
            parameters={**_joined(call), **self._parameters, **stream.parameters},
        )
        return DIALECTS[self._dialect](info)

    async def _fall_back(self, call: Call, error: BotError) -> None:
        """Tell the caller what there is to tell, end the call, and let the record say why."""
        if not call.ended and self._fallback_file:
            call.log.warning("bot.fallback", error=str(error))
            if not call.answered:
                await call.answer()
            call.stop_playback()
            try:
                await call.play(self._fallback_file)
            except AudioFileError as problem:
                call.log.warning("bot.fallback_failed", error=str(problem))
        elif not call.ended and not call.answered:
            raise CallRejected(error.status, str(error)) from error
        if not call.ended:
            await call.hangup(reason=str(error))
        raise error


def _check_bot(url: str, voice_url: str, dialect: str, content_type: str) -> None:
    if bool(url) == bool(voice_url):
        raise ValueError("give either url (the bot's WebSocket) or voice_url (where its TwiML is)")
    if url:
        check_url("url", url, ("wss", "ws"))
    else:
        check_url("voice_url", voice_url, ("https", "http"))
    if dialect not in DIALECTS:
        raise ValueError(f"dialect is one of {', '.join(DIALECTS)}, not {dialect!r}")
    if voice_url and dialect != "twilio":
        raise ValueError(f"voice_url answers with TwiML, which is Twilio's: the dialect is twilio, not {dialect}")
    if content_type and dialect != "plivo":
        raise ValueError(f"content_type is for the dialect plivo, not {dialect}, which has one format alone")
    if content_type and content_type not in CONTENT_TYPES:
        raise ValueError(f"content_type is one of {', '.join(CONTENT_TYPES)}, not {content_type!r}")


async def _send_digits(call: Call, digits: str) -> None:
    """Send digits one after the other, with the waits among them; returns when the last was heard.

    Where they cannot be sent, the log says so, and the call goes on without them.
    """
    for digit in digits:
        wait_s = WAITS_S.get(digit, DIGIT_S)
        if digit not in WAITS_S:
            try:
                await call.send_dtmf(digit)
            except UserAgentError as error:
                call.log.warning("bot.digits_not_sent", error=str(error))
                return
        await asyncio.wait([call.disconnected], timeout=wait_s)


def _joined(call: Call) -> dict[str, str]:
    return {name: ", ".join(values) for name, values in call.headers.items()}


def _write(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)


async def _unless_over(call: Call, work: Awaitable[T]) -> T:
    """Wait for work that the end of the call makes pointless; then raises CallEnded."""
    task = asyncio.ensure_future(work)
    try:
        either: set[asyncio.Future[Any]] = {task, call.disconnected}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise CallEnded("the caller was gone before the bot was there")
        return task.result()
    finally:
        task.cancel()


__all__ = ["WebSocketHandler"]
