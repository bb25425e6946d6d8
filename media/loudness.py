"""Whether somebody speaks, by levels and not by voice activity detection: it costs next to nothing."""

from media.frames import FRAME_MS, AudioFrame
from media.levels import SILENCE_DBOV, level_dbov

LOOK_MS = 100
"""The level is looked at ten times a second."""

ABOVE_FLOOR_DB = 12.0
"""Speech is so much louder than the quietest moment of the last while."""

FLOOR_RISE_DB = 0.1
"""How fast the floor follows a line that becomes noisier: 1 dB a second; down it follows at once."""

END_MS = 600
"""Somebody has stopped speaking who was quiet for so long."""


class Loudness:
    """Follows one speaker, frame by frame."""

    def __init__(self) -> None:
        self._frames = 0
        self._floor_dbov = 0.0

    def hear(self, frame: AudioFrame) -> bool | None:
        """Take the next sound; return whether it is as loud as speech, None for the frames that are not looked at."""
        self._frames += 1
        if self._frames % (LOOK_MS // FRAME_MS):
            return None
        dbov = level_dbov(frame)
        self._floor_dbov = min(dbov, self._floor_dbov + FLOOR_RISE_DB)
        return dbov > max(SILENCE_DBOV, self._floor_dbov + ABOVE_FLOOR_DB)
