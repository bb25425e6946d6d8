"""What a bot wants the caller to hear: queued without end in sight, sent by our clock.

A bot sends faster than real time, and in pieces of any size. What fits into the engine's half second goes there at
once; the rest waits here as it came, encoded. Marks come back when the sound before them has really been sent.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import numpy as np

from media.frames import FRAME_MS, samples_per_frame
from media.live_resample import LiveResampler
from sip_agent.call import Call
from sip_agent.handlers.websocket.dialect import BotAudio, Dialect, Mark, UnreadableMessage

AHEAD_MS = 300
PIECE_MS = 200
"""With so much queued in the engine, one more piece still fits into its half second, and need not wait here."""

REST_AFTER_S = 0.1
"""A piece of a frame that comes when nothing is playing is filled up when nothing more has come for so long."""

MARKS_MAX = 10_000
"""So many marks may wait for their sound: one for every 30 ms of a queue of five minutes."""

MARK_CHARACTERS_MAX = 256

Played = Callable[[str, bool], Awaitable[None]]


class Playout:
    """The way from one bot to its caller.

    `limit_ms` bounds what waits; `played` is told of each mark: its name, and whether its sound was dropped.
    `dropped_ms` is the sound that came when the queue was full.
    """

    def __init__(self, call: Call, dialect: Dialect, *, limit_ms: int, played: Played) -> None:
        self.dropped_ms = 0
        self._call = call
        self._decode = dialect.decode
        self._played = played
        self._bytes_per_ms = dialect.sample_rate_hz * dialect.bytes_per_sample // 1000
        self._limit = limit_ms * self._bytes_per_ms
        self._resampler = LiveResampler(dialect.sample_rate_hz, call.sample_rate_hz)
        self._rates = dialect.sample_rate_hz, call.sample_rate_hz
        self._frame_samples = samples_per_frame(call.sample_rate_hz)
        self._queue: deque[BotAudio | Mark] = deque()
        self._waiting = 0
        self._partial = 0
        self._sending = False
        self._marks: deque[tuple[int, str]] = deque()
        self._marks_queued = 0
        self._queued = asyncio.Event()
        self._idle = asyncio.Event()
        self._marked = asyncio.Event()

    async def add(self, sound: BotAudio) -> bool:
        """Take the next sound; False if there is no room for it: then it is dropped."""
        payload, piece = sound.payload, PIECE_MS * self._bytes_per_ms
        if not self._busy and len(payload) <= piece and self._call.queued_ms <= AHEAD_MS:
            await self._send(payload)
            if self._partial:
                self._queued.set()
            return True
        if self._waiting + len(payload) > self._limit:
            self.dropped_ms += len(payload) // self._bytes_per_ms
            return False
        self._queue.extend(BotAudio(payload[start : start + piece]) for start in range(0, len(payload), piece))
        self._waiting += len(payload)
        self._idle.clear()
        self._queued.set()
        return True

    def mark(self, mark: Mark) -> None:
        """Report the mark once all sound before it has been sent; raises UnreadableMessage if it is one too many."""
        if len(mark.name) > MARK_CHARACTERS_MAX:
            raise UnreadableMessage(f"a mark's name has {len(mark.name)} characters; {MARK_CHARACTERS_MAX} are allowed")
        if self._marks_queued + len(self._marks) >= MARKS_MAX:
            raise UnreadableMessage(f"{MARKS_MAX} marks wait for their sound; no more are allowed")
        if self._busy:
            self._queue.append(mark)
            self._marks_queued += 1
        else:
            self._reach(mark)

    async def clear(self) -> int:
        """Drop all sound that was not sent yet, and report all marks; returns the milliseconds dropped."""
        dropped_ms = self._waiting // self._bytes_per_ms + self._call.stop_playback()
        marks = [name for _, name in self._marks]
        marks += [item.name for item in self._queue if isinstance(item, Mark)]
        self._marks.clear()
        self._queue.clear()
        self._waiting = self._partial = self._marks_queued = 0
        self._resampler = LiveResampler(*self._rates)
        for name in marks:
            await self._played(name, True)
        return dropped_ms

    async def run(self) -> None:
        """Send what waits, as room appears; ends with the call, by CallEnded."""
        try:
            while True:
                if self._queue:
                    await self._send_next()
                    continue
                self._idle.set()
                self._queued.clear()
                if not self._partial:
                    await self._queued.wait()
                elif self._call.queued_ms:
                    await self._call.until_sent(self._call.sent_ms + FRAME_MS)
                    await self._fill_up_if_dry()
                else:
                    await self._wait_for_the_rest()
        finally:
            self._idle.set()

    async def run_marks(self) -> None:
        """Report the marks as they are reached; ends with the call, by CallEnded."""
        while True:
            if not self._marks:
                self._marked.clear()
                await self._marked.wait()
                continue
            mark = self._marks[0]
            await self._call.until_sent(mark[0])
            if self._marks and self._marks[0] is mark:
                self._marks.popleft()
                await self._played(mark[1], False)

    async def drained(self) -> None:
        """Wait until all that came has been sent."""
        if self._busy:
            await self._idle.wait()
        await self._call.drained()

    @property
    def _busy(self) -> bool:
        return self._sending or bool(self._queue)

    async def _send_next(self) -> None:
        item = self._queue.popleft()
        if isinstance(item, Mark):
            self._marks_queued -= 1
            self._reach(item)
            return
        self._sending = True
        try:
            await self._send(item.payload)
        finally:
            self._sending = False
        self._waiting = max(0, self._waiting - len(item.payload))

    async def _send(self, payload: bytes) -> None:
        samples = self._resampler.process(self._decode(payload))
        self._partial = (self._partial + len(samples)) % self._frame_samples
        await self._call.send(samples)

    async def _wait_for_the_rest(self) -> None:
        """Give the rest of a frame its time to come: nothing is playing that it could be late for."""
        try:
            async with asyncio.timeout(REST_AFTER_S):
                await self._queued.wait()
        except TimeoutError:
            await self._fill_up_if_dry()

    async def _fill_up_if_dry(self) -> None:
        """Complete the last frame with silence if nothing else is left for the next tick.

        Not before: until then the rest of it may come in time, from a bot that sends in real time.
        """
        if self._partial and not self._queue and not self._call.queued_ms:
            rest, self._partial = self._frame_samples - self._partial, 0
            await self._call.send(np.zeros(rest, np.int16))

    def _reach(self, mark: Mark) -> None:
        begun_ms = FRAME_MS if self._partial else 0
        self._marks.append((self._call.sent_ms + self._call.queued_ms + begun_ms, mark.name))
        self._marked.set()
