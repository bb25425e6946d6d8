"""The sound of one call on the event loop: received frames out, frames to send in, playback.

The engine's `AudioPort` holds the rings; its clock never waits for anything here. Once every 20 ms the pump
calls `CallAudio.tick`, which hands on what was received and wakes whoever waits for room in the queue.
"""

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from media.frames import FRAME_MS, AudioFrame, samples_per_frame
from media.wav import open_audio
from sip_agent.errors import CallEnded

RECEIVED_FRAMES_MAX = 250
"""Frames (5 s) kept for a handler that does not take them; then the oldest go, counted as late."""

QUEUE_FRAMES_MAX = 25
"""Frames (500 ms) a handler may be ahead of the clock: covers stalls of the event loop, and costs nothing
when the caller interrupts, as the queue is flushed in the engine."""

_INT16 = np.dtype(np.int16)


UNDERRUN = "underrun"
"""Cause of a gap: what was said ran dry in the middle."""

STANDSTILL = "standstill"
"""Cause of a gap: the whole agent was stopped, by its machine or its container, for half a second or longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortCounters:
    """What a port has counted since it was opened, in frames of 20 ms (`late`: waited over 60 ms).

    `pauses` are those sent as silence between two stretches of sound of which the first was not finished.
    """

    sent: int = 0
    late: int = 0
    underruns: int = 0
    pauses: int = 0
    overruns: int = 0
    capture_overruns: int = 0


class AudioPort(Protocol):
    """Where the sound of a call meets the engine; no method waits."""

    sample_rate_hz: int

    def read(self) -> bytes:
        """Take all frames received since the last time (int16, mono)."""

    def write(self, frames: bytes, /) -> int:
        """Queue whole frames to send (int16, mono); returns how many were taken, fewer if the queue is full."""

    def queued(self) -> int:
        """Return the number of frames that wait to be sent."""

    def flush(self) -> int:
        """Drop what waits to be sent, from the next tick on; returns the number of frames dropped."""

    def sent(self) -> int:
        """Return the number of frames handed to the engine so far: neither dropped ones nor silence count."""

    def finish(self) -> None:
        """Say that a stretch of sound is complete: silence after it is no underrun."""

    def pause(self, on: bool, /) -> None:
        """Send silence from the next tick on and keep what is queued, or go on with it."""

    def read_capture(self) -> bytes:
        """Take the (received, sent) pairs since the last time (int16, interleaved stereo).

        May be called on another thread than the rest, by one only.
        """

    def counters(self) -> PortCounters:
        """Return what was counted so far."""


class FrameStream:
    """Received frames, one by one, as an asynchronous iterator that ends with the call."""

    __slots__ = ("__weakref__", "_ended", "_frames", "_loop", "_on_dropped", "_waiter")

    def __init__(self, on_dropped: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._frames: deque[AudioFrame] = deque()
        self._waiter: asyncio.Future[AudioFrame] | None = None
        self._ended = False
        self._on_dropped = on_dropped

    def __aiter__(self) -> "FrameStream":
        return self

    async def __anext__(self) -> AudioFrame:
        if self._frames:
            return self._frames.popleft()
        if self._ended:
            raise StopAsyncIteration
        if self._waiter is not None and not self._waiter.done():
            raise RuntimeError("two tasks cannot share one stream of frames: let each call frames()")
        waiter = self._waiter = asyncio.Future(loop=self._loop)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and not self._ended:  # the frame was here: it is for the next one who asks
                self._frames.appendleft(waiter.result())
            raise

    def push(self, frame: AudioFrame) -> None:
        """Hand a frame to who waits for it, or keep it; drops the oldest one if nobody takes them."""
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(frame)
                return
        if len(self._frames) >= RECEIVED_FRAMES_MAX:
            self._frames.popleft()
            self._on_dropped()
        self._frames.append(frame)

    def end(self) -> None:
        """Let the iteration end after the frames that are already here."""
        self._ended = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(StopAsyncIteration())


class BargeIn(StrEnum):
    """What becomes of a playback when the caller speaks into it.

    `STOP` drops the rest of it. `PAUSE` falls silent at once, and goes on where it was if the caller only
    coughed (`hearing.min_speech`). `IGNORE` plays on.
    """

    STOP = "stop"
    PAUSE = "pause"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True, kw_only=True)
class Playback:
    """What became of a playback: milliseconds really sent, and whether it was stopped before its end.

    `heard` is, of a text that was said, what the caller heard of it, to the word; None for other sound.
    """

    played_ms: int
    interrupted: bool
    heard: str | None = None


def utc_now() -> datetime:
    """Return the time as an aware UTC datetime."""
    return datetime.now(UTC)


class CallAudio:
    """The sound of one call, as a handler uses it through `Call`."""

    __slots__ = (
        "__weakref__",
        "_breaks",
        "_clock",
        "_dropped_frames",
        "_frame_bytes",
        "_frame_samples",
        "_generation",
        "_held",
        "_on_close",
        "_on_gap",
        "_open",
        "_paused",
        "_pauses_seen",
        "_playing_from",
        "_port",
        "_read",
        "_rest",
        "_room",
        "_sent",
        "_sent_seen",
        "_streams",
        "_taps",
        "_underruns_seen",
        "_was_sending",
        "_write",
        "_wrote",
        "first_heard_at",
        "first_sent_at",
        "opened_at",
        "sample_rate_hz",
    )

    def __init__(self, port: AudioPort, clock: Callable[[], datetime] = utc_now) -> None:
        self.sample_rate_hz = port.sample_rate_hz
        self.opened_at = clock()
        self.first_sent_at: datetime | None = None
        self.first_heard_at: datetime | None = None
        self._wrote = False
        self._port = port
        self._clock = clock
        self._read = port.read
        self._write = port.write
        self._sent = port.sent
        self._frame_samples = samples_per_frame(port.sample_rate_hz)
        self._frame_bytes = self._frame_samples * _INT16.itemsize
        self._streams: list[weakref.ref[FrameStream]] = []
        self._on_gap: Callable[[str, int], None] | None = None
        self._sent_seen = self._underruns_seen = self._pauses_seen = self._breaks = 0
        self._playing_from: int | None = None
        self._held = self._paused = False
        self._was_sending = False
        self._taps: list[Callable[[bytes], None]] = []
        self._on_close: list[Callable[[], None]] = []
        self._rest = np.empty(0, np.int16)
        self._room: deque[asyncio.Future[None]] = deque()
        self._dropped_frames = 0
        self._generation = 0
        self._open = True

    def tick(self) -> None:
        """Take what the engine received and let those who wait for room go on; called every 20 ms."""
        received = self._read()
        if self.first_heard_at is None or self.first_sent_at is None:
            self._note_first_audio(received)
        if received and self._streams:
            samples = np.frombuffer(received, _INT16)
            if len(received) == self._frame_bytes:
                self._push(samples)
            else:
                for start in range(0, len(samples), self._frame_samples):
                    self._push(samples[start : start + self._frame_samples])
        for on_received in self._taps:
            on_received(received)
        frames_sent = self._sent()
        if sending := frames_sent != self._sent_seen:
            if not self._was_sending:
                self._on_sending_again()
            self._sent_seen = frames_sent
        self._was_sending = sending
        if self._room:
            self._release_waiters()

    def read_capture(self) -> bytes:
        """Take what both sides said since the last time, see `AudioPort`: for the recording, on its own thread."""
        return self._port.read_capture()

    def alter_sent(self, alter: Callable[[bytes, int], bytes]) -> None:
        """Have all sound to send pass through `alter(frames, queued)`, which keeps its length.

        `frames` are whole frames (int16), `queued` is how many wait to be sent before them.
        """
        port = self._port
        self._write = lambda frames: port.write(alter(frames, port.queued()))

    def watch(self, on_gap: Callable[[str, int], None]) -> None:
        """Have `on_gap` called with the cause and the milliseconds of a gap in what was sent, once it is over."""
        self._on_gap = on_gap

    def note_standstill(self, gap_ms: int) -> None:
        """Take notice that the media clock has just left out so much time: the whole agent stood still."""
        if self._on_gap is not None:
            self._on_gap(STANDSTILL, gap_ms)

    def hold(self, *, on: bool) -> None:
        """Keep what is queued while the peer holds the call and hears nothing (RFC 3264 §8.4), or go on with it."""
        self._held = on
        self._port.pause(self._held or self._paused)

    def listen(self, on_received: Callable[[bytes], None], on_close: Callable[[], None]) -> None:
        """Have `on_received` called in every tick with what was received in it (int16), until `on_close` is."""
        if self._open:
            self._taps.append(on_received)
            self._on_close.append(on_close)
        else:
            on_close()

    def frames(self) -> FrameStream:
        """Open a stream of received frames: int16, shape (samples,), read-only, 20 ms each.

        It is fed for as long as somebody holds it.
        """
        stream = FrameStream(self._note_dropped)
        if self._open:
            self._streams.append(weakref.ref(stream, self._streams.remove))
        else:
            stream.end()
        return stream

    async def send(self, samples: npt.NDArray[np.int16]) -> None:
        """Queue sound to send, of any length; waits while the queue is full, and ends early when it is stopped.

        What does not fill a frame waits for the rest of it. Raises CallEnded when the call is over, ValueError
        for anything but int16 of shape (n,).
        """
        if samples.dtype != _INT16 or samples.ndim != 1:
            raise ValueError(f"sound to send is int16 of shape (n,), not {samples.dtype} of shape {samples.shape}")
        if self._rest.size == 0 and samples.size == self._frame_samples:
            if self._open and self._write(samples.tobytes()):
                self._wrote = True
                return
        else:
            samples = np.concatenate((self._rest, samples))
            whole = len(samples) - len(samples) % self._frame_samples
            samples, self._rest = samples[:whole], samples[whole:]
        generation = self._generation
        while len(samples) and generation == self._generation:
            if not self._open:
                raise CallEnded("the call is over: nothing can be sent")
            if taken := self._write(samples[: QUEUE_FRAMES_MAX * self._frame_samples].tobytes()):
                self._wrote = True
                samples = samples[taken * self._frame_samples :]
            else:
                await self._next_tick()

    async def play(self, source: str | Path | npt.NDArray[np.int16], *, loop: bool = False) -> Playback:
        """Send a sound file (any that soundfile reads) or samples; returns when the last of it was sent.

        Raises AudioFileError for a file that cannot be read, CallEnded when the call ends before.
        """
        return await self.play_blocks(_blocks(source, self.sample_rate_hz, loop=loop))

    async def play_blocks(self, source: AsyncGenerator[npt.NDArray[np.int16], None]) -> Playback:
        """Send sound that comes piece by piece, as `play` does; closes `source`."""
        generation = self._generation
        start = self._port.sent() + self._port.queued()
        outer, self._playing_from = self._playing_from, start
        try:
            async with aclosing(source) as blocks:
                while (block := await self._next_block(blocks, generation)) is not None:
                    await self.send(block)
            if generation == self._generation:
                await self.drained()
        finally:
            self._playing_from = outer
        played_ms = max(0, self._port.sent() - start) * FRAME_MS
        return Playback(played_ms=played_ms, interrupted=generation != self._generation)

    @property
    def sent_ms(self) -> int:
        """Milliseconds of queued sound that have left, in steps of 20: silence between does not count."""
        return self._port.sent() * FRAME_MS

    @property
    def queued_ms(self) -> int:
        """Milliseconds of whole frames that wait to be sent."""
        return self._port.queued() * FRAME_MS

    async def until_sent(self, position_ms: int) -> None:
        """Wait until `sent_ms` has reached a position, or what was queued is dropped.

        Raises CallEnded when the call ends before.
        """
        generation = self._generation
        while self.sent_ms < position_ms and generation == self._generation:
            if not self._open:
                raise CallEnded("the call is over: not all was sent")
            await self._next_tick()

    def pause(self) -> None:
        """Fall silent from the next tick on, and keep what is queued."""
        self._paused = True
        self._port.pause(True)

    def resume(self) -> None:
        """Go on with what was queued when the playback was paused."""
        self._paused = False
        self._port.pause(self._held)

    def stop(self) -> int:
        """Stop all playback and drop what is queued, from the next tick on; returns milliseconds dropped."""
        self._generation += 1
        self._rest = self._rest[:0]
        dropped = self._port.flush()
        self._port.finish()
        self.resume()
        return dropped * FRAME_MS

    async def drained(self) -> None:
        """Complete a stretch of sound, and wait until all of it was sent; what follows is no underrun.

        Its last frame is filled with silence. Raises CallEnded when the call ends before.
        """
        if self._rest.size:
            await self.send(np.zeros(self._frame_samples - self._rest.size, np.int16))
        self._port.finish()
        while self._port.queued():
            if not self._open:
                raise CallEnded("the call is over: not all was sent")
            await self._next_tick()

    def late_frames(self) -> int:
        """Return how many received frames were taken late by the event loop, or never by the handler."""
        return self._port.counters().late + self._dropped_frames

    def counters(self) -> PortCounters:
        """Return what the port has counted; a pause amid a playback is an underrun, however long."""
        counters = self._port.counters()
        return replace(counters, underruns=counters.underruns + self._breaks)

    def close(self) -> None:
        """End every stream and let nobody wait any longer."""
        if not self._open:
            return
        self._open = False
        for reference in self._streams:
            if (stream := reference()) is not None:
                stream.end()
        self._taps.clear()
        while self._on_close:
            self._on_close.pop()()
        self._release_waiters()

    def _push(self, frame: AudioFrame) -> None:
        for reference in self._streams:
            if (stream := reference()) is not None:
                stream.push(frame)

    def _note_first_audio(self, received: bytes) -> None:
        if self.first_heard_at is None and received.count(0) != len(received):
            self.first_heard_at = self._clock()
        if self.first_sent_at is None and self._wrote and self._port.sent():
            self.first_sent_at = self._clock()

    def _on_sending_again(self) -> None:
        """Tell of a gap that is over: the port knows which were none of ours, but not what is one playback."""
        counters = self._port.counters()
        gap = counters.underruns - self._underruns_seen
        if self._playing_from is not None and self._playing_from < self._sent_seen:
            broken = counters.pauses - self._pauses_seen
            self._breaks += broken
            gap += broken
        if gap and self._on_gap is not None:
            self._on_gap(UNDERRUN, gap * FRAME_MS)
        self._underruns_seen, self._pauses_seen = counters.underruns, counters.pauses

    async def _next_block(
        self, blocks: AsyncGenerator[npt.NDArray[np.int16], None], generation: int
    ) -> npt.NDArray[np.int16] | None:
        """Return the next piece of a playback; None at its end, or when it is stopped, however slow its source is."""

        async def fetch() -> npt.NDArray[np.int16] | None:
            return await anext(blocks, None)

        fetching = asyncio.create_task(fetch())
        try:
            while not fetching.done() and generation == self._generation:
                if not self._open:
                    raise CallEnded("the call is over: nothing can be sent")
                either: list[asyncio.Future[Any]] = [fetching, self._next_tick()]
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not fetching.done():
                fetching.cancel()
                await asyncio.wait({fetching})
        return fetching.result() if generation == self._generation else None

    def _note_dropped(self) -> None:
        self._dropped_frames += 1

    def _release_waiters(self) -> None:
        while self._room:
            waiter = self._room.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def _next_tick(self) -> asyncio.Future[None]:
        waiter = asyncio.get_running_loop().create_future()
        self._room.append(waiter)
        return waiter


async def _blocks(
    source: str | Path | npt.NDArray[np.int16], sample_rate_hz: int, *, loop: bool
) -> AsyncGenerator[npt.NDArray[np.int16], None]:
    """Yield sound in blocks of up to a second, read off the event loop."""
    if isinstance(source, np.ndarray):
        yield source
        while loop and len(source):
            yield source
        return
    # Not closed here: a cancelled playback may leave a thread reading it. It closes with its last reference.
    frames = await asyncio.to_thread(open_audio, source, sample_rate_hz, loop=loop)
    while len(block := await asyncio.to_thread(_next_second, frames)):
        yield block


def _next_second(frames: Iterator[AudioFrame]) -> npt.NDArray[np.int16]:
    taken = [frame for _, frame in zip(range(1000 // FRAME_MS), frames, strict=False)]
    return np.concatenate(taken) if taken else np.empty(0, np.int16)
