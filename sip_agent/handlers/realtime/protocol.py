"""The OpenAI Realtime protocol, as far as we speak it: the events that we send, and the sound in them.

The events are those of the published reference (developers.openai.com/api/reference/resources/realtime), which the
package `openai` carries as pydantic models: `openai.types.realtime`, and `openai.types.beta.realtime` for the shape
that OpenAI took back in 2026 and that other servers still speak.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np

from media.frames import Samples
from media.g711 import decode_mulaw, encode_mulaw

Event: TypeAlias = dict[str, Any]

NAME_LENGTH_MAX = 256
"""Ids of a server, and names of tools that its model calls, have no more characters; OpenAI's have less than 70."""


class Shape(StrEnum):
    """Which of the two published shapes a server speaks."""

    GA = "ga"
    BETA = "beta"


class AudioFormat(StrEnum):
    """How sound travels, both ways."""

    PCM16 = "pcm16"
    G711_ULAW = "g711_ulaw"


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioCodec:
    """Turns samples at `sample_rate_hz` into the bytes of a format, and back; `media_type` is its name in a session."""

    sample_rate_hz: int
    sample_bytes: int
    media_type: Mapping[str, Any]
    encode: Callable[[Samples], bytes]
    decode: Callable[[bytes], Samples]

    def duration_ms(self, size: int) -> int:
        """Return how long `size` bytes sound, in whole milliseconds."""
        return size * 1000 // (self.sample_rate_hz * self.sample_bytes)


def _decode_pcm16(sound: bytes) -> Samples:
    return np.frombuffer(sound, "<i2").astype(np.int16, copy=False)


CODECS: Mapping[AudioFormat, AudioCodec] = {
    AudioFormat.PCM16: AudioCodec(
        sample_rate_hz=24_000,
        sample_bytes=2,
        media_type={"type": "audio/pcm", "rate": 24_000},
        encode=lambda samples: samples.astype("<i2", copy=False).tobytes(),
        decode=_decode_pcm16,
    ),
    AudioFormat.G711_ULAW: AudioCodec(
        sample_rate_hz=8_000,
        sample_bytes=1,
        media_type={"type": "audio/pcmu"},
        encode=encode_mulaw,
        decode=decode_mulaw,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSetup:
    """What a session is to be like; what is empty is left to the server.

    `turn_detection` is the object that the server gets, or None where the client decides when the caller is done.
    """

    instructions: str = ""
    voice: str = ""
    audio_format: AudioFormat = AudioFormat.PCM16
    turn_detection: Mapping[str, Any] | None = None
    transcription_model: str = ""
    tools: Sequence[Mapping[str, Any]] = field(default_factory=tuple)

    def update(self, shape: Shape) -> Event:
        """Return the `session.update` event."""
        session = self._ga() if shape is Shape.GA else self._beta()
        if self.instructions:
            session["instructions"] = self.instructions
        if self.tools:
            session["tools"] = list(self.tools)
        return {"type": "session.update", "session": session}

    def _ga(self) -> Event:
        media_type = dict(CODECS[self.audio_format].media_type)
        heard: Event = {"format": media_type, "turn_detection": self.turn_detection}
        if self.transcription_model:
            heard["transcription"] = {"model": self.transcription_model}
        spoken: Event = {"format": media_type}
        if self.voice:
            spoken["voice"] = self.voice
        return {"type": "realtime", "output_modalities": ["audio"], "audio": {"input": heard, "output": spoken}}

    def _beta(self) -> Event:
        session: Event = {
            "modalities": ["text", "audio"],
            "input_audio_format": self.audio_format.value,
            "output_audio_format": self.audio_format.value,
            "turn_detection": self.turn_detection,
        }
        if self.transcription_model:
            session["input_audio_transcription"] = {"model": self.transcription_model}
        if self.voice:
            session["voice"] = self.voice
        return session


def name_in(holder: Event, key: str) -> str:
    """Return an id or a name that an event holds; raise KeyError or ValueError where there is none."""
    name = str(holder[key])
    if len(name) > NAME_LENGTH_MAX:
        raise ValueError(f"{key} has {len(name)} characters")
    return name


def append_audio(sound: bytes) -> str:
    """Return the `input_audio_buffer.append` event as JSON text: fifty of them go out each second of a call."""
    return f'{{"type":"input_audio_buffer.append","audio":"{base64.b64encode(sound).decode("ascii")}"}}'


def commit_audio() -> Event:
    """Return the event that ends the caller's turn, where the client decides on turns."""
    return {"type": "input_audio_buffer.commit"}


def create_response(event_id: str, instructions: str = "") -> Event:
    """Return the event that asks the model to speak; instructions replace those of the session for this once."""
    event: Event = {"type": "response.create", "event_id": event_id}
    if instructions:
        event["response"] = {"instructions": instructions}
    return event


def cancel_response(response_id: str) -> Event:
    """Return the event that stops a response in progress."""
    return {"type": "response.cancel", "response_id": response_id}


def truncate_item(item_id: str, content_index: int, audio_end_ms: int) -> Event:
    """Return the event that tells the model how much of its item was heard."""
    return {
        "type": "conversation.item.truncate",
        "item_id": item_id,
        "content_index": content_index,
        "audio_end_ms": audio_end_ms,
    }


def tool_output(call_id: str, output: str) -> Event:
    """Return the event that hands the model the result of a tool."""
    item = {"type": "function_call_output", "call_id": call_id, "output": output}
    return {"type": "conversation.item.create", "item": item}
