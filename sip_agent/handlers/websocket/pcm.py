"""Raw 16-bit sound as binary messages with a few JSON events beside it: Cekura's CHIRP, from the caller's side.

Source: docs.cekura.ai/documentation/integrations/websocket-chirp. `dtmf` and `clear` are ours; a server that does
not know them answers with a recoverable `session.error`, or not at all.
"""

import json
import time
import uuid
from typing import Any

import numpy as np

from media.frames import Samples
from sip_agent.handlers.websocket.dialect import (
    BotAudio,
    BotMessage,
    Clear,
    StreamInfo,
    UnreadableMessage,
    part,
    read_event,
    text,
)

SAMPLE_RATE_HZ = 16_000


class PcmDialect:
    """pcm_s16le at 16 kHz, mono; the `X-` headers of the call are headers of the upgrade."""

    sample_rate_hz = SAMPLE_RATE_HZ
    bytes_per_sample = 2
    tells_speech = True

    def __init__(self, info: StreamInfo) -> None:
        self._utterances = 0
        self._prefix = info.hexadecimal[:12]

    def opening(self) -> tuple[str, ...]:
        """See `Dialect`: sound begins at once."""
        return ()

    def media(self, samples: Samples) -> bytes:
        """See `Dialect`."""
        return samples.tobytes()

    def digit(self, digit: str) -> str:
        """See `Dialect`."""
        return event("dtmf", digit=digit)

    def speech(self, at_ms: int, *, started: bool) -> str:  # noqa: ARG002  (the event has the time of day)
        """See `Dialect`."""
        self._utterances += started
        kind = "speech.started" if started else "speech.completed"
        return event(kind, utterance_id=f"u_{self._prefix}_{self._utterances}")

    def played(self, mark: str, *, cleared: bool) -> None:
        """See `Dialect`: there are no marks."""

    def cleared(self) -> None:
        """See `Dialect`."""

    def unreadable(self, error: UnreadableMessage) -> str:
        """See `Dialect`."""
        return session_error(error)

    def closing(self) -> None:
        """See `Dialect`: the socket is closed with 1000."""

    def read(self, message: str | bytes) -> BotMessage:
        """See `Dialect`; `speech.started` of a bot interrupts, so what it said before is stale."""
        if isinstance(message, bytes):
            return BotAudio(checked_sound(message))
        match read_chirp_event(message):
            case "speech.started" | "clear":
                return Clear()
        return None

    def decode(self, payload: bytes) -> Samples:
        """See `Dialect`."""
        return samples_of(payload)


def samples_of(payload: bytes) -> Samples:
    """Return 16-bit sound, as it comes over the wire, as samples."""
    return np.frombuffer(payload, np.dtype("<i2")).astype(np.int16, copy=False)


def event(kind: str, **data: Any) -> str:
    """Return a CHIRP event."""
    return json.dumps(
        {"type": kind, "id": str(uuid.uuid4()), "ts_ms": time.time_ns() // 1_000_000, "data": data}, ensure_ascii=False
    )


def session_error(error: UnreadableMessage) -> str:
    """Return the recoverable error that answers a message which was dropped."""
    return event("session.error", code=error.code, message=str(error))


def checked_sound(message: bytes) -> bytes:
    """Return a binary message; raises UnreadableMessage unless it holds whole samples."""
    if not message or len(message) % 2:
        raise UnreadableMessage(f"{len(message)} bytes are no 16-bit samples", "INVALID_AUDIO_FRAME")
    return message


def read_chirp_event(message: str) -> str:
    """Return the type of an event; raises UnreadableMessage for one that CHIRP does not have."""
    kind, document = read_event(message, "type")
    if kind in {"speech.started", "speech.completed"}:
        text(part(document, "data"), "utterance_id")
    elif kind not in {"session.error", "clear"}:
        raise UnreadableMessage(f"there is no event {kind[:40]!r}")
    return kind
