"""A call that we place, before there is one: whom, as whom, for which test run."""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from sip_agent.call import Call, ConversationHandler, Dialog
from sip_agent.errors import UserAgentError
from sip_agent.extra_headers import checked
from sip_agent.headers import CorrelationIds, Headers
from sip_agent.invite import Invite, SipUri
from sip_agent.record import CallRecord
from sip_agent.status import Direction
from sip_agent.ua.endpoint import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A call to be placed; `account` names the one that it goes through, `ids` are not sent to the far end.

    Raises ValueError for a header field that is not one line of UTF-8 text.
    """

    uri: str
    caller: Caller = field(default_factory=Caller)
    headers: Sequence[tuple[str, str]] = ()
    account: str | None = None
    ids: CorrelationIds = field(default_factory=CorrelationIds)
    ring_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        checked(self.headers)

    def invite(self, now: datetime) -> Invite:
        """Return the INVITE as a value, as a handler and a route look at it; raises MessageError if `uri` is none."""
        return Invite(
            call_id="",
            from_uri=self.caller.uri,
            to_uri=self.uri,
            request_uri=self.uri,
            user=SipUri.parse(self.uri).user,
            cseq=0,
            transport="",
            source_host="",
            source_port=0,
            account=self.account,
            headers=Headers.from_pairs(self.headers),
            received_at=now,
        )

    def record(self, invite: Invite) -> CallRecord:
        """Return the record of this call as it begins."""
        return CallRecord(
            call_uuid=str(uuid.uuid4()),
            direction=Direction.OUTBOUND,
            from_uri=invite.from_uri,
            to_uri=invite.to_uri,
            request_uri=invite.request_uri,
            account=self.account,
            auth_user=self.caller.username or None,
            run_id=self.ids.run_id,
            scenario_id=self.ids.scenario_id,
            result_id=self.ids.result_id,
            headers=invite.headers.extensions(),
            invite_received_at=invite.received_at,
        )


class PlacedDialog(Dialog, Protocol):
    """The dialog of a call that we placed."""

    call_id: str


class Answered:
    """The handler of a call that we placed: waits until the peer answers, then hands the call to the one built."""

    def __init__(self, build: Callable[[], ConversationHandler], ring_timeout_s: float) -> None:
        self._build = build
        self._ring_timeout_s = ring_timeout_s

    async def handle(self, call: Call) -> None:
        """Raise UserAgentError if nobody answers in time."""
        handler = self._build()
        try:
            async with asyncio.timeout(self._ring_timeout_s):
                await call.answer()
        except TimeoutError as error:
            if not call.answered:
                raise UserAgentError("call", f"not answered within {self._ring_timeout_s:g} s") from error
            await call.answer()  # in time, but for its sound
        await handler.handle(call)
