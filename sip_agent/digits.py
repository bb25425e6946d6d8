"""DTMF digits as a call has them: their methods, what a SIP INFO says, and each digit once."""

import asyncio
import re
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

DTMF_DIGITS = frozenset("0123456789*#ABCD")

SAME_DIGIT = timedelta(seconds=1)
"""The same digit by another way is the same key until so long after it was let go."""

KEY_HELD_MAX = timedelta(seconds=10)
"""A key of which nobody says when it is let go, like one that is heard as tones, is held no longer than this."""

REMEMBERED_DIGITS = 32

DIGITS_MAX = 1000
"""Digits of one call; further ones are not taken."""

INFO_TYPES = ("application/dtmf-relay", "application/dtmf")

_SIGNAL = re.compile(r"^\s*signal\s*=\s*(\S+)", re.IGNORECASE | re.MULTILINE)
_DURATION = re.compile(r"^\s*duration\s*=\s*(\d{1,5})\b", re.IGNORECASE | re.MULTILINE)
_EVENTS = "0123456789*#ABCD"


class DtmfMethod(StrEnum):
    """How a digit travels: as an RTP event (RFC 4733), in a SIP INFO, or as tones."""

    RFC4733 = "rfc4733"
    INFO = "info"
    IN_BAND = "inband"


class InBandDtmf(StrEnum):
    """When digits are looked for in the sound: where the peer has no telephone-event, always, never."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


def read_info(content_type: str, body: str) -> tuple[str, int | None] | None:
    """Return the digit of a SIP INFO and its milliseconds, if it tells; None if it carries no digit.

    `application/dtmf-relay` has lines of `Signal=5` and `Duration=160`, `application/dtmf` the digit alone; neither
    has an RFC, both came with gateways. Some write * and # as the RFC 4733 events 10 and 11.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in INFO_TYPES:
        return None
    signal, duration = _SIGNAL.search(body), _DURATION.search(body)
    text = (signal[1] if signal else "" if kind == INFO_TYPES[0] else body.strip()).upper()
    if text.isascii() and text.isdigit() and len(text) == 2 and int(text) < len(_EVENTS):
        text = _EVENTS[int(text)]
    if len(text) != 1 or text not in DTMF_DIGITS:
        return None
    return text, int(duration[1]) if duration else None


@dataclass(slots=True)
class _Key:
    digit: str
    pressed_at: datetime
    methods: set[str]
    released_at: datetime | None

    def is_meant(self, digit: str, method: str, at: datetime) -> bool:
        """Tell whether what another method tells of a digit is this key."""
        last = self.pressed_at + KEY_HELD_MAX if self.released_at is None else self.released_at + SAME_DIGIT
        return digit == self.digit and method not in self.methods and self.pressed_at - SAME_DIGIT <= at <= last


class Digits:
    """The digits of one call: each once, though it comes by several methods, kept until somebody takes it."""

    def __init__(self) -> None:
        self._keys: deque[_Key] = deque(maxlen=REMEMBERED_DIGITS)
        self._held: dict[tuple[str, str], _Key] = {}
        self._waiting: deque[str] = deque()
        self._news = asyncio.Event()
        self._total = 0
        self._ended = False

    def note(self, digit: str, method: str, at: datetime, duration_ms: int | None = None) -> bool:
        """Take what `method` tells of a key; returns whether it is a new one, and not one too many.

        With a duration, the key has been let go: an RFC 4733 event is told of when it begins, without one, and when
        it ends. An INFO is sent once, mostly when the key is let go; what it says of the duration need not be true.
        """
        released = duration_ms is not None or method == DtmfMethod.INFO
        if released and (held := self._held.pop((digit, method), None)) is not None:
            held.released_at = at
            return False
        key = next((key for key in self._keys if key.is_meant(digit, method, at)), None)
        if is_new := key is None:
            if self._total >= DIGITS_MAX:
                return False
            self._total += 1
            key = _Key(digit, at, set(), at if released else None)
            self._keys.append(key)
            self._waiting.append(digit)
            self._news.set()
        key.methods.add(method)
        if not released:
            self._held[digit, method] = key
        return is_new

    def end(self) -> None:
        """Say that no more come."""
        self._ended = True
        self._news.set()

    async def next(self) -> str | None:
        """Return the next digit, or None after the last one."""
        while not self._waiting:
            if self._ended:
                return None
            self._news.clear()
            await self._news.wait()
        return self._waiting.popleft()
