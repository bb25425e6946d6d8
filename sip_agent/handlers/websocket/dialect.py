"""What the dialects have in common: what a bot can say, and what the bridge asks of a dialect."""

import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from media.frames import Samples
from sip_agent.errors import SipAgentError


class UnreadableMessage(SipAgentError):  # noqa: N818  (a fact about what the bot sent; it is counted, not raised further)
    """The bot sent what its dialect does not have; the message says what is wrong, and shows none of the content.

    `code` is the word that CHIRP has for it.
    """

    def __init__(self, message: str, code: str = "INVALID_MESSAGE") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamInfo:
    """What a bot is told of the call it is connected to.

    `call_uuid` is our id, from which a dialect makes ids of its provider's form; `parameters` are the `X-` headers
    of the call and whatever the route adds, `account_id` the provider account that we stand for, `content_type` the
    format of a dialect that has several (empty: its own).
    """

    call_uuid: str
    caller: str
    called: str
    account_id: str = ""
    content_type: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def hexadecimal(self) -> str:
        """The call's id as 32 hexadecimal digits."""
        return self.call_uuid.replace("-", "")


@dataclass(frozen=True, slots=True)
class BotAudio:
    """Sound to play, in the encoding of the dialect; `decode` turns any slice of it into samples."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Mark:
    """Tell the bot by this name when all sound before it has been sent."""

    name: str


@dataclass(frozen=True, slots=True)
class Clear:
    """Drop the sound that is queued."""


@dataclass(frozen=True, slots=True)
class Digits:
    """Send DTMF digits to the caller."""

    digits: str


@dataclass(frozen=True, slots=True)
class Stop:
    """End the stream."""


BotMessage = BotAudio | Mark | Clear | Digits | Stop | None
"""None is a message that asks for nothing."""


class Dialect(Protocol):
    """One provider's protocol, for one stream: values in, text out; it knows no socket, clock or call."""

    sample_rate_hz: int
    bytes_per_sample: int
    tells_speech: bool

    def opening(self) -> tuple[str, ...]:
        """Return the messages that begin the stream."""

    def media(self, samples: Samples) -> str | bytes:
        """Return the message with the next sound of the caller."""

    def digit(self, digit: str) -> str | None:
        """Return the message for a DTMF digit of the caller, if the dialect has one."""

    def speech(self, at_ms: int, *, started: bool) -> str | None:
        """Return the message for the caller's beginning or ending to speak, if the dialect has one."""

    def played(self, mark: str, *, cleared: bool) -> str | None:
        """Return the message for a mark that was reached, or, `cleared`, whose sound was dropped."""

    def cleared(self) -> str | None:
        """Return the answer to a Clear, if the dialect has one."""

    def unreadable(self, error: UnreadableMessage) -> str | None:
        """Return the answer to a message that cannot be read, if the dialect has one."""

    def closing(self) -> str | None:
        """Return the message that ends the stream, if the dialect has one."""

    def read(self, message: str | bytes) -> BotMessage:
        """Read a message of the bot; raises UnreadableMessage."""

    def decode(self, payload: bytes) -> Samples:
        """Turn (a slice of) the payload of a BotAudio into samples."""


def read_event(message: str | bytes, key: str = "event") -> tuple[str, dict[str, Any]]:
    """Read a JSON object and return what it says under `key` and all of it; raises UnreadableMessage."""
    if not isinstance(message, str):
        raise UnreadableMessage("a binary message; this dialect has text alone")
    try:
        document = json.loads(message)
    except (ValueError, RecursionError):
        raise UnreadableMessage("not JSON") from None
    if not isinstance(document, dict) or not isinstance(document.get(key), str):
        raise UnreadableMessage(f"not a JSON object with {key!r}")
    return document[key], document


def part(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an object inside a message; raises UnreadableMessage if it is not there."""
    found = document.get(name)
    if not isinstance(found, dict):
        raise UnreadableMessage(f"{name!r} is missing, or no object", "MISSING_FIELD")
    return found


def text(document: Mapping[str, Any], name: str) -> str:
    """Return a text inside a message; raises UnreadableMessage if it is not there."""
    found = document.get(name)
    if not isinstance(found, str):
        raise UnreadableMessage(f"{name!r} is missing, or no text", "MISSING_FIELD")
    return found


def sound(document: Mapping[str, Any], bytes_per_sample: int = 1) -> BotAudio:
    """Return the sound in `media.payload`; raises UnreadableMessage if it is no base64 of whole samples."""
    try:
        payload = binascii.a2b_base64(text(part(document, "media"), "payload"), strict_mode=True)
    except (binascii.Error, ValueError):
        raise UnreadableMessage("media.payload is no base64") from None
    if len(payload) % bytes_per_sample:
        raise UnreadableMessage(f"media.payload has {len(payload)} bytes, which is half a sample too many")
    return BotAudio(payload)
