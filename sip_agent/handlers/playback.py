"""Play a sound file."""

from sip_agent.call import Call
from sip_agent.handlers.options import check_sound


class PlaybackHandler:
    """Play `file` (any sound file, any rate, mono or stereo), once or in a `loop`, then hang up."""

    def __init__(self, file: str, *, loop: bool = False) -> None:
        check_sound("file", file)
        self._file = file
        self._loop = loop

    async def handle(self, call: Call) -> None:
        """Answer and play."""
        await call.answer()
        await call.play(self._file, loop=self._loop)
