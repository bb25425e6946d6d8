"""The caller's wait for the model: what of it is on record, and when it has been too long."""

import asyncio

from sip_agent.call import Call
from sip_agent.handlers.realtime.playout import Playout

SLOW_MS = 2000
"""An answer that takes longer is noted as a stall: platforms that test voice agents expect it sooner."""


class Patience:
    """How long the caller waits, and because of what (`slow_model`, `slow_tool`, `model_error: …`).

    Nobody waits while the model is heard: the time begins when what is queued has been heard. `limit` is a time-out
    that ends what goes on in it when the wait has been too long.
    """

    def __init__(self, call: Call, playout: Playout) -> None:
        self.cause = ""
        self.limit = asyncio.timeout(None)
        self._call = call
        self._playout = playout
        self._since_ms: int | None = None

    @property
    def waiting(self) -> bool:
        """Whether the model is to be heard next."""
        return self._since_ms is not None

    def begin(self, limit_s: float) -> None:
        """Wait for the model, from now or as before, and for `limit_s` from now."""
        now_ms = self._call.elapsed_ms()
        if self._since_ms is None:
            self._since_ms, self.cause = now_ms, "slow_model"
        audible_s = max(0, self._playout.sounds_until_ms - now_ms) / 1000
        self._set_limit(asyncio.get_running_loop().time() + audible_s + limit_s)

    def end(self) -> None:
        """Wait no more: the model is heard, or nothing is expected of it."""
        self.note()
        self._set_limit(None)

    def note(self, stall_ms: int = SLOW_MS) -> None:
        """Put the wait until now on record, if there was one of `stall_ms` or more; the limit stays."""
        since_ms, self._since_ms = self._since_ms, None
        if since_ms is None:
            return
        started_ms, now_ms = max(since_ms, self._playout.sounds_until_ms), self._call.elapsed_ms()
        if now_ms - started_ms >= stall_ms:
            self._call.note_stall(self.cause, started_ms, now_ms)

    def _set_limit(self, when: float | None) -> None:
        if not self.limit.expired():
            self.limit.reschedule(when)
