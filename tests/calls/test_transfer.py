"""Transfers on real calls: what the REFER says, and what becomes of a call whose caller takes it or does not."""

import socket
from pathlib import Path
from typing import Any

import pytest

from tests.calls.agent_process import AgentProcess
from tests.calls.conftest import StartAgent, dial
from tests.calls.messages import Message
from tests.calls.peer import Peer

TARGET = "sip:desk@127.0.0.1;transport=tcp"

SCRIPT = """
steps:
  - answer
  - transfer: "{X-Target}"
"""

SCRIPT_WITH_TOOL = """
steps:
  - tool: tests.calls.handlers:two_lines
    as: t
  - transfer: "{t.uri}"
"""


@pytest.fixture
def agent(start_agent: StartAgent, tmp_path: Path) -> AgentProcess:
    """Run an agent whose script transfers every caller to whom the INVITE's X-Target names, or a tool."""
    script, with_tool = tmp_path / "transfer.yaml", tmp_path / "tool.yaml"
    script.write_text(SCRIPT)
    with_tool.write_text(SCRIPT_WITH_TOOL)
    return start_agent(
        routes=[
            dial("transfer", "script", file=str(script)),
            dial("tool", "script", file=str(with_tool)),
            dial("injects", "tests.calls.handlers:TwoLines"),
            dial("echo"),
        ]
    )


def referred(peer: Peer) -> Message:
    """Call the script and return the REFER that it sends."""
    assert 200 == peer.invite("transfer", headers=[f"X-Target: {TARGET}"]).status
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
    assert [100] == [transfer["status"] for transfer in record["transfers"]]
    assert ("answered", None, "caller") == (record["outcome"], record["error"], record["ended_by"])


def report(peer: Peer, refer: Message, status_line: str, state: str) -> None:
    """Say how the call to whom the agent sent us goes (NOTIFY, RFC 3515 §2.4.5)."""
    told = peer.request(
        "NOTIFY",
        headers=[f"Event: refer;id={refer.header('CSeq').split()[0]}", f"Subscription-State: {state}"],
        content_type="message/sipfrag;version=2.0",
        body=f"SIP/2.0 {status_line}\r\n",
    )
    assert 200 == told.status


def test_got_through(agent: AgentProcess) -> None:
    """A caller who says that it got through needs us no longer: the agent hangs up, and the record says it."""
    with Peer(agent) as peer:
        refer = referred(peer)
        peer.reply(refer, 202, "Accepted")
        report(peer, refer, "100 Trying", "active;expires=60")
        report(peer, refer, "200 OK", "terminated;reason=noresource")
        record = ended_by_agent(peer, agent)

    (transfer,) = record["transfers"]
    assert (TARGET, 200, "OK") == (transfer["uri"], transfer["status"], transfer["reason"])
    assert ("answered", None) == (record["outcome"], record["error"])


def test_did_not_get_through(agent: AgentProcess) -> None:
    """A caller who says that it did not fails the script, in its line, and the record says with what."""
    with Peer(agent) as peer:
        refer = referred(peer)
        peer.reply(refer, 202, "Accepted")
        report(peer, refer, "486 Busy Here", "terminated;reason=noresource")
        record = ended_by_agent(peer, agent)

    error = f"script transfer.yaml, line 4: transfer: the other side did not reach {TARGET}: 486"
    assert ("failed", error) == (record["outcome"], record["error"])
    assert [(486, "Busy Here")] == [(transfer["status"], transfer["reason"]) for transfer in record["transfers"]]


def test_a_transfer_that_the_caller_wants(agent: AgentProcess) -> None:
    """Whom we call is not for a caller to say: its REFER is refused, nobody is called, and the call goes on."""
    with Peer(agent) as peer, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as victim:
        victim.bind(("127.0.0.1", 0))
        assert 200 == peer.invite("echo").status
        refused = peer.request("REFER", headers=[f"Refer-To: <sip:x@127.0.0.1:{victim.getsockname()[1]}>"])
        assert refused.status in {405, 603}
        assert "REFER" not in refused.header("Allow")
        assert 200 == peer.bye().status
        assert "answered" == agent.record(peer.call_id)["outcome"]
        victim.setblocking(False)
        with pytest.raises(BlockingIOError):
            victim.recv(1)


def test_a_call_that_wants_the_place_of_another(agent: AgentProcess) -> None:
    """An INVITE with Replaces (RFC 3891) is refused and recorded; the call that it names goes on."""
    with Peer(agent) as first, Peer(agent) as second:
        assert 200 == first.invite("echo").status
        replaces = f"Replaces: {first.call_id};to-tag={first.to_tag};from-tag={first.tag}"
        assert 603 == second.invite("echo", headers=[replaces]).status
        assert ("rejected", 603) == tuple(agent.record(second.call_id)[key] for key in ("outcome", "sip_status"))
        assert 200 == first.bye().status
        assert "answered" == agent.record(first.call_id)["outcome"]


def test_refused(agent: AgentProcess) -> None:
    """A REFER that is refused fails the script at its line, at once, and the record says how."""
    with Peer(agent) as peer:
        peer.reply(referred(peer), 603, "Decline")
        record = ended_by_agent(peer, agent)

    error = "script transfer.yaml, line 4: transfer: transfer: the REFER was refused: 603 Decline"
    assert ("failed", error) == (record["outcome"], record["error"])
    assert [603] == [transfer["status"] for transfer in record["transfers"]]
    assert record["talk_ms"] < 5000


def test_not_answered(agent: AgentProcess) -> None:
    """A caller that says nothing to the REFER has not taken it."""
    with Peer(agent) as peer:
        referred(peer)
        peer.reply(peer.await_request("BYE", 15))
        record = agent.record(peer.call_id)

    assert record["error"].endswith("transfer: the REFER was not answered within 10 s")
    assert [None] == [transfer["status"] for transfer in record["transfers"]]


def test_hung_up_meanwhile(agent: AgentProcess) -> None:
    """A caller that hangs up instead of answering the REFER is no failure."""
    with Peer(agent) as peer:
        referred(peer)
        assert 200 == peer.bye().status
        record = agent.record(peer.call_id)

    assert ("answered", None, "caller") == (record["outcome"], record["error"], record["ended_by"])


def test_no_line_of_its_own(agent: AgentProcess) -> None:
    """A tool's answer with a line end in it adds no header to a REFER: none is sent, and the script fails."""
    with Peer(agent) as peer:
        assert 200 == peer.invite("tool").status
        record = ended_by_agent(peer, agent)

    assert not [message for message in peer.seen if message.start_line.startswith("REFER")]
    assert record["error"].startswith("script tool.yaml, line 5: transfer: nobody can be called by 'sip:x@127.0.0.1")


def test_no_line_of_its_own_in_a_response(agent: AgentProcess) -> None:
    """Nor does the value of a header that a handler gives: its call fails instead."""
    with Peer(agent) as peer:
        response = peer.invite("injects")
        record = agent.record(peer.call_id)

    assert (500, []) == (response.status, response.headers("X-Evil"))
    assert "the value of X-Agent has control characters" in record["error"]
