"""Which handler takes a call: the first route whose conditions all hold."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from sip_agent.call import ConversationHandler
from sip_agent.config import FaultSettings, RouteMatch, RouteSettings
from sip_agent.errors import CallRejected
from sip_agent.handlers import handler_factory
from sip_agent.invite import Invite
from sip_agent.status import SipStatus

log = structlog.get_logger()

WARM_UP_S = 60.0
"""What a handler gets to make ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route with its handler found and its options checked."""

    match: RouteMatch
    handler: str
    options: dict[str, Any]
    build: Callable[[], ConversationHandler]
    faults: FaultSettings = field(default_factory=FaultSettings)


class Routes:
    """All routes, in order; raises SettingsError for a handler that cannot be built."""

    def __init__(self, settings: Sequence[RouteSettings], base_dir: Path) -> None:
        self._routes = [
            Route(
                match=item.match,
                handler=item.handler,
                options=item.options,
                faults=item.faults,
                build=handler_factory(item.handler, item.options, base_dir),
            )
            for item in settings
        ]

    async def warm_up(self) -> None:
        """Let handlers make ready for calls that are announced: those that have a coroutine method `warm_up`."""
        for route in self._routes:
            warm_up = getattr(route.build(), "warm_up", None)
            if warm_up is None:
                continue
            try:
                async with asyncio.timeout(WARM_UP_S):
                    await warm_up()
            except Exception:
                log.exception("handler.warm_up_failed", handler=route.handler)

    def find(self, invite: Invite) -> Route:
        """Return the route of a call; raises CallRejected 404 if none matches."""
        for route in self._routes:
            if matches(route.match, invite):
                return route
        raise CallRejected(SipStatus.NOT_FOUND, f"no route matches the user {invite.user!r}")


def matches(match: RouteMatch, invite: Invite) -> bool:
    """Tell whether all conditions of a route hold; header names in any letter case, values exactly."""
    if match.user is not None and match.user != invite.user:
        return False
    if match.account is not None and match.account != invite.account:
        return False
    return all(value in invite.headers.all(name) for name, value in match.header.items())
