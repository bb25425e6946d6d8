"""Refuse every call."""

from sip_agent.call import Call
from sip_agent.errors import CallRejected
from sip_agent.status import SipStatus


class RejectHandler:
    """Refuse the call with `status`."""

    def __init__(self, status: int = SipStatus.BUSY_HERE, reason: str = "") -> None:
        if not 300 <= status <= 699:
            raise ValueError(f"status is from 300 to 699, not {status}")
        self._status = status
        self._reason = reason or "the route rejects every call"

    async def handle(self, call: Call) -> None:  # noqa: ARG002  (the call is refused unseen)
        """Refuse."""
        raise CallRejected(self._status, self._reason)
