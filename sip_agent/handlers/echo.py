"""Say back what the caller says."""

from sip_agent.call import Call


class EchoHandler:
    """Say back what the caller says."""

    async def handle(self, call: Call) -> None:
        """Answer and send every frame back."""
        await call.answer()
        async for frame in call.frames():
            await call.send(frame)
