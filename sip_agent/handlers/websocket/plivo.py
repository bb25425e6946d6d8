"""Plivo Audio Streaming, bidirectional, from the carrier's side.

Source: plivo.com/docs/voice-agents/audio-streaming/concepts/audio-streaming-reference.
"""

import json
import time
from binascii import b2a_base64
from typing import Any

from media.frames import Samples
from media.g711 import decode_mulaw, encode_mulaw
from sip_agent.handlers.websocket.dialect import (
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


class PlivoDialect:
    """mu-law at 8 kHz in JSON; sequence numbers are numbers, and a cleared checkpoint does not come back."""

    sample_rate_hz = 8000
    bytes_per_sample = 1
    tells_speech = False

    def __init__(self, info: StreamInfo) -> None:
        self._info = info
        self._stream_id = info.call_uuid
        self._extra_headers = json.dumps(";".join(f"{name}={value}" for name, value in info.parameters.items()))
        self._sequence = 0
        self._chunk = 0

    def opening(self) -> tuple[str, ...]:
        """See `Dialect`: `start` alone."""
        start = {
            "callId": self._info.call_uuid,
            "streamId": self._stream_id,
            "accountId": self._info.account_id,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000},
        }
        return (self._event("start", start=start),)

    def media(self, samples: Samples) -> str:
        """See `Dialect`."""
        self._sequence += 1
        self._chunk += 1
        payload = b2a_base64(encode_mulaw(samples), newline=False).decode("ascii")
        return (
            f'{{"event":"media","sequenceNumber":{self._sequence},"streamId":"{self._stream_id}","media":'
            f'{{"track":"inbound","timestamp":"{_now_ms()}","chunk":{self._chunk},"payload":"{payload}"}},'
            f'"extra_headers":{self._extra_headers}}}'
        )

    def digit(self, digit: str) -> str:
        """See `Dialect`."""
        dtmf = {"track": "inbound", "digit": digit, "timestamp": str(_now_ms())}
        return self._event("dtmf", streamId=self._stream_id, dtmf=dtmf)

    def speech(self, at_ms: int, *, started: bool) -> None:
        """See `Dialect`: Plivo has none."""

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
                encoding = part(document, "media").get("contentType", "audio/x-mulaw")
                if encoding != "audio/x-mulaw":
                    raise UnreadableMessage("media.contentType is not audio/x-mulaw, as `start` asked for")
                return sound(document)
            case "checkpoint":
                return Mark(text(document, "name"))
            case "clearAudio":
                return Clear()
            case "sendDTMF":
                return Digits(text(document, "dtmf"))
            case "stop":
                return Stop()
        raise UnreadableMessage(f"a bot sends playAudio, checkpoint, clearAudio and sendDTMF, not {event[:40]!r}")

    def decode(self, payload: bytes) -> Samples:
        """See `Dialect`."""
        return decode_mulaw(payload)

    def _event(self, event: str, **parts: Any) -> str:
        self._sequence += 1
        return (
            json.dumps({"event": event, "sequenceNumber": self._sequence, **parts})[:-1]
            + f', "extra_headers": {self._extra_headers}}}'
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
