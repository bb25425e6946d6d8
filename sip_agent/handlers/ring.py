"""Ring and do not answer."""

import asyncio

from sip_agent.call import Call
from sip_agent.errors import CallRejected
from sip_agent.status import SipStatus


class RingHandler:
    """Ring for `seconds` without answering, then end the call with `status`."""

    def __init__(self, seconds: float = 30, status: int = SipStatus.TEMPORARILY_UNAVAILABLE) -> None:
        if seconds < 0:
            raise ValueError(f"seconds is not negative: {seconds}")
        if not 300 <= status <= 699:
            raise ValueError(f"status is from 300 to 699, not {status}")
        self._seconds = seconds
        self._status = status

    async def handle(self, call: Call) -> None:
        """Ring until the time is up or the caller gives up."""
        await call.ring()
        await asyncio.wait([call.disconnected], timeout=self._seconds)
        if not call.ended:
            raise CallRejected(self._status, f"rang for {self._seconds:g} s without an answer")
