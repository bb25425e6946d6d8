"""Plivo Audio Streaming, bidirectional, from the carrier's side.

Source: plivo.com/docs/voice-agents/audio-streaming/concepts/audio-streaming-reference.
"""

import json
import time
from collections.abc import Mapping
from typing import Any

from media.frames import Samples
from media.g711 import decode_mulaw
from media.live_resample import LiveResampler
from sip_agent.handlers.websocket.dialect import (
    BotAudio,
    BotMessage,
    Clear,
    Digits,
    Mark,
    Stop,
    StreamInfo,
    UnreadableMessage,
    part,
    read_event,
    sound,
    text,
)
from sip_agent.handlers.websocket.mulaw import MulawDialect
from sip_agent.handlers.websocket.pcm import samples_of

MULAW = "audio/x-mulaw"

CONTENT_TYPES: Mapping[str, int] = {
    f"{MULAW};rate=8000": 8000,
    "audio/x-l16;rate=8000": 8000,
    "audio/x-l16;rate=16000": 16_000,
}
"""What `contentType` of Plivo's `<Stream>` may be, and its rate."""


class PlivoDialect(MulawDialect):
    """Sound in JSON; sequence numbers are numbers, and a cleared checkpoint does not come back.

    The stream has one format, what the bot plays may have another; it waits as 16-bit sound at the stream's rate.
    """

    bytes_per_sample = 2

    def __init__(self, info: StreamInfo) -> None:
        super().__init__()
        self._content_type = info.content_type or f"{MULAW};rate=8000"
        self._encoding = self._content_type.partition(";")[0]
        self.sample_rate_hz = CONTENT_TYPES[self._content_type]
        self._resamplers = {rate: LiveResampler(rate, self.sample_rate_hz) for rate in set(CONTENT_TYPES.values())}
        self._info = info
        self._stream_id = info.call_uuid
        self._extra_headers = json.dumps(";".join(f"{name}={value}" for name, value in info.parameters.items()))

    def opening(self) -> tuple[str, ...]:
        """See `Dialect`: `start` alone."""
        start = {
            "callId": self._info.call_uuid,
            "streamId": self._stream_id,
            "accountId": self._info.account_id,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": self._encoding, "sampleRate": self.sample_rate_hz},
        }
        return (self._event("start", start=start),)

    def media(self, samples: Samples) -> str:
        """See `Dialect`."""
        payload = self._next_payload(samples)
        return (
            f'{{"event":"media","sequenceNumber":{self._sequence},"streamId":"{self._stream_id}","media":'
            f'{{"track":"inbound","timestamp":"{_now_ms()}","chunk":{self._chunk},"payload":"{payload}"}},'
            f'"extra_headers":{self._extra_headers}}}'
        )

    def digit(self, digit: str) -> str:
        """See `Dialect`."""
        dtmf = {"track": "inbound", "digit": digit, "timestamp": str(_now_ms())}
        return self._event("dtmf", streamId=self._stream_id, dtmf=dtmf)

    def played(self, mark: str, *, cleared: bool) -> str | None:
        """See `Dialect`: only sound that was played is acknowledged."""
        if cleared:
            return None
        return self._event("playedStream", streamId=self._stream_id, name=mark)

    def cleared(self) -> str:
        """See `Dialect`."""
        return self._event("clearedAudio", streamId=self._stream_id)

    def unreadable(self, error: UnreadableMessage) -> None:
        """See `Dialect`: Plivo has none."""

    def closing(self) -> None:
        """See `Dialect`: Plivo closes the socket, and that is all."""

    def read(self, message: str | bytes) -> BotMessage:
        """See `Dialect`."""
        event, document = read_event(message)
        match event:
            case "playAudio":
                return self._read_sound(document)
            case "checkpoint":
                return Mark(text(document, "name"))
            case "clearAudio":
                return Clear()
            case "sendDTMF":
                return Digits(text(document, "dtmf"))
            case "stop":
                return Stop()
        raise UnreadableMessage(f"a bot sends playAudio, checkpoint, clearAudio and sendDTMF, not {event[:40]!r}")

    def encode(self, samples: Samples) -> bytes:
        """See `MulawDialect`."""
        return super().encode(samples) if self._encoding == MULAW else samples.tobytes()

    def decode(self, payload: bytes) -> Samples:
        """See `Dialect`."""
        return samples_of(payload)

    def _read_sound(self, document: Mapping[str, Any]) -> BotAudio:
        media = part(document, "media")
        written = str(media.get("contentType", self._content_type))
        content_type = written if ";" in written else f"{written};rate={media.get('sampleRate', 8000)}"
        if content_type not in CONTENT_TYPES:
            raise UnreadableMessage("media is neither audio/x-mulaw at 8000 nor audio/x-l16 at 8000 or 16000")
        is_mulaw = content_type.startswith(MULAW)
        payload = sound(document, 1 if is_mulaw else 2).payload
        samples = decode_mulaw(payload) if is_mulaw else samples_of(payload)
        return BotAudio(self._resamplers[CONTENT_TYPES[content_type]].process(samples).tobytes())

    def _event(self, event: str, **parts: Any) -> str:
        self._sequence += 1
        return (
            json.dumps({"event": event, "sequenceNumber": self._sequence, **parts})[:-1]
            + f', "extra_headers": {self._extra_headers}}}'
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
