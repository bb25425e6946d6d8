"""Listen only: the recording is what counts."""

import asyncio

from sip_agent.call import Call


class RecordHandler:
    """Listen only, for `seconds` if given: the recording and the record are what is wanted."""

    def __init__(self, seconds: float = 0) -> None:
        if seconds < 0:
            raise ValueError(f"seconds is not negative: {seconds}")
        self._seconds = seconds

    async def handle(self, call: Call) -> None:
        """Answer and listen."""
        await call.answer()
        await asyncio.wait([call.disconnected], timeout=self._seconds or None)
