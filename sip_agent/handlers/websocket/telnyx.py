"""Telnyx Media Streaming, bidirectional in RTP mode with PCMU, from the carrier's side.

Source: developers.telnyx.com/api-reference/websockets/stream-call-media-over-websocket.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from media.frames import FRAME_MS, Samples
from sip_agent.handlers.websocket.dialect import (
    BotAudio,
    BotMessage,
    Clear,
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

_MP3_KBPS = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MP3_KBPS_V1 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MP3_RATES_HZ = (44_100, 48_000, 32_000)


class TelnyxDialect(MulawDialect):
    """mu-law at 8 kHz in JSON; snake_case, sequence numbers as text."""

    def __init__(self, info: StreamInfo) -> None:
        super().__init__()
        self._info = info
        self._stream_id = info.call_uuid
        self._call_control_id = f"v3:{info.hexadecimal}"

    def opening(self) -> tuple[str, ...]:
        """See `Dialect`: `connected`, then `start`."""
        start = {
            "user_id": self._info.account_id,
            "call_control_id": self._call_control_id,
            "call_session_id": self._info.call_uuid,
            "from": self._info.caller,
            "to": self._info.called,
            "custom_parameters": dict(self._info.parameters),
            "media_format": {"encoding": "PCMU", "sample_rate": 8000, "channels": 1},
        }
        return json.dumps({"event": "connected", "version": "1.0.0"}), self._event("start", start=start)

    def media(self, samples: Samples) -> str:
        """See `Dialect`."""
        payload = self._next_payload(samples)
        return (
            f'{{"event":"media","sequence_number":"{self._sequence}","media":{{"track":"inbound",'
            f'"chunk":"{self._chunk}","timestamp":"{self._chunk * FRAME_MS}","payload":"{payload}"}},'
            f'"stream_id":"{self._stream_id}"}}'
        )

    def digit(self, digit: str) -> str:
        """See `Dialect`."""
        occurred_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        return self._event("dtmf", occurred_at=occurred_at, dtmf={"digit": digit})

    def played(self, mark: str, *, cleared: bool) -> str:  # noqa: ARG002  (Telnyx returns both alike)
        """See `Dialect`."""
        return self._event("mark", mark={"name": mark})

    def cleared(self) -> None:
        """See `Dialect`: the marks come back, and nothing else."""

    def unreadable(self, error: UnreadableMessage) -> str:
        """See `Dialect`."""
        payload = {"code": 100003, "title": "malformed_frame", "detail": str(error)}
        return json.dumps({"event": "error", "payload": payload, "stream_id": self._stream_id})

    def closing(self) -> str:
        """See `Dialect`."""
        stop = {"user_id": self._info.account_id, "call_control_id": self._call_control_id}
        return self._event("stop", stop=stop)

    def read(self, message: str | bytes) -> BotMessage:
        """See `Dialect`."""
        event, document = read_event(message)
        match event:
            case "media":
                return _mulaw(document)
            case "mark":
                return Mark(text(part(document, "mark"), "name"))
            case "clear":
                return Clear()
            case "stop":
                return Stop()
        raise UnreadableMessage(f"a bot sends media, mark and clear, not {event[:40]!r}")

    def _event(self, event: str, **parts: Any) -> str:
        self._sequence += 1
        return json.dumps(
            {"event": event, "sequence_number": str(self._sequence), **parts, "stream_id": self._stream_id}
        )


def _mulaw(document: Mapping[str, Any]) -> BotAudio:
    """Return the sound of a message; raises UnreadableMessage for MP3, which mu-law would make a noise of."""
    read = sound(document)
    length = _mp3_frame_bytes(read.payload[:4])
    if read.payload.startswith(b"ID3") or (length and _mp3_frame_bytes(read.payload[length : length + 4])):
        raise UnreadableMessage("media.payload is MP3; here it is PCMU, as with stream_bidirectional_mode rtp")
    return read


def _mp3_frame_bytes(header: bytes) -> int:
    """Return the length of the MP3 frame that begins so, 0 if none does.

    One header is no proof: quiet mu-law looks like it. Two, one frame apart, are.
    """
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0
    version, bitrate, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or bitrate in {0, 15} or rate == 3:
        return 0
    is_v1 = version == 3
    kbps = (_MP3_KBPS_V1 if is_v1 else _MP3_KBPS)[bitrate - 1]
    rate_hz = _MP3_RATES_HZ[rate] >> (3 - version if version else 2)
    return (144 if is_v1 else 72) * kbps * 1000 // rate_hz + (header[2] >> 1 & 1)
