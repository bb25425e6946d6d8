"""Which handler takes which call."""

from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import pytest
from structlog.testing import capture_logs

from sip_agent.call import Call
from sip_agent.config import RouteMatch, RouteSettings
from sip_agent.errors import CallRejected, SettingsError
from sip_agent.handlers.ring import RingHandler
from sip_agent.headers import Headers
from sip_agent.invite import Invite
from sip_agent.routes import Routes, matches


def invite(user: str = "bob", account: str | None = None, *headers: tuple[str, str]) -> Invite:
    """Return an INVITE."""
    return Invite(
        call_id="1",
        from_uri="sip:alice@example.com",
        to_uri="sip:bob@example.com",
        request_uri=f"sip:{user}@example.com",
        user=user,
        cseq=1,
        transport="UDP",
        source_host="192.0.2.1",
        source_port=5060,
        account=account,
        headers=Headers.from_pairs(headers),
        received_at=datetime.now(UTC),
    )


@pytest.mark.parametrize(
    ("match", "call", "expected"),
    [
        (RouteMatch(), invite(), True),
        (RouteMatch(user="bob"), invite(), True),
        (RouteMatch(user="Bob"), invite(), False),
        (RouteMatch(user="bob"), invite(""), False),
        (RouteMatch(account="trunk"), invite("bob", "trunk"), True),
        (RouteMatch(account="trunk"), invite(), False),
        (RouteMatch(header={"x-lang": "en"}), invite("bob", None, ("X-Lang", "en")), True),
        (RouteMatch(header={"X-Lang": "en"}), invite("bob", None, ("X-Lang", "EN")), False),
        (RouteMatch(header={"X-Lang": "en"}), invite("bob", None, ("X-Lang", "fr"), ("X-Lang", "en")), True),
        (RouteMatch(header={"X-Lang": ""}), invite(), False),
        (RouteMatch(user="bob", header={"X-A": "1", "X-B": "2"}), invite("bob", None, ("X-A", "1")), False),
    ],
)
def test_matches(match: RouteMatch, call: Invite, expected: bool) -> None:
    """All conditions have to hold: header names in any letter case, everything else exactly."""
    assert expected is matches(match, call)


def test_first_match_wins(tmp_path: Path) -> None:
    """Of two routes that match, the first takes the call."""
    routes = Routes(
        [
            RouteSettings(match=RouteMatch(user="alice"), handler="echo"),
            RouteSettings(match=RouteMatch(user="bob"), handler="ring", options={"seconds": 3}),
            RouteSettings(handler="silence"),
        ],
        tmp_path,
    )
    route = routes.find(invite())

    assert ("ring", {"seconds": 3}) == (route.handler, route.options)
    assert isinstance(route.build(), RingHandler)
    assert "silence" == routes.find(invite("carol")).handler


def test_every_call_has_its_own_handler(tmp_path: Path) -> None:
    """Each call gets a handler of its own: what one notes, the other does not see."""
    route = Routes([RouteSettings(handler="echo")], tmp_path).find(invite())

    assert route.build() is not route.build()


def test_no_match(tmp_path: Path) -> None:
    """A call that no route takes is refused with 404."""
    with pytest.raises(CallRejected, match="no route matches the user 'bob'") as caught:
        Routes([RouteSettings(match=RouteMatch(user="alice"), handler="echo")], tmp_path).find(invite())

    assert 404 == caught.value.status


def test_wrong_route_stops_the_start(tmp_path: Path) -> None:
    """A handler that cannot be built is found when the routes are read, not when a call comes."""
    with pytest.raises(SettingsError, match="no handler is called 'ehco'"):
        Routes([RouteSettings(handler="ehco")], tmp_path)


class WarmHandler:
    """A handler that makes ready for calls, or fails at it."""

    warmed: ClassVar[list[str]] = []

    def __init__(self, name: str, *, fails: bool = False) -> None:
        self._name = name
        self._fails = fails

    async def warm_up(self) -> None:
        """Note that it was asked."""
        self.warmed.append(self._name)
        if self._fails:
            raise RuntimeError("cold")

    async def handle(self, call: Call) -> None:
        """Do nothing."""


async def test_handlers_make_ready(tmp_path: Path) -> None:
    """Each handler that can is asked to; one that fails keeps no other from it."""
    target = f"{__name__}:WarmHandler"
    routes = Routes(
        [
            RouteSettings(handler="echo"),
            RouteSettings(handler=target, options={"name": "bad", "fails": True}),
            RouteSettings(handler=target, options={"name": "good"}),
        ],
        tmp_path,
    )
    with capture_logs() as logs:
        await routes.warm_up()

    assert ["bad", "good"] == WarmHandler.warmed
    assert [("handler.warm_up_failed", target)] == [(entry["event"], entry["handler"]) for entry in logs]
