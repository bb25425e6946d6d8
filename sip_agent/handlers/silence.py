"""Answer and say nothing."""

from sip_agent.call import Call


class SilenceHandler:
    """Answer and say nothing until the caller hangs up."""

    async def handle(self, call: Call) -> None:
        """Answer and wait for the end."""
        await call.answer()
        await call.disconnected
