"""Frame ports: where the sound of a call leaves the engine and comes back.

`NativeFramePort` wraps the C++ port of our own engine build, whose rings the media clock serves without
Python. `LightFramePort` has the same interface on the PyPI engine, with Python callbacks on the media clock:
good for a laptop, and the reason why the light engine glitches under load.
"""

from collections import deque
from functools import partial
from typing import Any, Protocol

import numpy as np

from media.frames import FRAME_MS, samples_per_frame
from sip_agent.audio import QUEUE_FRAMES_MAX, AudioPort, PortCounters
from sip_agent.ua import engine

RECEIVED_FRAMES = 50
CAPTURE_FRAMES = 100
"""Two seconds of recording fit into the engine; it is taken twice a second."""

GAP_LIMIT_FRAMES = 10
"""A silence of up to 200 ms in the middle of a stream is an underrun; a longer one is a pause of the speaker."""

LATE_FRAMES = 3
"""A received frame that waited for more than 60 ms was taken late."""


class FramePort(AudioPort, Protocol):
    """An `AudioPort` that the SIP thread connects to the stream of a call."""

    def connect(self, stream: Any) -> None:
        """Let sound flow between a stream (pjsua2 `AudioMedia`) and this port, both ways; SIP thread only."""

    def close(self) -> None:
        """Take the port off the bridge; SIP thread only."""


def open_frame_port(sample_rate_hz: int, cushion_ms: int) -> FramePort:
    """Put a new port on the conference bridge; SIP thread only."""
    port = NativeFramePort if engine.is_native() else LightFramePort
    return port(sample_rate_hz, -(-cushion_ms // FRAME_MS))


class NativeFramePort:
    """The engine's own port: lock-free rings between the media clock and the event loop."""

    def __init__(self, sample_rate_hz: int, cushion_frames: int) -> None:
        pj = engine.load()
        self.sample_rate_hz = sample_rate_hz
        self._port = pj.FramePort(
            "agent",
            sample_rate_hz,
            ptime_ms=FRAME_MS,
            received_frames=RECEIVED_FRAMES,
            send_frames=QUEUE_FRAMES_MAX,
            capture_frames=CAPTURE_FRAMES,
            gap_limit_ticks=GAP_LIMIT_FRAMES,
            cushion_frames=cushion_frames,
        )
        # Bound to the functions themselves: on this path, the call through SWIG's proxy class costs as much again.
        functions = pj._pjsua2_native  # noqa: SLF001  (the compiled half of the module)
        self.read = partial(functions.FramePort_read, self._port)
        self.write = partial(functions.FramePort_write, self._port)
        self.queued = self._port.queued
        self.flush = self._port.flush
        self.finish = self._port.finish
        self.pause = self._port.pause
        self.read_capture = self._port.read_capture

    def connect(self, stream: Any) -> None:
        """See `FramePort`."""
        stream.startTransmit(self._port)
        self._port.startTransmit(stream)

    def sent(self) -> int:
        """See `AudioPort`."""
        return int(self._port.sent)

    def counters(self) -> PortCounters:
        """See `AudioPort`."""
        counted = self._port.stats()
        return PortCounters(
            sent=counted["sent"],
            late=counted["late"],
            underruns=counted["underruns"],
            overruns=counted["overruns"],
            capture_overruns=counted["capture_overruns"],
        )

    def close(self) -> None:
        """See `FramePort`."""
        self._port.close()


class LightFramePort:
    """The same on the PyPI engine: a Python port on the media clock thread."""

    def __init__(self, sample_rate_hz: int, cushion_frames: int) -> None:
        self.sample_rate_hz = sample_rate_hz
        self._frame_bytes = 2 * samples_per_frame(sample_rate_hz)
        self._silence = bytes(self._frame_bytes)
        self._cushion_frames = cushion_frames
        self._received: deque[bytes] = deque(maxlen=RECEIVED_FRAMES)
        self._to_send: deque[bytes] = deque()
        self._capture: deque[tuple[bytes, bytes]] = deque(maxlen=CAPTURE_FRAMES)
        self._last_sent = self._silence
        self._streaming = self._paused = False
        self._finish_at: int | None = None
        self._cushion_left = 0
        self._gap = 0
        self._written = self._sent = self._flushed = self._late = self._underruns = self._overruns = 0
        self._capture_overruns = 0
        self._port = _light_port_class()(self, sample_rate_hz)

    def connect(self, stream: Any) -> None:
        """See `FramePort`."""
        stream.startTransmit(self._port)
        self._port.startTransmit(stream)

    def read(self) -> bytes:
        """See `AudioPort`."""
        frames = [self._received.popleft() for _ in range(len(self._received))]
        self._late += max(0, len(frames) - LATE_FRAMES)
        return b"".join(frames)

    def write(self, frames: bytes) -> int:
        """See `AudioPort`."""
        taken = 0
        for start in range(0, len(frames), self._frame_bytes):
            if len(self._to_send) >= QUEUE_FRAMES_MAX:
                break
            if not self._streaming:
                self._streaming = True
                self._cushion_left = self._cushion_frames
            self._to_send.append(frames[start : start + self._frame_bytes])
            taken += 1
        self._written += taken
        if taken:
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

    def pause(self, on: bool) -> None:
        """See `AudioPort`."""
        self._paused = on

    def read_capture(self) -> bytes:
        """See `AudioPort`."""
        pairs = [self._capture.popleft() for _ in range(len(self._capture))]
        if not pairs:
            return b""
        left = np.frombuffer(b"".join(received for received, _ in pairs), np.int16)
        right = np.frombuffer(b"".join(sent for _, sent in pairs), np.int16)
        return np.column_stack((left, right)).tobytes()

    def counters(self) -> PortCounters:
        """See `AudioPort`."""
        return PortCounters(
            sent=self._sent,
            late=self._late,
            underruns=self._underruns,
            overruns=self._overruns,
            capture_overruns=self._capture_overruns,
        )

    def close(self) -> None:
        """See `FramePort`."""
        self._port = None

    def requested(self) -> bytes:
        """Return the frame to send in this tick; the media clock calls it."""
        if self._paused:
            self._last_sent = self._silence
            return self._silence
        if self._cushion_left and self._to_send:
            self._cushion_left -= 1
            self._last_sent = self._silence
            return self._silence
        try:
            frame = self._to_send.popleft()
        except IndexError:
            frame = self._silence
            self._note_gap()
        else:
            self._underruns += self._gap
            self._gap = 0
            self._sent += 1
        self._last_sent = frame
        return frame

    def received(self, frame: bytes) -> None:
        """Take the frame received in this tick; the media clock calls it."""
        if len(frame) < self._frame_bytes:
            frame = self._silence
        if len(self._received) == RECEIVED_FRAMES:
            self._overruns += 1
        self._received.append(frame)
        if len(self._capture) == CAPTURE_FRAMES:
            self._capture_overruns += 1
        self._capture.append((frame, self._last_sent))

    def _note_gap(self) -> None:
        if not self._streaming:
            return
        finished = self._finish_at is not None and self._sent + self._flushed >= self._finish_at
        self._gap += 1
        if finished or self._gap > GAP_LIMIT_FRAMES:
            self._streaming = False
            self._gap = 0


def _light_port_class() -> type:
    pj = engine.load()

    class Port(pj.AudioMediaPort):  # type: ignore[name-defined,misc]
        """Director object on the media clock thread; guarded, as an exception here would end the process."""

        def __init__(self, owner: LightFramePort, sample_rate_hz: int) -> None:
            super().__init__()
            self._owner = owner
            audio_format = pj.MediaFormatAudio()
            audio_format.type = pj.PJMEDIA_TYPE_AUDIO
            audio_format.clockRate = sample_rate_hz
            audio_format.channelCount = 1
            audio_format.bitsPerSample = 16
            audio_format.frameTimeUsec = FRAME_MS * 1000
            self.createPort("agent", audio_format)

        def onFrameRequested(self, frame: Any) -> None:
            try:
                data = self._owner.requested()
                frame.type = pj.PJMEDIA_FRAME_TYPE_AUDIO
                frame.buf = pj.ByteVector(data)
                frame.size = len(data)
            except Exception:  # noqa: BLE001  (nothing on this thread may raise; silence is the answer)
                frame.type = pj.PJMEDIA_FRAME_TYPE_NONE

        def onFrameReceived(self, frame: Any) -> None:
            try:
                is_audio = frame.type == pj.PJMEDIA_FRAME_TYPE_AUDIO
                self._owner.received(bytes(frame.buf) if is_audio else b"")
            except Exception:  # noqa: BLE001  (nothing on this thread may raise; the frame is lost)
                return

    return Port
