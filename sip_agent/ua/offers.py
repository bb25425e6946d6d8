"""INVITEs that are not decided yet, on either engine, as the flow sees them: `sip_agent.call.Offer`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sip_agent.line import LineFaults
from sip_agent.status import EndedBy, reason_phrase
from sip_agent.ua.dialogs import Dialog

if TYPE_CHECKING:
    from sip_agent.ua.endpoint import Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOffer:
    """An INVITE held in the native gate."""

    endpoint: "Endpoint"
    held: Any
    message: bytes
    transport: str
    source_host: str
    source_port: int
    received_at: datetime

    @classmethod
    def of(cls, endpoint: "Endpoint", held: Any) -> "HeldOffer":
        """Wrap an INVITE that was just taken from the gate; SIP thread only."""
        return cls(
            endpoint=endpoint,
            held=held,
            message=held.message,
            transport=held.transport,
            source_host=held.source_host,
            source_port=held.source_port,
            received_at=datetime.now(UTC),
        )

    async def reject(self, status: int, headers: Sequence[tuple[str, str]] = (), *, stateful: bool = True) -> None:
        """See `Offer`."""
        phrase = reason_phrase(status)
        await self.endpoint.sip_thread.run("reject", lambda: self.held.reject(status, phrase, list(headers), stateful))

    async def accept(self, faults: LineFaults | None = None, /) -> Dialog:
        """See `Offer`."""
        return await self.endpoint.sip_thread.run("accept", lambda: self.endpoint.pass_on(self.held, faults))


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedOffer:
    """An INVITE for which pjsua2 has already opened a call (light engine)."""

    dialog: Dialog
    message: bytes
    transport: str
    source_host: str
    source_port: int
    received_at: datetime

    @classmethod
    def of(cls, dialog: Dialog, rdata: Any) -> "OpenedOffer":
        """Wrap the call that pjsua2 has just reported with its INVITE; SIP thread only."""
        host, _, port = rdata.srcAddress.rpartition(":")
        return cls(
            dialog=dialog,
            message=rdata.wholeMsg.encode("utf-8", "surrogateescape"),
            transport=_transport_of(rdata),
            source_host=host.strip("[]"),
            source_port=int(port or 0),
            received_at=datetime.now(UTC),
        )

    async def reject(
        self,
        status: int,
        headers: Sequence[tuple[str, str]] = (),
        *,
        stateful: bool = True,  # noqa: ARG002
    ) -> None:
        """See `Offer`; the response is always stateful here."""
        await self.dialog.terminate(EndedBy.AGENT, status, headers)

    async def accept(self, faults: LineFaults | None = None, /) -> Dialog:
        """See `Offer`; this engine can delay replies, and nothing more."""
        if faults is not None:
            self.dialog.spoil(faults, None)
        return self.dialog


def _transport_of(rdata: Any) -> str:
    """Return UDP, TCP or TLS from the top Via of a received request."""
    line = rdata.wholeMsg.upper().partition("SIP/2.0/")[2]
    return line[:3] if line[:3] in {"UDP", "TCP", "TLS"} else "UDP"
