"""The stand-in's telephone: it places the calls of all runs on one SIP endpoint.

Its INVITE, codecs (all that the engine has) and DTMF are our own choice: Cekura's are not documented.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, Self

from sip_agent.analyst import TurnAnalyst
from sip_agent.caller import CallRequest, CallResult, place_call
from sip_agent.config import Settings
from sip_agent.hearing import Hearing
from sip_agent.platforms.cekura.simulator.world import SipAuth
from sip_agent.speech import Speech
from sip_agent.ua.endpoint import Binding, Caller, Endpoint

USER_AGENT = "sip-agent-stand-in-for-cekura"
FROM_URI = "sip:testing-agent@stand-in.invalid"
"""Nobody is to take it for Cekura in a trace."""


class LiveCall(Protocol):
    """A call that goes on, as far as a run has to do with it."""

    disconnected: asyncio.Future[Any]

    async def hangup(self, *, reason: str) -> None:
        """End it, answered or not."""


class Telephone(Protocol):
    """Whatever places calls."""

    async def call(self, request: CallRequest, on_call: Callable[[LiveCall], None]) -> CallResult:
        """Place one call and see it through; `on_call` is given it when its INVITE is under way."""


class SipTelephone:
    """Places real calls from `address`, with the speech and hearing of `settings`; `async with` opens and closes it."""

    def __init__(self, settings: Settings, address: str, max_calls: int) -> None:
        sip = settings.sip.model_copy(update={"user_agent": USER_AGENT})
        self._settings = settings.model_copy(update={"sip": sip})
        self._binding = Binding(transport="UDP", host=address, port=0)
        self._max_calls = max_calls
        self._analyst = TurnAnalyst()
        self._speech: Speech
        self._hearing: Hearing
        self._endpoint: Endpoint

    async def __aenter__(self) -> Self:
        settings = self._settings
        self._speech = await asyncio.to_thread(Speech.from_settings, settings.speech, settings.base_dir)
        self._hearing = Hearing.from_settings(settings.hearing)
        self._endpoint = Endpoint(settings, [self._binding], max_calls=self._max_calls)
        await self._endpoint.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._endpoint.stop()
        await self._analyst.stop()
        self._hearing.close()
        await self._speech.close()

    async def call(self, request: CallRequest, on_call: Callable[[LiveCall], None]) -> CallResult:
        """See Telephone."""
        return await place_call(
            self._endpoint, request, self._speech, self._hearing, on_call=on_call, analyst=self._analyst
        )


def as_testing_agent(auth: SipAuth | None) -> Caller:
    """Return as whom to call an agent: the From URI is our own choice."""
    if auth is None:
        return Caller(uri=FROM_URI)
    return Caller(uri=FROM_URI, username=auth.username, password=auth.password.get_secret_value())
