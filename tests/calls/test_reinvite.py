"""What changes in the middle of a call: hold, codec, target, timers; and reliable provisional responses."""

import numpy as np
import pytest
import soundfile

from tests.calls.agent_process import AgentProcess, eventually
from tests.calls.peer import Peer
from tests.calls.rtp import RtpPeer
from tests.calls.sdp_text import audio_address, direction
from tests.calls.sipp import Sipp

pytestmark = pytest.mark.sipp

FRAME = 16_000 // 50
"""Samples of 20 ms in a recording."""

REINVITE = ["INVITE", "200", "ACK"]


@pytest.mark.parametrize(
    ("hold", "answered_by"),
    [("held", "recvonly"), ("inactive", "inactive"), ("held_by_address", "sendrecv")],
)
def test_hold_and_resume(agent: AgentProcess, sipp: Sipp, hold: str, answered_by: str) -> None:
    """A held call is answered in the opposite direction, and goes on after it is resumed.

    A hold by the address 0.0.0.0 says nothing of direction (RFC 3264 §8.4).
    """
    run = sipp("hold_and_resume", agent, hold=hold)
    assert run.exit_status == 0, run.output
    assert run.ladder == ["INVITE", "100", "200", "ACK", *REINVITE, *REINVITE, "BYE", "200"]
    answers = [message.body for message in run.messages if message.status == 200 and message.method == "INVITE"]
    assert [direction(answer) for answer in answers] == ["sendrecv", answered_by, "sendrecv"]
    record = agent.record(run.call_id)
    assert (record["outcome"], record["ended_by"], record["codec"]) == ("answered", "caller", "PCMA")
    held = [entry["on_hold"] for entry in agent.entries("call.media_changed", call_uuid=record["call_uuid"])]
    assert held == [False, True, False]


def test_the_echo_goes_on_after_a_hold(agent: AgentProcess) -> None:
    """Nothing is sent to a caller who holds the call with `inactive`; the sound comes back with the resumption."""
    with Peer(agent) as peer, RtpPeer() as rtp:
        response = peer.invite(sdp=peer.offer(port=rtp.port))
        rtp.send_to(audio_address(response.body))
        eventually(lambda: len(rtp.packets) > 25, "sound before the hold")
        peer.reinvite(peer.offer(port=rtp.port, extra="a=inactive\r\n"))
        rtp.send_to(None)
        before = len(rtp.packets)
        eventually(lambda: peer.is_silent(0.3), "end of the hold")
        during = len(rtp.packets) - before
        response = peer.reinvite(peer.offer(port=rtp.port))
        rtp.send_to(audio_address(response.body))
        resumed = len(rtp.packets)
        eventually(lambda: len(rtp.packets) > resumed + 25, "sound after the hold")
        peer.bye()
        call_id = peer.call_id
    assert during <= 3
    assert agent.record(call_id)["outcome"] == "answered"


def test_what_is_said_waits_for_the_end_of_a_hold(agent: AgentProcess) -> None:
    """A caller who held the call has missed nothing, and the recording has what was heard, when it was."""
    with Peer(agent) as peer, RtpPeer() as rtp:
        response = peer.invite("two_seconds", sdp=peer.offer(port=rtp.port))
        rtp.send_to(audio_address(response.body))
        eventually(lambda: len(rtp.packets) > 25, "sound before the hold")
        peer.reinvite(peer.offer(port=rtp.port, extra="a=inactive\r\n"))
        eventually(lambda: peer.is_silent(1), "end of the hold")
        peer.reinvite(peer.offer(port=rtp.port))
        peer.reply(peer.await_request("BYE", 15))
        record = agent.record(peer.call_id)

    said, _ = soundfile.read(record["recording"]["path"], dtype="int16")
    frames = said[: len(said) // FRAME * FRAME, 1].reshape(-1, FRAME)
    loud = np.flatnonzero(np.abs(frames).max(axis=1) > 500)
    assert 100 == pytest.approx(len(loud), abs=2)
    assert np.max(np.diff(loud)) > 45
    assert 0 == record["audio"]["underruns"]


def test_the_caller_moves(agent: AgentProcess) -> None:
    """A re-INVITE from a caller who moved to another RTP address takes the sound there."""
    with Peer(agent) as peer, RtpPeer() as old, RtpPeer() as new:
        response = peer.invite("tone", sdp=peer.offer(port=old.port))
        old.send_to(audio_address(response.body))
        eventually(lambda: len(old.packets) > 10, "sound at the first address")
        old.send_to(None)
        response = peer.reinvite(peer.offer(port=new.port))
        new.send_to(audio_address(response.body))
        eventually(lambda: len(new.packets) > 10, "sound at the second address")
        peer.bye()


@pytest.mark.parametrize(("codec", "name"), [("pcmu", "PCMU"), ("g722", "G722"), ("opus", "opus")])
def test_codec_change(agent: AgentProcess, sipp: Sipp, codec: str, name: str) -> None:
    """A re-INVITE with another codec is answered with it; the record names the last one."""
    run = sipp("codec_change", agent, codec=codec)
    assert run.ladder == ["INVITE", "100", "200", "ACK", *REINVITE, "BYE", "200"]
    record = agent.record(run.call_id)
    changes = [entry["codec"] for entry in agent.entries("call.media_changed", call_uuid=record["call_uuid"])]
    assert changes == ["PCMA", name]
    assert (record["outcome"], record["codec"]) == ("answered", name)
    assert record["rtp"]["rx"]["packets"] > 5


def test_a_reinvite_that_cannot_be_met_leaves_the_call_as_it_was(agent: AgentProcess) -> None:
    """A re-INVITE with a codec that nobody has gets 488, and the call goes on (RFC 3261 §14.2)."""
    with Peer(agent) as peer, RtpPeer() as rtp:
        response = peer.invite(sdp=peer.offer(port=rtp.port))
        rtp.send_to(audio_address(response.body))
        refused = peer.reinvite(peer.offer(port=rtp.port, codec="18 G729/8000").replace(" 101", ""))
        before = len(rtp.packets)
        eventually(lambda: len(rtp.packets) > before + 25, "sound after the refusal")
        assert peer.bye().status == 200
        call_id = peer.call_id
    assert refused.status == 488
    record = agent.record(call_id)
    assert (record["outcome"], record["sip_status"], record["ended_by"]) == ("answered", 200, "caller")


def test_reinvite_without_offer(agent: AgentProcess, sipp: Sipp) -> None:
    """A re-INVITE without SDP gets an offer in its 200 (RFC 3261 §14.2)."""
    run = sipp("reinvite_without_offer", agent)
    assert run.ladder == ["INVITE", "100", "200", "ACK", *REINVITE, "BYE", "200"]
    assert agent.record(run.call_id)["outcome"] == "answered"


def test_update(agent: AgentProcess, sipp: Sipp) -> None:
    """UPDATE holds and resumes as a re-INVITE does."""
    run = sipp("update", agent)
    assert run.ladder == ["INVITE", "100", "200", "ACK", "UPDATE", "200", "UPDATE", "200", "BYE", "200"]
    record = agent.record(run.call_id)
    held = [entry["on_hold"] for entry in agent.entries("call.media_changed", call_uuid=record["call_uuid"])]
    assert held == [False, True, False]


@pytest.mark.parametrize(("user", "provisional"), [("rings", "180"), ("early", "183")])
def test_prack(agent: AgentProcess, sipp: Sipp, user: str, provisional: str) -> None:
    """With `Require: 100rel` the provisional response is reliable, and the 200 follows its PRACK."""
    run = sipp("prack", agent, user=user, provisional=provisional)
    assert run.exit_status == 0, run.output
    assert run.ladder == ["INVITE", "100", provisional, "PRACK", "200", "200", "ACK", "BYE", "200"]
    assert "100rel" in run.response(int(provisional)).header("Require")
    assert agent.record(run.call_id)["outcome"] == "answered"


def test_session_timer(agent: AgentProcess, sipp: Sipp) -> None:
    """A session timer that the caller offers is agreed, and its refreshes are answered."""
    run = sipp("session_timer", agent)
    assert run.ladder == ["INVITE", "100", "200", "ACK", "UPDATE", "200", "BYE", "200"]
    assert "90;refresher=uac" == run.response(200).header("Session-Expires")
    assert "90;refresher=uac" == run.response(200, "UPDATE").header("Session-Expires")


def test_a_session_interval_that_is_too_small(agent: AgentProcess) -> None:
    """A session interval below 90 s gets 422 with the least one (RFC 4028 §9)."""
    with Peer(agent) as peer:
        response = peer.invite(headers=["Supported: timer", "Session-Expires: 30;refresher=uac"])
        call_id = peer.call_id
    assert (response.status, response.header("Min-SE")) == (422, "90")
    record = agent.record(call_id)
    assert (record["outcome"], record["sip_status"]) == ("rejected", 422)


def test_an_unknown_extension_is_refused(agent: AgentProcess) -> None:
    """`Require` of an extension that nobody knows gets 420 that names it (RFC 3261 §8.2.2.3)."""
    with Peer(agent) as peer:
        response = peer.invite(headers=["Require: telepathy"])
        call_id = peer.call_id
    assert (response.status, response.header("Unsupported")) == (420, "telepathy")
    assert agent.record(call_id)["sip_status"] == 420
