"""The queues of an `AudioPort` in Python: received, to send, and what both sides said in each tick.

Whoever owns the clock calls `exchange`, or `next_frame` and then `take`, once every 20 ms, on any thread;
everything else is for the event loop.
"""

from collections import deque

import numpy as np

from media.frames import FRAME_MS, samples_per_frame
from sip_agent.audio import QUEUE_FRAMES_MAX, PortCounters

RECEIVED_FRAMES = 50
CAPTURE_FRAMES = 100
"""Two seconds of recording are kept; it is taken twice a second."""

GAP_LIMIT_FRAMES = 10
"""A silence of up to 200 ms in the middle of a stream is an underrun; a longer one is a pause of the speaker."""

LATE_FRAMES = 3
"""A received frame that waited for more than 60 ms was taken late."""


class FrameRings:
    """An `AudioPort` of queues; a stretch of sound begins after a cushion of silence, as with the engine's own."""

    def __init__(self, sample_rate_hz: int, cushion_ms: int) -> None:
        self.sample_rate_hz = sample_rate_hz
        self._frame_bytes = 2 * samples_per_frame(sample_rate_hz)
        self._silence = bytes(self._frame_bytes)
        self._cushion_frames = -(-cushion_ms // FRAME_MS)
        self._received: deque[bytes] = deque(maxlen=RECEIVED_FRAMES)
        self._to_send: deque[bytes] = deque()
        self._capture: deque[tuple[bytes, bytes]] = deque(maxlen=CAPTURE_FRAMES)
        self._last_sent = self._silence
        self._streaming = self._paused = self._abandoned = False
        self._finish_at: int | None = None
        self._cushion_left = self._gap = 0
        self._written = self._sent = self._flushed = 0
        self._late = self._underruns = self._pauses = self._overruns = self._capture_overruns = 0

    def exchange(self, received: bytes) -> bytes:
        """Let 20 ms pass: take the frame that was received and return the one to send."""
        frame = self.next_frame()
        self.take(received)
        return frame

    def next_frame(self) -> bytes:
        """Begin a tick: return the frame to send."""
        self._last_sent = self._frame_to_send()
        return self._last_sent

    def take(self, received: bytes) -> None:
        """End a tick: take the frame that was received, whole or none (then it is silence)."""
        if len(received) < self._frame_bytes:
            received = self._silence
        self._overruns += len(self._received) == RECEIVED_FRAMES
        self._received.append(received)
        self._capture_overruns += len(self._capture) == CAPTURE_FRAMES
        self._capture.append((received, self._last_sent))

    def read(self) -> bytes:
        """See `AudioPort`."""
        frames = [self._received.popleft() for _ in range(len(self._received))]
        self._late += max(0, len(frames) - LATE_FRAMES)
        return b"".join(frames)

    def write(self, frames: bytes, /) -> int:
        """See `AudioPort`."""
        room = QUEUE_FRAMES_MAX - len(self._to_send)
        taken = min(room, len(frames) // self._frame_bytes)
        if not taken:
            return 0
        if not self._streaming:
            self._streaming = True
            self._cushion_left = self._cushion_frames
            if self._abandoned:
                self._pauses += self._gap + self._cushion_frames
            self._abandoned = False
            self._gap = 0
        size = self._frame_bytes
        self._to_send.extend(frames[start : start + size] for start in range(0, taken * size, size))
        self._written += taken
        self._finish_at = None
        return taken

    def queued(self) -> int:
        """See `AudioPort`."""
        return len(self._to_send)

    def flush(self) -> int:
        """See `AudioPort`."""
        dropped = len(self._to_send)
        self._to_send.clear()
        self._flushed += dropped
        return dropped

    def sent(self) -> int:
        """See `AudioPort`."""
        return self._sent

    def finish(self) -> None:
        """See `AudioPort`."""
        self._finish_at = self._written

    def pause(self, on: bool, /) -> None:
        """See `AudioPort`."""
        self._paused = on

    def read_capture(self) -> bytes:
        """See `AudioPort`."""
        pairs = [self._capture.popleft() for _ in range(len(self._capture))]
        left = np.frombuffer(b"".join(received for received, _ in pairs), np.int16)
        right = np.frombuffer(b"".join(sent for _, sent in pairs), np.int16)
        return np.column_stack((left, right)).tobytes()

    def counters(self) -> PortCounters:
        """See `AudioPort`."""
        return PortCounters(
            sent=self._sent,
            late=self._late,
            underruns=self._underruns,
            pauses=self._pauses,
            overruns=self._overruns,
            capture_overruns=self._capture_overruns,
        )

    def _frame_to_send(self) -> bytes:
        if self._paused:
            return self._silence
        if self._cushion_left and self._to_send:
            self._cushion_left -= 1
            return self._silence
        try:
            frame = self._to_send.popleft()
        except IndexError:
            self._note_gap()
            return self._silence
        self._underruns += self._gap
        self._gap = 0
        self._sent += 1
        return frame

    def _note_gap(self) -> None:
        finished = self._finish_at is not None and self._sent + self._flushed >= self._finish_at
        if finished:
            self._streaming = self._abandoned = False
            self._gap = 0
        elif self._streaming or self._abandoned:
            self._gap += 1
            if self._gap > GAP_LIMIT_FRAMES:
                self._streaming, self._abandoned = False, True
