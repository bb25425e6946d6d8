"""Turns and metrics of real calls: from RTP over the recording to the record."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.calls.agent_process import AgentProcess, eventually
from tests.calls.conftest import StartAgent
from tests.calls.peer import Peer
from tests.calls.rtp import CLOCK_RATE_HZ, RtpPeer, tone
from tests.calls.sdp_text import audio_address

BEEPS = np.concatenate(
    [
        np.zeros(CLOCK_RATE_HZ // 2, np.int16),
        tone(1000, 0.6),
        np.zeros(CLOCK_RATE_HZ, np.int16),
        tone(1000, 0.4),
        np.zeros(CLOCK_RATE_HZ, np.int16),
    ]
)


def test_turns(agent: AgentProcess) -> None:
    """What the caller says and what comes back are turns as long as the sounds were, in order, with their metrics."""
    with Peer(agent) as peer, RtpPeer(BEEPS) as rtp:
        response = peer.invite("echo", sdp=peer.offer(port=rtp.port))
        rtp.send_to(audio_address(response.body))
        eventually(lambda: len(rtp.packets) >= 165, "sound of the agent")
        assert peer.bye().status == 200
        record = agent.record(peer.call_id)
    turns = record["turns"]
    lengths_ms = [turn["ended_ms"] - turn["started_ms"] for turn in turns]
    delays_ms = [turns[number + 1]["started_ms"] - turns[number]["started_ms"] for number in (0, 2)]

    assert ["caller", "agent", "caller", "agent"] == [turn["speaker"] for turn in turns]
    assert [600, 600, 400, 400] == pytest.approx(lengths_ms, abs=40)
    assert all(10 <= delay_ms <= 80 for delay_ms in delays_ms)
    assert {"by_caller": 0, "by_agent": 2} == record["metrics"]["interruptions"]
    assert 0.5 == pytest.approx(record["metrics"]["talk_ratio"], abs=0.05)
    assert turns[1]["started_ms"] == record["metrics"]["time_to_first_audio_ms"]
    assert 0 <= record["talk_ms"] - turns[-1]["ended_ms"]


@pytest.mark.parametrize("ending", [AgentProcess.kill, AgentProcess.stop])
def test_no_process_is_left(start_agent: StartAgent, ending: Callable[[AgentProcess], None]) -> None:
    """However the agent ends, the process that measures ends with it."""
    agent = start_agent()
    with Peer(agent) as peer, RtpPeer(BEEPS) as rtp:
        response = peer.invite("echo", sdp=peer.offer(port=rtp.port))
        rtp.send_to(audio_address(response.body))
        eventually(lambda: len(rtp.packets) >= 10, "sound of the agent")
        peer.bye()
        agent.record(peer.call_id)
    (analyst,) = _children(agent.pid)
    ending(agent)

    eventually(lambda: not Path(f"/proc/{analyst}").exists(), "the end of the process that measures")


def test_the_process_is_killed(agent: AgentProcess) -> None:
    """A kernel that is out of memory may take the process that measures; the next call is measured all the same."""
    records = []
    for _ in range(2):
        with Peer(agent) as peer, RtpPeer(BEEPS) as rtp:
            response = peer.invite("echo", sdp=peer.offer(port=rtp.port))
            rtp.send_to(audio_address(response.body))
            eventually(lambda: len(rtp.packets) >= 50, "sound of the agent")
            assert peer.bye().status == 200
            records.append(agent.record(peer.call_id))
        (analyst,) = _children(agent.pid)
        os.kill(analyst, signal.SIGKILL)
        eventually(lambda: not _children(agent.pid), "the end of the process that measures")

    assert [("answered", None)] * 2 == [(record["outcome"], record["error"]) for record in records]
    assert [[], []] == [[name for name in record["metrics"] if name == "error"] for record in records]


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]
