"""Let a speech-to-speech model hold the conversation, on any server that speaks the OpenAI Realtime protocol."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

from media.wav import AudioFileError
from sip_agent.call import Call
from sip_agent.errors import CallEnded, CallRejected
from sip_agent.handlers.options import check_sound
from sip_agent.handlers.realtime.conversation import Conversation, Manners
from sip_agent.handlers.realtime.link import RealtimeError, RealtimeLink, connect, describe_error
from sip_agent.handlers.realtime.protocol import CODECS, AudioFormat, SessionSetup, Shape
from sip_agent.handlers.realtime.tools import load_tools
from sip_agent.status import SipStatus

OPENAI_URL = "https://api.openai.com/v1"

_Choice = TypeVar("_Choice", bound=StrEnum)

_SCHEMES = {"https": "wss", "wss": "wss", "http": "ws", "ws": "ws"}


class RealtimeHandler:
    """Let a speech-to-speech model talk (OpenAI Realtime, or any server at `base_url` that speaks its protocol)."""

    def __init__(
        self,
        model: str = "gpt-realtime-2",
        *,
        base_url: str = OPENAI_URL,
        api_key_file: str = "",
        instructions: str = "",
        instructions_file: str = "",
        voice: str = "",
        greeting: str = "",
        audio_format: str = "pcm16",
        turn_detection: str | Mapping[str, Any] = "server_vad",
        interruptible: bool = True,
        transcription_model: str = "gpt-transcribe",
        tools: Sequence[str | Mapping[str, Any]] = (),
        tool_timeout_s: float = 10,
        connect_timeout_s: float = 5,
        response_timeout_s: float = 15,
        fallback_file: str = "",
        shape: str = "ga",
    ) -> None:
        self._url = _socket_url(base_url, model)
        self._shape = _choice(Shape, "shape", shape)
        self._headers = _headers(_api_key(api_key_file, base_url), self._shape)
        self._connect_timeout_s = _positive("connect_timeout_s", connect_timeout_s)
        if fallback_file:
            check_sound("fallback_file", fallback_file)
        self._fallback_file = fallback_file
        self._tools = load_tools(tools)
        detection = _turn_detection(turn_detection, interruptible=interruptible)
        text = _instructions(instructions, instructions_file)
        self._setup = SessionSetup(
            instructions=text,
            voice=voice,
            audio_format=_choice(AudioFormat, "audio_format", audio_format),
            turn_detection=detection,
            transcription_model=transcription_model,
            tools=[tool.definition() for tool in self._tools.values()],
        )
        self._manners = Manners(
            server_turns=detection is not None,
            server_answers=detection is not None and bool(detection.get("create_response", True)),
            server_cancels=detection is not None and bool(detection.get("interrupt_response", True)),
            interruptible=interruptible,
            # The instructions of one response replace those of the session, so they are repeated.
            greeting="\n\n".join(part for part in (text, greeting) if greeting and part),
            response_timeout_s=_positive("response_timeout_s", response_timeout_s),
            tool_timeout_s=_positive("tool_timeout_s", tool_timeout_s),
        )

    async def handle(self, call: Call) -> None:
        """Ring until the model is there, answer, and let it talk."""
        await call.ring()
        try:
            async with connect(self._url, self._headers, timeout_s=self._connect_timeout_s) as link:
                await self._set_up(link)
                await call.answer()
                codec = CODECS[self._setup.audio_format]
                await Conversation(call, link, codec, self._manners, self._tools).run()
        except RealtimeError as error:
            await self._give_up(call, error)

    async def _set_up(self, link: RealtimeLink) -> None:
        try:
            async with asyncio.timeout(self._connect_timeout_s), aclosing(link.events()) as events:
                async for event in events:
                    if event["type"] == "session.created":
                        await link.send(self._setup.update(self._shape))
                    elif event["type"] == "session.updated":
                        return
                    elif event["type"] == "error":
                        raise RealtimeError(
                            f"the realtime server refused the session: {describe_error(event.get('error'))}"
                        )
        except TimeoutError as error:
            raise RealtimeError(
                f"the realtime server did not set up the session within {self._connect_timeout_s:g} s"
            ) from error

    async def _give_up(self, call: Call, error: RealtimeError) -> None:
        """End a call that has lost its model: with the fallback, if there is one, and the reason on record."""
        call.log.error("realtime.failed", error=str(error))
        if not call.answered and not self._fallback_file:
            raise CallRejected(SipStatus.SERVICE_UNAVAILABLE, str(error)) from error
        with suppress(CallEnded):
            if not call.answered:
                await call.answer()
            if self._fallback_file:
                try:
                    await call.play(self._fallback_file)
                except AudioFileError as problem:
                    call.log.warning("realtime.fallback_failed", error=str(problem))
            await call.hangup(reason=str(error))
        raise error


def _socket_url(base_url: str, model: str) -> str:
    parts = urlsplit(base_url)
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise ValueError(f"base_url is like {OPENAI_URL}, not {base_url!r}")
    if parts.username or parts.password or parts.query:
        raise ValueError("base_url holds no credentials and no query: the key goes into api_key_file")
    path = parts.path.rstrip("/").removesuffix("/realtime")
    query = f"?{urlencode({'model': model})}" if model else ""
    return f"{_SCHEMES[parts.scheme]}://{parts.netloc}{path}/realtime{query}"


def _headers(api_key: str, shape: Shape) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    return {**headers, "OpenAI-Beta": "realtime=v1"} if shape is Shape.BETA else headers


def _api_key(file: str, base_url: str) -> str:
    key = _read("api_key_file", file) if file else os.environ.get("OPENAI_API_KEY", "").strip()
    if not key and base_url == OPENAI_URL:
        raise ValueError("there is no key for OpenAI: name a file that holds it in api_key_file, or set OPENAI_API_KEY")
    if not key.isascii() or not key.isprintable():
        raise ValueError("the key is one line of ASCII characters: check api_key_file or OPENAI_API_KEY")
    return key


def _instructions(text: str, file: str) -> str:
    if text and file:
        raise ValueError("instructions and instructions_file are both set: keep one of the two")
    return _read("instructions_file", file) if file else text.strip()


def _read(option: str, file: str) -> str:
    try:
        text = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{option}: {file} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not text:
        raise ValueError(f"{option}: {file} is empty")
    return text


def _positive(option: str, value: float) -> float:
    if value <= 0:
        raise ValueError(f"{option} is more than 0, not {value}")
    return value


def _choice(kind: type[_Choice], option: str, value: str) -> _Choice:
    try:
        return kind(value)
    except ValueError:
        raise ValueError(f"{option} is one of {', '.join(kind)}, not {value!r}") from None


def _turn_detection(value: str | Mapping[str, Any], *, interruptible: bool) -> dict[str, Any] | None:
    """Return the object that the server gets: a table of the settings says more than the type."""
    detection = {"type": value} if isinstance(value, str) else dict(value)
    kinds = ("server_vad", "semantic_vad", "none")
    if detection.get("type") not in kinds:
        raise ValueError(f"turn_detection is {', '.join(kinds)}, or a table with such a type; not {value!r}")
    if detection["type"] == "none":
        return None
    return {"interrupt_response": interruptible, **detection}
