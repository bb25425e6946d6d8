"""What the agent does about callers who vanish; the protocol's own time-outs, of 32 s, all run at once."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.calls.agent_process import AgentProcess, eventually
from tests.calls.conftest import StartAgent
from tests.calls.peer import Peer
from tests.calls.rtp import RtpPeer
from tests.calls.sdp_text import audio_address
from tests.ports import free_port

GIVEN_UP_S = 45.0
"""64*T1 is 32 s (RFC 3261 §13.3.1.4); the record follows, at the next housekeeping at the latest."""


@dataclass(frozen=True, kw_only=True)
class Vanished:
    """Two callers who began something and were never heard of again."""

    agent: AgentProcess
    unacknowledged: Peer
    challenged: Peer


@pytest.fixture(scope="module")
def vanished(agent_folders: Iterator[Path]) -> Iterator[Vanished]:
    """Leave a 200 without ACK and a 401 without an answer."""
    nobody = f"sip:127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    settings = {
        "auth": {"users": {"cekura": "secret"}},
        "accounts": [{"name": "trunk", "username": "1001", "registrar": nobody}],
    }
    with ExitStack() as resources:
        agent = resources.enter_context(AgentProcess(next(agent_folders), {}))
        guarded = resources.enter_context(AgentProcess(next(agent_folders), settings))
        unacknowledged = resources.enter_context(Peer(agent))
        unacknowledged.send(unacknowledged.build("INVITE", body=unacknowledged.offer()))
        assert unacknowledged.final("INVITE").status == 200
        challenged = resources.enter_context(Peer(guarded))
        assert challenged.invite().status == 401
        yield Vanished(agent=agent, unacknowledged=unacknowledged, challenged=challenged)


def test_a_200_is_repeated_until_nobody_can_want_it(vanished: Vanished) -> None:
    """A 200 without ACK is repeated in growing intervals, then the agent hangs up and records the call."""
    peer = vanished.unacknowledged
    bye = peer.await_request("BYE", GIVEN_UP_S)
    peer.reply(bye)
    repeated = [message for message in peer.seen if message.status == 200]
    assert 8 <= len(repeated) <= 12
    record = vanished.agent.record(peer.call_id)
    told = (record["outcome"], record["ended_by"], record["setup_ms"], record["sip_status"])
    assert told == ("answered", "system", None, 200)
    assert record["end_reason"]


def test_a_challenge_that_is_not_answered_is_a_refusal(vanished: Vanished) -> None:
    """A caller who does not come back after the 401 is recorded as rejected with it."""
    peer = vanished.challenged
    record = peer.agent.record(peer.call_id, GIVEN_UP_S)
    told = (record["outcome"], record["sip_status"], record["auth_user"], record["end_reason"])
    assert told == ("rejected", 401, None, "the challenge was not answered")


def test_a_registrar_that_does_not_answer(vanished: Vanished) -> None:
    """A registrar that never answers is reported as such, and nothing else suffers."""
    agent = vanished.challenged.agent

    def look() -> list[dict[str, object]]:
        return agent.entries("account.registration", account="trunk", registered=False)

    (entry, *_) = eventually(look, "failed registration", GIVEN_UP_S)
    assert entry["status"] == 408


def test_a_caller_who_falls_silent(start_agent: StartAgent) -> None:
    """A call without RTP is ended by the agent after rtp_timeout."""
    agent = start_agent(media={"rtp_timeout": "1s"})
    with Peer(agent) as peer, RtpPeer() as rtp:
        response = peer.invite(sdp=peer.offer(port=rtp.port))
        rtp.send_to(audio_address(response.body))
        eventually(lambda: len(rtp.packets) > 10, "sound")
        rtp.send_to(None)
        peer.reply(peer.await_request("BYE"))
        call_id = peer.call_id
    record = agent.record(call_id)
    told = (record["outcome"], record["ended_by"], record["end_reason"])
    assert told == ("answered", "system", "no RTP for 1 s")


def test_a_caller_who_never_sends_sound(start_agent: StartAgent) -> None:
    """A call that never had RTP is ended as well."""
    agent = start_agent(media={"rtp_timeout": "1s"})
    with Peer(agent) as peer:
        peer.invite()
        peer.reply(peer.await_request("BYE"))
        call_id = peer.call_id
    assert agent.record(call_id)["end_reason"] == "no RTP for 1 s"


@pytest.mark.parametrize("hold", ["sendonly", "inactive"])
def test_a_held_call_may_be_silent(start_agent: StartAgent, hold: str) -> None:
    """A caller who holds the call is not taken for vanished; after the resumption the time-out counts again."""
    agent = start_agent(media={"rtp_timeout": "1s"})
    with Peer(agent) as peer, RtpPeer() as rtp:
        response = peer.invite(sdp=peer.offer(port=rtp.port))
        rtp.send_to(audio_address(response.body))
        eventually(lambda: len(rtp.packets) > 10, "sound")
        rtp.send_to(None)
        assert peer.reinvite(peer.offer(port=rtp.port, extra=f"a={hold}\r\n")).status == 200
        assert peer.is_silent(2.5)
        assert peer.reinvite(peer.offer(port=rtp.port)).status == 200
        peer.reply(peer.await_request("BYE"))
        call_id = peer.call_id
    assert agent.record(call_id)["end_reason"] == "no RTP for 1 s"


def test_the_longest_call(start_agent: StartAgent) -> None:
    """A call is ended by the agent after max_duration, however lively it is."""
    agent = start_agent(admission={"max_duration": "1s"})
    with Peer(agent) as peer, RtpPeer() as rtp:
        response = peer.invite(sdp=peer.offer(port=rtp.port))
        rtp.send_to(audio_address(response.body))
        peer.reply(peer.await_request("BYE"))
        call_id = peer.call_id
    record = agent.record(call_id)
    assert (record["outcome"], record["ended_by"], record["error"]) == ("answered", "system", None)
    assert "max_duration" in record["end_reason"]
    assert 900 <= record["talk_ms"] <= 2500


def test_a_bye_that_nobody_answers(start_agent: StartAgent) -> None:
    """A caller who vanished before the agent hangs up does not keep the call from being recorded."""
    agent = start_agent(admission={"max_duration": "1s"})
    with Peer(agent) as peer:
        peer.invite()
        peer.await_request("BYE")
        record = agent.record(peer.call_id, timeout_s=15)
    assert (record["outcome"], record["ended_by"]) == ("answered", "system")


def test_a_tcp_caller_whose_connection_breaks(agent: AgentProcess) -> None:
    """A call whose TCP connection is gone can still be ended, and is recorded when the sound stops."""
    with Peer(agent, "TCP") as peer:
        assert peer.invite("hang_up").status == 200
        call_id = peer.call_id
    record = agent.record(call_id, timeout_s=15)
    assert record["outcome"] == "answered"
