"""The calls that a bot may end through its provider's REST API, by the id that the bot was told."""

import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sip_agent.call import Call


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveCall:
    """A call with the credentials that may end it; without an `auth_token` nobody may."""

    call: Call
    account_sid: str
    auth_token: str = field(repr=False)

    def admits(self, account_sid: str, auth_token: str) -> bool:
        """Compare credentials, in a time that says nothing about them."""
        given = f"{account_sid}:{auth_token}".encode("utf-8", "surrogateescape")
        wanted = f"{self.account_sid}:{self.auth_token}".encode()
        return hmac.compare_digest(given, wanted) and bool(self.auth_token)


class LiveCalls:
    """The calls of this process that are with a bot."""

    def __init__(self) -> None:
        self._calls: dict[str, LiveCall] = {}

    @contextmanager
    def holding(self, call_sid: str, live: LiveCall) -> Iterator[None]:
        """Let a call be found while the block runs."""
        self._calls[call_sid] = live
        try:
            yield
        finally:
            del self._calls[call_sid]

    def find(self, call_sid: str) -> LiveCall | None:
        """Return the call that a bot knows by this id."""
        return self._calls.get(call_sid)


LIVE_CALLS = LiveCalls()
"""Handlers are built from a route's options alone: this is where the HTTP API finds what they hold."""
