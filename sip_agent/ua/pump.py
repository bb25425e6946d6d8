"""The pump: once every 20 ms it moves the frames of all calls between the engine and the event loop.

On the native engine the bridge clock wakes it at the end of each tick, so that what a handler answers at
once is sent in the next one; on the light engine it runs by a timer.
"""

import asyncio
import os
from typing import Any

import structlog

from media.frames import FRAME_MS
from sip_agent.audio import CallAudio

log = structlog.get_logger()


class Pump:
    """Ticks every open `CallAudio`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._audios: list[CallAudio] = []
        self._clock: Any = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._skipped_ticks = 0

    def start(self, clock: Any | None) -> None:
        """Begin, driven by the native `clock`, or by a timer if there is none."""
        self._clock = clock
        if clock is not None:
            self._skipped_ticks = clock.skipped_ticks
            self._loop.add_reader(clock.fileno(), self._on_clock)
        else:
            self._due = self._loop.time()
            self._on_timer()

    def stop(self) -> None:
        """End; the clock may be destroyed afterwards."""
        if self._clock is not None:
            self._loop.remove_reader(self._clock.fileno())
            self._clock = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def add(self, audio: CallAudio) -> None:
        """Tick `audio` from now on."""
        self._audios.append(audio)

    def remove(self, audio: CallAudio) -> None:
        """Tick `audio` no more."""
        if audio in self._audios:
            self._audios.remove(audio)

    def _on_clock(self) -> None:
        os.read(self._clock.fileno(), 8)
        if (skipped := self._clock.skipped_ticks) != self._skipped_ticks:
            self._note_standstill((skipped - self._skipped_ticks) * FRAME_MS)
            self._skipped_ticks = skipped
        self._tick()

    def _on_timer(self) -> None:
        self._tick()
        self._due = max(self._due + FRAME_MS / 1000, self._loop.time() - FRAME_MS / 1000)
        self._timer = self._loop.call_at(self._due, self._on_timer)

    def _note_standstill(self, gap_ms: int) -> None:
        log.warning("media.standstill", gap_ms=gap_ms)
        for audio in self._audios:
            audio.note_standstill(gap_ms)

    def _tick(self) -> None:
        for audio in tuple(self._audios):
            try:
                audio.tick()
            except Exception:
                self.remove(audio)
                log.exception("pump.tick_failed")
