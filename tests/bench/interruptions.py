"""How long the agent is still heard after it was to be silent: on the wire, and in the recording."""

import selectors
import socket
import time
from collections.abc import Iterator

import numpy as np
import soundfile

from media.frames import Samples, silence
from tests.calls.agent_process import AgentProcess, eventually
from tests.calls.peer import Peer
from tests.calls.rtp import CLOCK_RATE_HZ, RtpPeer, decode_pcma
from tests.calls.sdp_text import audio_address
from tests.media.voices import spoken

CALL_S = 60.0
LOUD = 500
ROUNDS = 8


def flush_times_ms(agent: AgentProcess) -> list[float]:
    """Return how long after each stop of `StopOften` the last packet with sound left; both read one clock."""
    with Peer(agent) as peer, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rtp:
        rtp.bind(("127.0.0.1", 0))
        response = peer.invite("stop", sdp=peer.offer(port=rtp.getsockname()[1]))
        assert response.status == 200
        loud_at = np.array(list(_loud_packets(peer, rtp)))
        peer.reply(peer.await_request("BYE"))
        stops = [float(entry["text"]) for entry in agent.record(peer.call_id)["transcript"]]
    # A tone follows a quarter of a second after each stop.
    return [1000 * float(max(0.0, (loud_at[loud_at < stop + 0.2] - stop).max())) for stop in stops]


def _loud_packets(peer: Peer, rtp: socket.socket) -> Iterator[float]:
    """Yield when each packet with sound came, until the agent hangs up."""
    ends = time.monotonic() + CALL_S
    with selectors.DefaultSelector() as selector:
        selector.register(rtp, selectors.EVENT_READ)
        selector.register(peer._socket, selectors.EVENT_READ)
        while time.monotonic() < ends:
            ready = {key.fileobj for key, _ in selector.select(0.5)}
            if rtp in ready:
                data = rtp.recv(2048)
                now = time.monotonic()
                if data[1] & 0x7F == 8 and np.abs(decode_pcma(data[12:])).max() > LOUD:
                    yield now
            if peer._socket in ready:
                return
    raise AssertionError("the agent did not hang up")


def stop_times_ms(agent: AgentProcess) -> list[float]:
    """Return, from the recording, how long the tone of `GiveWay` is heard after a caller began to speak."""
    sentence = spoken("Excuse me, I would like to say something.", CLOCK_RATE_HZ)
    sound = np.concatenate((silence(2000, CLOCK_RATE_HZ), sentence))
    with Peer(agent) as peer, RtpPeer(sound) as rtp:
        response = peer.invite("give_way", sdp=peer.offer(port=rtp.port))
        rtp.send_to(audio_address(response.body))
        packets = ROUNDS * len(sound) // 160
        eventually(lambda: rtp.sent > packets, f"{packets} packets sent", CALL_S)
        peer.bye()
        recording = agent.record(peer.call_id)["recording"]
    samples, rate_hz = soundfile.read(recording["path"], dtype="int16")
    began, ended = _edges(samples[:, 0], rate_hz, quiet_ms=1500), _ends(samples[:, 1], rate_hz)
    return [1000 * min(end - begin for end in ended if end > begin) / rate_hz for begin in began if begin < max(ended)]


def _edges(samples: Samples, rate_hz: int, quiet_ms: int) -> list[int]:
    """Return where sound begins after so much silence."""
    (loud,) = np.nonzero(np.abs(samples) > LOUD)
    gaps = np.diff(loud, prepend=-rate_hz * quiet_ms)
    return [int(position) for position in loud[gaps > rate_hz * quiet_ms // 1000]]


def _ends(samples: Samples, rate_hz: int) -> list[int]:
    """Return where sound ends for a tenth of a second or more."""
    return [len(samples) - 1 - edge for edge in _edges(samples[::-1], rate_hz, quiet_ms=100)]
