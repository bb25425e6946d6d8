"""What a call needs of the user agent: `Offer`, an INVITE to be decided, and `Dialog`, a call that is going on."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from sip_agent.audio import CallAudio
from sip_agent.digits import DtmfMethod
from sip_agent.events import CallEvent
from sip_agent.line import LineFaults
from sip_agent.status import EndedBy


class Dialog(Protocol):
    """What a call needs of the user agent. Coroutines raise CallEnded or UserAgentError."""

    def listen(
        self, listener: Callable[[CallEvent], None], on_audio: Callable[[CallAudio], None] | None = None
    ) -> None:
        """Report every event to `listener`, and to `on_audio` when sound opens; both on the event loop.

        What came before is reported now.
        """

    async def respond(self, status: int, headers: Sequence[tuple[str, str]] = (), *, early_media: bool = False) -> None:
        """Send a provisional response or the 200; with media, returns when sound can flow."""

    async def terminate(
        self,
        ended_by: EndedBy,
        status: int | None = None,
        headers: Sequence[tuple[str, str]] = (),
        reason: str = "",
    ) -> None:
        """End the call: BYE when it is confirmed, otherwise a final response (or CANCEL, if we called)."""

    async def vanish(self, reason: str) -> None:
        """End the call without a word to the peer, for tests of what it does then."""

    async def refer(self, uri: str) -> None:
        """Ask the peer to call `uri` instead (REFER, RFC 3515); returns when it has agreed to."""

    async def send_dtmf(self, digits: str, method: str = DtmfMethod.RFC4733) -> None:
        """Send digits as RFC 4733 events, or each in a SIP INFO (`info`)."""

    @property
    def audio(self) -> CallAudio | None:
        """The sound of the call, once SDP was agreed."""


class Offer(Protocol):
    """An INVITE as it arrived, undecided: one of the two methods decides it, once."""

    message: bytes
    transport: str
    source_host: str
    source_port: int
    received_at: datetime

    async def reject(self, status: int, headers: Sequence[tuple[str, str]] = (), *, stateful: bool = True) -> None:
        """Refuse the call; a stateless response is not remembered for retransmissions (RFC 3261 §8.2.7)."""

    async def accept(self, faults: LineFaults | None = None, /) -> Dialog:
        """Open the dialog, spoilt if asked; raises StackRefusal if the SIP stack has refused the INVITE itself."""
