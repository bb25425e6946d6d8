"""A Pipecat pipeline in the agent's process, on a real call."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.calls.agent_process import AgentProcess, eventually
from tests.calls.conftest import dial
from tests.calls.peer import Peer
from tests.calls.rtp import CLOCK_RATE_HZ, RtpPeer, strongest_hz
from tests.calls.sdp_text import audio_address

ROUTES = [dial("echo", "tests.pipecat_bots:EchoBot"), dial("talker", "tests.pipecat_bots:TalkerBot")]

UNDERRUNS_MAX = 10
"""As many as the longest gap has; a longer silence the agent would take for a pause of the speaker."""


@pytest.fixture(scope="module")
def agent(agent_folders: Iterator[Path]) -> Iterator[AgentProcess]:
    """Run an agent whose handlers are pipelines."""
    with AgentProcess(next(agent_folders), {"routes": ROUTES}) as process:
        yield process


def loud(heard: np.ndarray) -> np.ndarray:
    """Return, for each 20 ms, whether something is to be heard."""
    frames = heard[: len(heard) // 160 * 160].reshape(-1, 160)
    return np.asarray(np.max(np.abs(frames), axis=1) > 200)


def test_echo(agent: AgentProcess) -> None:
    """The caller's tone comes back through the pipeline."""
    with Peer(agent) as peer, RtpPeer() as rtp:
        rtp.send_to(audio_address(peer.invite("echo", sdp=peer.offer(port=rtp.port)).body))
        eventually(lambda: np.count_nonzero(loud(rtp.heard())) > 75, "echo")
        assert peer.bye().status == 200
        record = agent.record(peer.call_id)
        heard = rtp.heard()
    assert 1000 == pytest.approx(strongest_hz(heard[-CLOCK_RATE_HZ // 2 :], CLOCK_RATE_HZ), abs=10)
    assert ("answered", "caller", None) == (record["outcome"], record["ended_by"], record["error"])


def test_interruption_and_end(agent: AgentProcess) -> None:
    """A digit interrupts five seconds of speech at once; another ends the pipeline, which hangs up."""
    with Peer(agent) as peer, RtpPeer() as rtp:
        remote = audio_address(peer.invite("talker", sdp=peer.offer(port=rtp.port)).body)
        assert remote is not None
        rtp.send_to(remote)
        eventually(lambda: np.count_nonzero(loud(rtp.heard())) > 75, "speech")
        pressed = len(rtp.packets)
        rtp.send_digit("1", remote)
        eventually(lambda: not loud(rtp.heard()[-CLOCK_RATE_HZ // 4 :]).any(), "silence after the interruption")
        heard = loud(rtp.heard())
        rtp.send_digit("9", remote)
        peer.reply(peer.await_request("BYE"))
        record = agent.record(peer.call_id)
    first, last = np.flatnonzero(heard)[[0, -1]]
    # From the digit's first packet, through the jitter buffer and the pipeline, to the last loud packet.
    assert last - pressed <= 25
    # A busy machine may owe a few frames of the speech before the digit, but none that the agent has not counted.
    assert np.count_nonzero(~heard[first:pressed]) <= record["audio"]["underruns"] <= UNDERRUNS_MAX
    assert ("agent", "the pipeline ended: goodbye") == (record["ended_by"], record["end_reason"])
    assert ["1", "9"] == [digit["digit"] for digit in record["dtmf"]]
    assert "agent" == record["transcript"][0]["speaker"]
