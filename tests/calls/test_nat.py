"""Callers behind NAT, and an agent behind NAT: addresses in the messages are not where the packets come from."""

from tests.calls.agent_process import AgentProcess, eventually
from tests.calls.conftest import StartAgent
from tests.calls.peer import Peer
from tests.calls.rtp import RtpPeer
from tests.calls.sdp_text import audio_address
from tests.ports import free_rtp_range

PUBLIC = "203.0.113.7"


def test_rport(agent: AgentProcess) -> None:
    """A response goes to where the request came from, and says so (RFC 3581), whatever the Via claims."""
    with Peer(agent) as peer:
        via = f"Via: SIP/2.0/UDP 192.0.2.1:5999;branch=z9hG4bKnat{peer.tag};rport"
        peer.send(peer.build("OPTIONS", via=via))
        response = peer.final("OPTIONS")
        assert f"rport={peer.port}" in response.header("Via")
        assert "received=127.0.0.1" in response.header("Via")


def test_a_contact_that_cannot_be_reached(agent: AgentProcess) -> None:
    """The agent's BYE reaches a caller whose Contact is a private address."""
    with Peer(agent) as peer:
        peer.user = "hang_up"
        branch = f"z9hG4bKcontact{peer.tag}"
        contact = "Contact: <sip:peer@10.255.255.1:5060>"
        peer.send(peer.build("INVITE", body=peer.offer(), branch=branch, contact=contact))
        peer.acknowledge(peer.final("INVITE"), branch)
        peer.reply(peer.await_request("BYE"))
        call_id = peer.call_id
    record = agent.record(call_id)
    assert (record["outcome"], record["ended_by"]) == ("answered", "agent")


def test_symmetric_rtp(agent: AgentProcess) -> None:
    """Sound goes to where the caller's sound comes from, not to the port that its SDP names."""
    with Peer(agent) as peer, RtpPeer() as rtp:
        response = peer.invite(sdp=peer.offer(port=9))
        rtp.send_to(audio_address(response.body))
        eventually(lambda: len(rtp.packets) > 25, "echo at the port that the sound comes from")
        peer.bye()
        call_id = peer.call_id
    assert agent.record(call_id)["rtp"]["rx"]["packets"] > 25


def test_symmetric_rtp_from_an_address_behind_nat(agent: AgentProcess) -> None:
    """A caller whose SDP names a private address is heard and hears."""
    with Peer(agent) as peer, RtpPeer() as rtp:
        response = peer.invite(sdp=peer.offer(port=rtp.port, host="10.255.255.1"))
        rtp.send_to(audio_address(response.body))
        eventually(lambda: len(rtp.packets) > 25, "echo at the address that the sound comes from")
        peer.bye()


def test_public_address(start_agent: StartAgent) -> None:
    """Contact and SDP show public_address, over UDP and TCP, while the agent listens on its own address."""
    agent = start_agent(sip={"public_address": PUBLIC})
    for transport in ("UDP", "TCP"):
        with Peer(agent, transport) as peer:
            response = peer.invite()
            assert PUBLIC in response.header("Contact"), transport
            assert f"c=IN IP4 {PUBLIC}" in response.body, transport
            assert "127.0.0.1" not in response.body, transport
            assert peer.bye().status == 200
            assert agent.record(peer.call_id)["outcome"] == "answered"


def test_public_media_address(start_agent: StartAgent) -> None:
    """media.public_address shows in SDP alone."""
    agent = start_agent(media={"public_address": PUBLIC})
    with Peer(agent) as peer:
        response = peer.invite()
        assert PUBLIC not in response.header("Contact")
        assert f"c=IN IP4 {PUBLIC}" in response.body
        assert peer.bye().status == 200


def test_rtp_ports(start_agent: StartAgent) -> None:
    """RTP takes even ports of the range that the settings name, each call its own, and gives them back."""
    first, last = free_rtp_range(16)
    agent = start_agent(media={"rtp_ports": [first, last]})
    used: list[int] = []
    for _ in range(3):
        with Peer(agent) as one, Peer(agent) as other:
            ports = [audio_address(peer.invite().body)[1] for peer in (one, other)]
            assert len(set(ports)) == 2
            used += ports
            assert [one.bye().status, other.bye().status] == [200, 200]
            agent.record(one.call_id)
            agent.record(other.call_id)
    assert all(first <= port < last for port in used), (first, last, used)
    assert {port % 2 for port in used} == {0}


def test_a_range_that_is_used_up(start_agent: StartAgent) -> None:
    """A call that finds no RTP port is refused, recorded, and harms no other."""
    first, last = free_rtp_range(4)
    agent = start_agent(media={"rtp_ports": [first, last]})
    with Peer(agent) as one, Peer(agent) as two, Peer(agent) as three:
        assert [one.invite().status, two.invite().status] == [200, 200]
        refused = three.invite()
        assert refused.status >= 400
        record = agent.record(three.call_id)
        assert record["sip_status"] == refused.status
        assert record["outcome"] in {"rejected", "failed"}
        assert one.bye().status == 200
        agent.record(one.call_id)
        three.new_dialog()
        assert three.invite().status == 200
        assert [two.bye().status, three.bye().status] == [200, 200]
