"""DTMF digits as a call has them: their methods, what a SIP INFO says, and each digit once."""

import asyncio
import re
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

DTMF_DIGITS = frozenset("0123456789*#ABCD")

SAME_DIGIT = timedelta(seconds=1)
"""The same digit by another way within this time is the same key."""

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
class _Noted:
    digit: str
    pressed_at: datetime
    methods: set[str]


class Digits:
    """The digits of one call: each once, though it comes by several methods, kept until somebody takes it."""

    def __init__(self) -> None:
        self._noted: deque[_Noted] = deque(maxlen=REMEMBERED_DIGITS)
        self._waiting: deque[str] = deque()
        self._news = asyncio.Event()
        self._total = 0
        self._ended = False

    def note(self, digit: str, method: str, at: datetime, duration_ms: int | None = None) -> bool:
        """Take a digit that came by `method`; returns whether it is a new one, and not one too many.

        One that says how long it lasted came when the key was let go: it was pressed as much earlier.
        """
        pressed_at = at - timedelta(milliseconds=duration_ms or 0)
        for noted in self._noted:
            if noted.digit == digit and method not in noted.methods and pressed_at - noted.pressed_at <= SAME_DIGIT:
                noted.methods.add(method)
                return False
        if self._total >= DIGITS_MAX:
            return False
        self._total += 1
        self._noted.append(_Noted(digit, pressed_at, {method}))
        self._waiting.append(digit)
        self._news.set()
        return True

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
