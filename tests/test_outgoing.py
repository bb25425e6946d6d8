"""Calls that we place: what is known of them before, and the wait for their answer."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

import pytest

from sip_agent.call import Call, ConversationHandler
from sip_agent.errors import MessageError
from sip_agent.headers import CorrelationIds
from sip_agent.outgoing import Answered, Outgoing
from sip_agent.status import Direction, Outcome
from sip_agent.testing import FakeCall
from sip_agent.ua.endpoint import Caller

NOW = datetime(2026, 5, 1, tzinfo=UTC)


class Ringing(FakeCall):
    """A peer that never answers."""

    async def respond(self, status: int, headers: Sequence[tuple[str, str]] = (), *, early_media: bool = False) -> None:
        """Wait for ever."""
        del status, headers, early_media
        await asyncio.Event().wait()


class Silent:
    """A handler that has nothing to say, and does not answer either."""

    def __init__(self) -> None:
        self.answered: bool | None = None

    async def handle(self, call: Call) -> None:
        """Note whether the call was answered before."""
        self.answered = call.answered


class Answering(FakeCall):
    """A peer that we called, and that answers of its own accord: when it did, there is nothing to wait for."""

    def __init__(self, handler: ConversationHandler | None = None) -> None:
        super().__init__(handler)
        self.record.direction = Direction.OUTBOUND
        self.waited_for: list[int] = []

    async def respond(self, status: int, headers: Sequence[tuple[str, str]] = (), *, early_media: bool = False) -> None:
        """Answer, if that is still to be done."""
        self.waited_for.append(status)
        if not self.answered:
            await super().respond(status, headers, early_media=early_media)


class AnsweringAtLast(Answering):
    """A peer whose answer is known before whoever waits for it goes on: meanwhile the time is up."""

    async def respond(self, status: int, headers: Sequence[tuple[str, str]] = (), *, early_media: bool = False) -> None:
        """Answer, and let the first one wait for ever."""
        await super().respond(status, headers, early_media=early_media)
        if len(self.waited_for) == 1:
            await asyncio.Event().wait()


async def test_answered_before_the_handler_asks() -> None:
    """The peer's 200 may come before anybody waits for it, and may be waited for more than once."""
    async with Answering() as peer:
        await peer.respond(200)
        await peer.call.answer()
        await peer.call.answer()

        assert peer.call.answered
        assert not peer.call.ended


async def test_what_is_up_to_the_peer() -> None:
    """On a call that we placed a handler that rings sends nothing, and early media is sound after the answer."""
    async with Answering() as peer:
        await peer.call.ring()
        rung = list(peer.waited_for)
        await peer.call.progress()
        await peer.call.ring()

        assert [] == rung
        assert [200] == peer.waited_for == peer.statuses


def test_invite_and_record() -> None:
    """The INVITE has the headers that were asked for, the record the ids, which are not sent."""
    outgoing = Outgoing(
        uri="sip:bob@example.com",
        caller=Caller(uri="sip:alice@example.com", username="a1"),
        headers=[("X-A", "1"), ("X-A", "2")],
        account="trunk",
        ids=CorrelationIds(run_id="7", scenario_id="8", result_id="9"),
    )
    invite = outgoing.invite(NOW)
    record = outgoing.record(invite)

    assert ("sip:alice@example.com", "sip:bob@example.com", "bob", "trunk") == (
        invite.from_uri,
        invite.request_uri,
        invite.user,
        invite.account,
    )
    assert {"X-A": ["1", "2"]} == invite.headers.extensions() == record.headers
    assert (Direction.OUTBOUND, "trunk", "a1", "7", "8", "9", NOW) == (
        record.direction,
        record.account,
        record.auth_user,
        record.run_id,
        record.scenario_id,
        record.result_id,
        record.invite_received_at,
    )


def test_header_of_two_lines() -> None:
    """A value cannot bring a header field of its own."""
    with pytest.raises(ValueError, match="the value of X-A has control characters"):
        Outgoing(uri="sip:bob@example.com", headers=[("X-A", "1\r\nX-B: 2")])


def test_header_that_is_not_utf_8() -> None:
    """A value with bytes that are no text cannot be sent, and is refused with the name of its field."""
    with pytest.raises(ValueError, match=r"the value of X-A is not UTF-8 text: 'Jos\\udce9'; write it in UTF-8"):
        Outgoing(uri="sip:bob@example.com", headers=[("X-A", "Jos\udce9")])


def test_invite_to_nowhere() -> None:
    """What is no URI is refused before anything is sent."""
    with pytest.raises(MessageError, match="not a URI: 'bob'"):
        Outgoing(uri="bob").invite(NOW)


async def test_nobody_answers() -> None:
    """Without an answer in time the call is given up, and the record says so."""
    handler = Silent()
    async with Ringing(Answered(lambda: handler, 0.01)) as peer:
        await peer.until_ended()

    assert (Outcome.FAILED, "call: not answered within 0.01 s") == (peer.record.outcome, peer.record.error)
    assert handler.answered is None


async def test_answered_at_the_last_moment() -> None:
    """An answer that came in time is one, whenever it is heard of."""
    handler = Silent()
    async with AnsweringAtLast(Answered(lambda: handler, 0.01)) as peer:
        await peer.until_ended()

    assert handler.answered is True
    assert (Outcome.ANSWERED, None) == (peer.record.outcome, peer.record.error)


async def test_the_handler_gets_the_call_answered() -> None:
    """A handler need not answer a call that it did not receive."""
    handler = Silent()
    async with Answering(Answered(partial(lambda found: found, handler), 5)) as peer:
        await peer.until_ended()

    assert handler.answered is True
    assert (Outcome.ANSWERED, None) == (peer.record.outcome, peer.record.error)
