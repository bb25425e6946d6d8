"""Twilio Media Streams, bidirectional, from the carrier's side.

Source: twilio.com/docs/voice/media-streams/websocket-messages.
"""

import json
from typing import Any

from media.frames import FRAME_MS, Samples
from sip_agent.handlers.websocket.dialect import (
    BotMessage,
    Clear,
    Mark,
    StreamInfo,
    UnreadableMessage,
    part,
    read_event,
    sound,
    text,
)
from sip_agent.handlers.websocket.mulaw import MulawDialect

NO_ACCOUNT = "AC" + "0" * 32
"""The account of a route that names none."""


def call_sid(call_uuid: str) -> str:
    """Return the call's id in Twilio's form: CA and 32 hexadecimal digits."""
    return "CA" + call_uuid.replace("-", "")


class TwilioDialect(MulawDialect):
    """mu-law at 8 kHz in JSON; every value of the envelope is text, as Twilio sends it."""

    def __init__(self, info: StreamInfo) -> None:
        super().__init__()
        self._call_sid = call_sid(info.call_uuid)
        self._stream_sid = "MZ" + info.hexadecimal
        self._account_sid = info.account_id or NO_ACCOUNT
        self._parameters = dict(info.parameters)

    def opening(self) -> tuple[str, ...]:
        """See `Dialect`: `connected`, then `start`."""
        start = {
            "accountSid": self._account_sid,
            "streamSid": self._stream_sid,
            "callSid": self._call_sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": self._parameters,
        }
        return (
            json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"}),
            self._event("start", start=start),
        )

    def media(self, samples: Samples) -> str:
        """See `Dialect`; written by hand, as this is the one message that comes fifty times a second."""
        payload = self._next_payload(samples)
        return (
            f'{{"event":"media","sequenceNumber":"{self._sequence}","media":{{"track":"inbound",'
            f'"chunk":"{self._chunk}","timestamp":"{self._chunk * FRAME_MS}","payload":"{payload}"}},'
            f'"streamSid":"{self._stream_sid}"}}'
        )

    def digit(self, digit: str) -> str:
        """See `Dialect`."""
        return self._event("dtmf", dtmf={"track": "inbound_track", "digit": digit})

    def played(self, mark: str, *, cleared: bool) -> str:  # noqa: ARG002  (Twilio returns both alike)
        """See `Dialect`."""
        return self._event("mark", mark={"name": mark})

    def cleared(self) -> None:
        """See `Dialect`: the marks come back, and nothing else."""

    def unreadable(self, error: UnreadableMessage) -> None:
        """See `Dialect`: Twilio has none."""

    def closing(self) -> str:
        """See `Dialect`."""
        return self._event("stop", stop={"accountSid": self._account_sid, "callSid": self._call_sid})

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
        raise UnreadableMessage(f"a bot sends media, mark and clear, not {event[:40]!r}")

    def _event(self, event: str, **parts: Any) -> str:
        self._sequence += 1
        return json.dumps(
            {"event": event, "sequenceNumber": str(self._sequence), **parts, "streamSid": self._stream_sid}
        )
