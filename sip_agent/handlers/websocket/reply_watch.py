"""Whether the bot answers: silences in which it owed the caller something are told apart from the conversation's own.

By levels and not by voice activity detection, as every bridged call is watched: it costs next to nothing.
"""

from media.frames import AudioFrame
from media.levels import SILENCE_DBOV, level_dbov
from sip_agent.call import Call

LOOK_EVERY_FRAMES = 5
"""The caller's level is looked at ten times a second."""

ABOVE_FLOOR_DB = 12.0
"""Speech is so much louder than the quietest moment of the last while."""

FLOOR_RISE_DB = 0.1
"""How fast the floor follows a line that becomes noisier: 1 dB a second; down it follows at once."""

END_MS = 600
"""The caller has stopped speaking when it was quiet for so long."""


SLOW = "slow_bot"


class ReplyWatch:
    """Notes a `slow_bot` stall for each silence in which the bot owed an answer for `after_ms` or longer; 0 does not.

    It owes its first word from when it is connected with the answered call, and later ones from when the caller stops
    speaking, unless it is being heard then; until it is heard. `blame` gives the stall another cause.
    """

    def __init__(self, call: Call, after_ms: int) -> None:
        self._call = call
        self._after_ms = after_ms
        self._frames = 0
        self._floor_dbov = 0.0
        self._spoke_at_ms: int | None = None
        self._owed_since_ms: int | None = call.elapsed_ms() if after_ms else None
        self._cause = SLOW

    @property
    def owed(self) -> bool:
        """Whether the bot owes an answer."""
        return self._owed_since_ms is not None

    def hear_caller(self, frame: AudioFrame) -> None:
        """Take the next sound of the caller."""
        self._frames += 1
        if self._frames % LOOK_EVERY_FRAMES or not self._after_ms:
            return
        level_dbov_now, now_ms = level_dbov(frame), self._call.elapsed_ms()
        self._floor_dbov = min(level_dbov_now, self._floor_dbov + FLOOR_RISE_DB)
        if level_dbov_now > max(SILENCE_DBOV, self._floor_dbov + ABOVE_FLOOR_DB):
            self._spoke_at_ms = now_ms
            self.settle(now_ms)
        elif self._spoke_at_ms is not None and now_ms - self._spoke_at_ms >= END_MS:
            if not self._call.queued_ms:
                self._owed_since_ms = self._spoke_at_ms
            self._spoke_at_ms = None

    def blame(self, cause: str) -> None:
        """Say why the bot is not heard, if it owes an answer now; the last word on it counts."""
        if self.owed:
            self._cause = cause

    def settle(self, at_ms: int) -> None:
        """End a silence of the bot: it is heard, or there is nothing more to wait for."""
        since_ms, self._owed_since_ms = self._owed_since_ms, None
        cause, self._cause = self._cause, SLOW
        if since_ms is not None and at_ms - since_ms >= self._after_ms:
            self._call.note_stall(cause, since_ms, at_ms)
