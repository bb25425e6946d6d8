"""How long sound takes to the agent and back: calls that send silence, and now and then a marker.

All probes share one thread and one monotonic clock. A marker is timed from when its first packet was sent
to when the first packet with any of it came back.
"""

import itertools
import random
import selectors
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from tests.calls.agent_process import AgentProcess
from tests.calls.peer import Peer

FRAME_S = 0.02
SAMPLES = 160
SILENCE = b"\xff" * SAMPLES
MARKER = b"\x80\x80\x80\x80\x00\x00\x00\x00" * (SAMPLES // 8)
"""The loudest 1 kHz square wave that PCMU can say."""

MARKER_FRAMES = 3
SPACING_FRAMES = (18, 25)
"""A marker comes every 360 to 500 ms; one that has not returned by the next is lost."""

_RTP = struct.Struct("!BBHII")


class EchoProbe:
    """One call to `user`, who says back what is said."""

    def __init__(self, agent: AgentProcess, markers: int, user: str) -> None:
        self.delays_ms: list[float] = []
        self.lateness_ms: list[float] = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self._markers = markers
        self._peer = Peer(agent)
        offer = self._peer.offer(port=self.socket.getsockname()[1], codec="0 PCMU/8000")
        response = self._peer.invite(user, sdp=offer)
        assert response.status == 200
        self.socket.connect(("127.0.0.1", _media_port(response.body)))
        self._loud = _loud_frames(markers)
        self._sequence = itertools.count(random.randrange(1000))  # noqa: S311  (no secret)
        self._sent_at: float | None = None
        self._was_loud = False
        self.due = time.monotonic() + random.random()  # noqa: S311  (any phase against the agent's clock)
        self.done = False

    def send(self) -> None:
        """Send the packet that is due."""
        loud = next(self._loud, None)
        self.done = loud is None
        number = next(self._sequence)
        header = _RTP.pack(0x80, 0, number & 0xFFFF, number * SAMPLES, 0x5EED)
        if loud and not self._was_loud:
            self._sent_at = time.monotonic()
        self.lateness_ms.append(1000 * (time.monotonic() - self.due))
        self.socket.send(header + (MARKER if loud else SILENCE))
        self._was_loud = bool(loud)
        self.due += FRAME_S

    def receive(self) -> None:
        """Take a packet that came back."""
        now = time.monotonic()
        payload = self.socket.recv(2048)[12:]
        if self._sent_at is not None and any(code & 0x7F < 0x20 for code in payload):
            self.delays_ms.append(1000 * (now - self._sent_at))
            self._sent_at = None

    def close(self) -> None:
        """Hang up."""
        self._peer.bye()
        self._peer.close()
        self.socket.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoDelays:
    """The delays of the markers that came back, how many did not, and how late the probes sent their packets.

    A probe that is itself late makes the agent's jitter buffer grow: then the machine was measured.
    """

    delays_ms: list[float]
    lost: int
    lateness_ms: list[float]


def measure_delays(agent: AgentProcess, *, probes: int, markers: int, user: str = "echo") -> EchoDelays:
    """Have `probes` calls send `markers` markers each."""
    with ExitStack() as open_probes, selectors.DefaultSelector() as selector:
        calls = [EchoProbe(agent, markers, user) for _ in range(probes)]
        for call in calls:
            open_probes.callback(call.close)
            selector.register(call.socket, selectors.EVENT_READ, call)
        while not all(call.done for call in calls):
            earliest = min(calls, key=lambda call: call.due)
            for key, _ in selector.select(max(0.0, earliest.due - time.monotonic())):
                key.data.receive()
            if time.monotonic() >= earliest.due:
                earliest.send()
    delays_ms = [delay for call in calls for delay in call.delays_ms]
    lateness_ms = [lateness for call in calls for lateness in call.lateness_ms]
    return EchoDelays(delays_ms=delays_ms, lost=probes * markers - len(delays_ms), lateness_ms=lateness_ms)


def _loud_frames(markers: int) -> Iterator[bool]:
    """Tell for each frame whether it is part of a marker; silence comes first and last."""
    for _ in range(markers):
        yield from itertools.repeat(False, random.randint(*SPACING_FRAMES))  # noqa: S311  (no secret)
        yield from itertools.repeat(True, MARKER_FRAMES)
    yield from itertools.repeat(False, SPACING_FRAMES[0])


def _media_port(sdp: str) -> int:
    (line,) = (line for line in sdp.splitlines() if line.startswith("m=audio "))
    return int(line.split()[1])
