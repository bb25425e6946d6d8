"""Play a sound file."""

from pathlib import Path

from sip_agent.call import Call


class PlaybackHandler:
    """Play `file` (any sound file, any rate, mono or stereo), once or in a `loop`, then hang up."""

    def __init__(self, file: str, *, loop: bool = False) -> None:
        if not Path(file).is_file():
            raise ValueError(f"file: there is no sound file {file}")
        self._file = file
        self._loop = loop

    async def handle(self, call: Call) -> None:
        """Answer and play."""
        await call.answer()
        await call.play(self._file, loop=self._loop)
