"""Telnyx Media Streaming, bidirectional in RTP mode with PCMU, from the carrier's side.

Source: developers.telnyx.com/api-reference/websockets/stream-call-media-over-websocket.
"""

import json
from datetime import UTC, datetime
from typing import Any

from media.frames import FRAME_MS, Samples
from sip_agent.handlers.websocket.dialect import (
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
                return sound(document)
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
