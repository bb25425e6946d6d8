"""Frame ports: where the sound of a call leaves the engine and comes back.

`NativeFramePort` wraps the C++ port of our own engine build, whose rings the media clock serves without
Python. `LightFramePort` has the same interface on the PyPI engine, with Python callbacks on the media clock:
good for a laptop, and the reason why the light engine glitches under load.
"""

from typing import Any, Protocol

from media.frames import FRAME_MS
from sip_agent.audio import QUEUE_FRAMES_MAX, AudioPort, PortCounters
from sip_agent.frame_rings import CAPTURE_FRAMES, GAP_LIMIT_FRAMES, RECEIVED_FRAMES, FrameRings
from sip_agent.ua import engine


class FramePort(AudioPort, Protocol):
    """An `AudioPort` that the SIP thread connects to the stream of a call."""

    def connect(self, call: Any, media_index: int, *, mixed: bool) -> None:
        """Let sound flow between a stream of a call (pjsua2 `Call`) and this port, both ways; SIP thread only.

        `mixed`: something else will be sent to the stream as well.
        """

    def close(self) -> None:
        """Take the port off the bridge; SIP thread only."""


class FramePorts:
    """Gives each call a port on the conference bridge; SIP thread only."""

    def __init__(self, sample_rate_hz: int) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._idle_light_ports: list[Any] = []

    def open(self, cushion_ms: int) -> FramePort:
        """Put a port on the bridge."""
        if engine.is_native():
            return NativeFramePort(self._sample_rate_hz, cushion_ms)
        return LightFramePort(self._sample_rate_hz, cushion_ms, self._idle_light_ports)


class NativeFramePort:
    """The engine's own port: lock-free rings between the media clock and the event loop."""

    def __init__(self, sample_rate_hz: int, cushion_ms: int) -> None:
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
            cushion_frames=-(-cushion_ms // FRAME_MS),
        )
        self.read = self._port.read
        self.write = self._port.write
        self.sent = self._port.sent
        self.queued = self._port.queued
        self.flush = self._port.flush
        self.finish = self._port.finish
        self.pause = self._port.pause
        self.read_capture = self._port.read_capture

    def connect(self, call: Any, media_index: int, *, mixed: bool) -> None:
        """See `FramePort`."""
        self._port.connect(call, media_index, mixed)

    def counters(self) -> PortCounters:
        """See `AudioPort`."""
        counted = self._port.stats()
        return PortCounters(
            sent=counted["sent"],
            late=counted["late"],
            underruns=counted["underruns"],
            pauses=counted["pause_ticks"],
            overruns=counted["overruns"],
            capture_overruns=counted["capture_overruns"],
        )

    def close(self) -> None:
        """See `FramePort`."""
        self._port.close()


class LightFramePort(FrameRings):
    """The same on the PyPI engine: a Python port on the media clock thread.

    Its port is never destroyed but left in `idle` for the next call: that engine frees a port while its clock
    may still be inside (pjproject #4200), which ends the process.
    """

    def __init__(self, sample_rate_hz: int, cushion_ms: int, idle: list[Any]) -> None:
        super().__init__(sample_rate_hz, cushion_ms)
        self._idle = idle
        self._port = idle.pop() if idle else _light_port_class()(sample_rate_hz)
        self._port.rings = self

    def connect(self, call: Any, media_index: int, *, mixed: bool) -> None:  # noqa: ARG002
        """See `FramePort`: the bridge always mixes here."""
        stream = call.getAudioMedia(media_index)
        stream.startTransmit(self._port)
        self._port.startTransmit(stream)

    def close(self) -> None:
        """See `FramePort`; the stream's own end unties it from the port."""
        self._port.rings = None
        self._idle.append(self._port)


def _light_port_class() -> type:
    pj = engine.load()

    class Port(pj.AudioMediaPort):  # type: ignore[name-defined,misc]
        """Director object on the media clock thread; guarded, as an exception here would end the process."""

        rings: FrameRings | None = None

        def __init__(self, sample_rate_hz: int) -> None:
            super().__init__()
            audio_format = pj.MediaFormatAudio()
            audio_format.type = pj.PJMEDIA_TYPE_AUDIO
            audio_format.clockRate = sample_rate_hz
            audio_format.channelCount = 1
            audio_format.bitsPerSample = 16
            audio_format.frameTimeUsec = FRAME_MS * 1000
            self.createPort("agent", audio_format)
            self.__disown__()

        def onFrameRequested(self, frame: Any) -> None:
            try:
                if (rings := self.rings) is None:
                    frame.type = pj.PJMEDIA_FRAME_TYPE_NONE
                    return
                data = rings.next_frame()
                frame.type = pj.PJMEDIA_FRAME_TYPE_AUDIO
                frame.buf = pj.ByteVector(data)
                frame.size = len(data)
            except Exception:  # noqa: BLE001  (nothing on this thread may raise; silence is the answer)
                frame.type = pj.PJMEDIA_FRAME_TYPE_NONE

        def onFrameReceived(self, frame: Any) -> None:
            try:
                if (rings := self.rings) is not None:
                    is_audio = frame.type == pj.PJMEDIA_FRAME_TYPE_AUDIO
                    rings.take(bytes(frame.buf) if is_audio else b"")
            except Exception:  # noqa: BLE001  (nothing on this thread may raise; the frame is lost)
                return

    return Port
