"""Whether the caller speaks to a server that takes no notice of it.

By levels and not by voice activity detection, as this is looked at on every call: it costs next to nothing.
"""

from media.frames import FRAME_MS, AudioFrame
from media.levels import SILENCE_DBOV, level_dbov
from sip_agent.handlers.websocket.reply_watch import ABOVE_FLOOR_DB, END_MS, FLOOR_RISE_DB, LOOK_EVERY_FRAMES

LOOK_MS = LOOK_EVERY_FRAMES * FRAME_MS

SPOKEN_MS = 800
"""A caller who was so loud, for so long in all, has spoken: a cough or a knock is shorter."""


class Unheard:
    """Listens to a caller of whom the server has taken no notice so far."""

    def __init__(self) -> None:
        self._frames = 0
        self._floor_dbov = 0.0
        self._loud_ms = 0
        self._quiet_ms = 0

    def hear(self, frame: AudioFrame) -> bool:
        """Take the next sound of the caller; return whether it has spoken, and has just fallen silent."""
        self._frames += 1
        if self._frames % LOOK_EVERY_FRAMES:
            return False
        dbov = level_dbov(frame)
        self._floor_dbov = min(dbov, self._floor_dbov + FLOOR_RISE_DB)
        if dbov > max(SILENCE_DBOV, self._floor_dbov + ABOVE_FLOOR_DB):
            self._loud_ms, self._quiet_ms = self._loud_ms + LOOK_MS, 0
        else:
            self._quiet_ms += LOOK_MS
        if self._loud_ms < SPOKEN_MS or self._quiet_ms < END_MS:
            return False
        self._loud_ms = 0
        return True
