"""Handlers for the tests of evidence."""

from media.tones import tone
from sip_agent.call import Call
from sip_agent.errors import CallRejected


class Converse:
    """Say and do what a conversation may have, and hang up."""

    async def handle(self, call: Call) -> None:
        """Hold the conversation."""
        await call.answer()
        call.transcript.add("agent", "Hello, how can I help?", at_ms=0)
        call.transcript.add("caller", "I want to book a table.", at_ms=1500)
        call.tool_call("book", {"seats": 2}, {"ok": True})
        await call.play(tone(440, 200, call.sample_rate_hz))


class Busy:
    """Refuse the call."""

    async def handle(self, call: Call) -> None:  # noqa: ARG002
        """Refuse."""
        raise CallRejected(486)


class Stay:
    """Answer, and stay until the call ends."""

    async def handle(self, call: Call) -> None:
        """Listen."""
        await call.answer()
        async for _ in call.frames():
            pass
