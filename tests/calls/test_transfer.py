"""Transfers on real calls: what the REFER says, and what becomes of a call whose caller takes it or does not."""

from pathlib import Path
from typing import Any

import pytest

from tests.calls.agent_process import AgentProcess
from tests.calls.conftest import StartAgent, dial
from tests.calls.messages import Message
from tests.calls.peer import Peer

TARGET = "sip:desk@127.0.0.1;transport=tcp"

TRIES = """
steps:
  - answer
  - transfer: sip:desk@127.0.0.1;transport=tcp
"""


@pytest.fixture
def agent(start_agent: StartAgent, tmp_path: Path) -> AgentProcess:
    """Run an agent whose script transfers every caller."""
    (tmp_path / "transfer.yaml").write_text(TRIES)
    return start_agent(routes=[dial("transfer", "script", file=str(tmp_path / "transfer.yaml"))])


def referred(peer: Peer) -> Message:
    """Call the script and return the REFER that it sends."""
    assert 200 == peer.invite("transfer").status
    return peer.await_request("REFER")


def ended_by_agent(peer: Peer, agent: AgentProcess) -> dict[str, Any]:
    """Wait for the BYE, answer it, and return the record."""
    peer.reply(peer.await_request("BYE"))
    return agent.record(peer.call_id)


def test_taken(agent: AgentProcess) -> None:
    """The caller is asked for one URI, its parameters included, and its BYE is the end of a good call."""
    with Peer(agent) as peer:
        refer = referred(peer)
        peer.reply(refer, 202, "Accepted")
        assert 200 == peer.bye().status
        record = agent.record(peer.call_id)

    assert f"<{TARGET}>" == refer.header("Refer-To")
    assert ("answered", None, "caller") == (record["outcome"], record["error"], record["ended_by"])


def test_refused(agent: AgentProcess) -> None:
    """A REFER that is refused fails the script at its line, at once, and the record says how."""
    with Peer(agent) as peer:
        peer.reply(referred(peer), 603, "Decline")
        record = ended_by_agent(peer, agent)

    error = "script transfer.yaml, line 4: transfer: transfer: the REFER was refused: 603 Decline"
    assert ("failed", error) == (record["outcome"], record["error"])
    assert record["talk_ms"] < 5000


def test_not_answered(agent: AgentProcess) -> None:
    """A caller that says nothing to the REFER has not taken it."""
    with Peer(agent) as peer:
        referred(peer)
        peer.reply(peer.await_request("BYE", 15))
        record = agent.record(peer.call_id)

    assert record["error"].endswith("transfer: the REFER was not answered within 10 s")


def test_hung_up_meanwhile(agent: AgentProcess) -> None:
    """A caller that hangs up instead of answering the REFER is no failure."""
    with Peer(agent) as peer:
        referred(peer)
        assert 200 == peer.bye().status
        record = agent.record(peer.call_id)

    assert ("answered", None, "caller") == (record["outcome"], record["error"], record["ended_by"])
