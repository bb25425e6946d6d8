"""A clock for tests: waiting takes no time, and is noted."""

from sip_agent.platforms.http import Clock


class FakeClock:
    """Time passes only by waiting; `waits` are the seconds of each."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.waits: list[float] = []

    @property
    def clock(self) -> Clock:
        """What a client is given."""
        return Clock(now=lambda: self.now_s, sleep=self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now_s += seconds
