"""The sound of one call on the event loop: received frames out, frames to send in, playback.

The engine's `AudioPort` holds the rings; its clock never waits for anything here. Once every 20 ms the pump
calls `CallAudio.tick`, which hands on what was received and wakes whoever waits for room in the queue.
"""

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

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

CAPTURE_EVERY_TICKS = 25
"""The recording is taken from the engine twice a second."""

_INT16 = np.dtype(np.int16)


@dataclass(frozen=True, slots=True, kw_only=True)
class PortCounters:
    """What a port has counted since it was opened, in frames of 20 ms (`late`: waited over 60 ms)."""

    sent: int = 0
    late: int = 0
    underruns: int = 0
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

    def finish(self) -> None:
        """Say that a stretch of sound is complete: silence after it is no underrun."""

    def read_capture(self) -> bytes:
        """Take the (received, sent) pairs since the last time (int16, interleaved stereo)."""

    def counters(self) -> PortCounters:
        """Return what was counted so far."""


class FrameStream:
    """Received frames, one by one, as an asynchronous iterator that ends with the call."""

    def __init__(self, on_dropped: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._frames: deque[AudioFrame] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False
        self._on_dropped = on_dropped

    def __aiter__(self) -> "FrameStream":
        return self

    async def __anext__(self) -> AudioFrame:
        while not self._frames:
            if self._ended:
                raise StopAsyncIteration
            if self._waiter is not None and not self._waiter.done():
                raise RuntimeError("two tasks cannot share one stream of frames: let each call frames()")
            waiter = self._waiter = asyncio.Future(loop=self._loop)
            await waiter
        return self._frames.popleft()

    def push(self, frame: AudioFrame) -> None:
        """Add a frame; drops the oldest one if nobody takes them."""
        if len(self._frames) >= RECEIVED_FRAMES_MAX:
            self._frames.popleft()
            self._on_dropped()
        self._frames.append(frame)
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def end(self) -> None:
        """Let the iteration end after the frames that are already here."""
        self._ended = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Playback:
    """What became of a playback: milliseconds really sent, and whether it was stopped before its end."""

    played_ms: int
    interrupted: bool


class CallAudio:
    """The sound of one call, as a handler uses it through `Call`."""

    def __init__(self, port: AudioPort) -> None:
        self.sample_rate_hz = port.sample_rate_hz
        self.first_sent_at: datetime | None = None
        self.first_heard_at: datetime | None = None
        self._wrote = False
        self._port = port
        self._on_capture: Callable[[bytes], None] | None = None
        self._read = port.read
        self._write = port.write
        self._frame_samples = samples_per_frame(port.sample_rate_hz)
        self._frame_bytes = self._frame_samples * _INT16.itemsize
        self._streams: list[weakref.ref[FrameStream]] = []
        self._rest = np.empty(0, np.int16)
        self._room: deque[asyncio.Future[None]] = deque()
        self._ticks = 0
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
        if self._room:
            self._release_waiters()
        self._ticks += 1
        if self._on_capture is not None and self._ticks % CAPTURE_EVERY_TICKS == 0:
            self._capture(self._on_capture)

    def record_to(self, on_capture: Callable[[bytes], None]) -> None:
        """Have `on_capture` called with blocks of (received, sent) sound: int16, interleaved stereo."""
        self._on_capture = on_capture

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
                await self._wait_for_tick()

    async def play(self, source: str | Path | npt.NDArray[np.int16], *, loop: bool = False) -> Playback:
        """Send a sound file (any that soundfile reads) or samples; returns when the last of it was sent.

        Raises AudioFileError for a file that cannot be read, CallEnded when the call ends before.
        """
        generation = self._generation
        start = self._port.counters().sent + self._port.queued()
        async with aclosing(_blocks(source, self.sample_rate_hz, loop=loop)) as blocks:
            async for block in blocks:
                if generation != self._generation:
                    break
                await self.send(block)
        if generation == self._generation:
            await self.drained()
        played = max(0, self._port.counters().sent - start)
        return Playback(played_ms=played * FRAME_MS, interrupted=generation != self._generation)

    def stop(self) -> int:
        """Stop all playback and drop what is queued, from the next tick on; returns milliseconds dropped."""
        self._generation += 1
        self._rest = self._rest[:0]
        dropped = self._port.flush()
        self._port.finish()
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
            await self._wait_for_tick()

    def late_frames(self) -> int:
        """Return how many received frames were taken late by the event loop, or never by the handler."""
        return self._port.counters().late + self._dropped_frames

    def counters(self) -> PortCounters:
        """Return what the port has counted."""
        return self._port.counters()

    def close(self) -> None:
        """End every stream and let nobody wait any longer."""
        if not self._open:
            return
        self._open = False
        if self._on_capture is not None:
            self._capture(self._on_capture)
        for reference in self._streams:
            if (stream := reference()) is not None:
                stream.end()
        self._release_waiters()

    def _push(self, frame: AudioFrame) -> None:
        for reference in self._streams:
            if (stream := reference()) is not None:
                stream.push(frame)

    def _note_first_audio(self, received: bytes) -> None:
        if self.first_heard_at is None and received.count(0) != len(received):
            self.first_heard_at = datetime.now(UTC)
        if self.first_sent_at is None and self._wrote and self._port.counters().sent:
            self.first_sent_at = datetime.now(UTC)

    def _capture(self, on_capture: Callable[[bytes], None]) -> None:
        captured = self._port.read_capture()
        if captured:
            on_capture(captured)

    def _note_dropped(self) -> None:
        self._dropped_frames += 1

    def _release_waiters(self) -> None:
        while self._room:
            waiter = self._room.popleft()
            if not waiter.done():
                waiter.set_result(None)

    async def _wait_for_tick(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._room.append(waiter)
        await waiter


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
