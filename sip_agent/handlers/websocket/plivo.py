"""Plivo Audio Streaming, bidirectional, from the carrier's side.

Source: plivo.com/docs/voice-agents/audio-streaming/concepts/audio-streaming-reference.
"""

import json
import time
from typing import Any

from media.frames import Samples
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
from sip_agent.handlers.websocket.mulaw import MulawDialect


class PlivoDialect(MulawDialect):
    """mu-law at 8 kHz in JSON; sequence numbers are numbers, and a cleared checkpoint does not come back."""

    def __init__(self, info: StreamInfo) -> None:
        super().__init__()
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
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000},
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

    def _event(self, event: str, **parts: Any) -> str:
        self._sequence += 1
        return (
            json.dumps({"event": event, "sequenceNumber": self._sequence, **parts})[:-1]
            + f', "extra_headers": {self._extra_headers}}}'
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
