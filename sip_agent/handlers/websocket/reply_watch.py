"""Whether the bot answers: silences in which it owed the caller something are told apart from the conversation's own.

By levels and not by voice activity detection, as every bridged call is watched: it costs next to nothing.
"""

from media.frames import AudioFrame
from media.loudness import END_MS, Loudness
from sip_agent.call import Call

SLOW = "slow_bot"


class ReplyWatch:
    """Notes a `slow_bot` stall for each silence in which the bot owed an answer for `after_ms` or longer; 0 does not.

    It owes its first word from when it is connected with the answered call, and later ones from when the caller stops
    speaking, unless it is being heard then; until it is heard. `blame` gives the stall another cause.
    """

    def __init__(self, call: Call, after_ms: int) -> None:
        self._call = call
        self._after_ms = after_ms
        self._loudness = Loudness()
        self._spoke_at_ms: int | None = None
        self._owed_since_ms: int | None = call.elapsed_ms() if after_ms else None
        self._cause = SLOW

    @property
    def owed(self) -> bool:
        """Whether the bot owes an answer."""
        return self._owed_since_ms is not None

    def hear_caller(self, frame: AudioFrame) -> None:
        """Take the next sound of the caller."""
        if not self._after_ms or (is_loud := self._loudness.hear(frame)) is None:
            return
        now_ms = self._call.elapsed_ms()
        if is_loud:
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
