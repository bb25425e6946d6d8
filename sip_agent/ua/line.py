"""Lines that are spoilt on purpose, on the native engine: lost packets, noise, a peer that vanishes.

All of it belongs to the SIP thread.
"""

import math
from typing import Any

from sip_agent.line import LineFaults, PacketFaults
from sip_agent.ua import engine


class Lines:
    """What spoilt lines share: the thread that delays packets, and the dialogs that have vanished."""

    def __init__(self) -> None:
        pj = engine.load()
        self._courier = pj.LineCourier()
        self._vanisher = pj.Vanisher()

    def open(self, faults: LineFaults) -> "Line":
        """Return the line of a new call."""
        return Line(faults, self._courier, self._vanisher)

    def close(self) -> None:
        """Deliver nothing any more; no call may be left."""
        self._courier.close()
        self._vanisher.close()


class Line:
    """The line of one call."""

    def __init__(self, faults: LineFaults, courier: Any, vanisher: Any) -> None:
        self._faults = faults
        self._vanisher = vanisher
        self._noise: Any = None
        self._line = engine.load().Line(
            courier,
            _impairments(faults.to_caller),
            _impairments(faults.from_caller),
            seed=faults.seed,
            mute=faults.to_caller.blocked,
            deaf=faults.from_caller.blocked,
            payload_type=-1 if faults.payload_type is None else faults.payload_type,
        )

    def attach(self, created: Any) -> None:
        """Spoil the packets of a media transport that pjsua2 has just made (`OnCreateMediaTransportParam`)."""
        self._line.attach(created)

    @property
    def is_noisy(self) -> bool:
        """Return whether there is noise to mix in."""
        return self._faults.noise_dbov is not None

    def connect(self, stream: Any, bandwidth_share: float) -> None:
        """Mix the noise, if any, into what a stream (pjsua2 `AudioMedia`) sends.

        `bandwidth_share` of its power gets through the codec; the rest is put on top.
        """
        if self._faults.noise_dbov is None:
            return
        if self._noise is None:
            level_dbov = self._faults.noise_dbov - 10 * math.log10(bandwidth_share)
            self._noise = engine.load().NoiseSource(level_dbov, self._faults.seed)
        self._noise.startTransmit(stream)

    def vanish(self, call_id: str) -> None:
        """Let no packet and no message of the call through any more; the stack finds that it cannot send."""
        self._line.cut()
        self._vanisher.vanish(call_id)

    def close(self) -> None:
        """Take the noise off the bridge; the call is over."""
        if self._noise is not None:
            self._noise.close()


def _impairments(faults: PacketFaults) -> Any:
    return engine.load().Impairments(
        lost=faults.loss_percent / 100,
        duplicated=faults.duplicate_percent / 100,
        reordered=faults.reorder_percent / 100,
        jitter_ms=faults.jitter_ms,
    )
