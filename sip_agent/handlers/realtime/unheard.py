"""Whether the caller speaks to a server that takes no notice of it.

By levels and not by voice activity detection, as this is looked at on every call: it costs next to nothing.
"""

from media.frames import AudioFrame
from media.loudness import END_MS, LOOK_MS, Loudness

SPOKEN_MS = 800
"""A caller who was so loud, for so long in all, has spoken: a cough or a knock is shorter."""


class Unheard:
    """Listens to a caller of whom the server has taken no notice so far."""

    def __init__(self) -> None:
        self._loudness = Loudness()
        self._loud_ms = 0
        self._quiet_ms = 0

    def hear(self, frame: AudioFrame) -> bool:
        """Take the next sound of the caller; return whether it has spoken, and has just fallen silent."""
        is_loud = self._loudness.hear(frame)
        if is_loud is None:
            return False
        if is_loud:
            self._loud_ms, self._quiet_ms = self._loud_ms + LOOK_MS, 0
        else:
            self._quiet_ms += LOOK_MS
        if self._loud_ms < SPOKEN_MS or self._quiet_ms < END_MS:
            return False
        self._loud_ms = 0
        return True
