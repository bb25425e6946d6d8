"""Calls that are answered: transports, codecs, SDP in every direction, early media, digits."""

from itertools import groupby

import pytest

from tests.calls.agent_process import AgentProcess, eventually
from tests.calls.conftest import StartAgent
from tests.calls.handlers import MANY_DIGITS
from tests.calls.peer import Peer
from tests.calls.rtp import CLOCK_RATE_HZ, RtpPeer, strongest_hz
from tests.calls.sdp_text import audio_address
from tests.calls.sipp import Sipp

pytestmark = pytest.mark.sipp

ANSWERED = ["INVITE", "100", "200", "ACK", "BYE", "200"]


@pytest.mark.parametrize(("transport", "name"), [("u1", "UDP"), ("t1", "TCP")])
def test_a_call_is_answered_and_recorded(agent: AgentProcess, sipp: Sipp, transport: str, name: str) -> None:
    """A call is answered over each transport, and its record says who called, how, and how it ended."""
    run = sipp("talk", agent, transport=transport, headers="X-Run-Id: 4711")
    assert run.exit_status == 0, run.output
    assert run.ladder == ANSWERED
    record = agent.record(run.call_id)
    told = {key: record[key] for key in ("transport", "run_id", "handler", "outcome", "sip_status", "ended_by")}
    assert told == {
        "transport": name,
        "run_id": "4711",
        "handler": "echo",
        "outcome": "answered",
        "sip_status": 200,
        "ended_by": "caller",
    }
    assert record["rtp"]["rx"]["packets"] > 5
    assert record["rtp"]["tx"]["packets"] > 5


@pytest.mark.parametrize(("transport", "name"), [("u1", "UDP"), ("t1", "TCP")])
def test_ipv6(start_agent: StartAgent, sipp: Sipp, transport: str, name: str) -> None:
    """An agent bound to ::1 answers there, with IPv6 in Contact and SDP."""
    agent = start_agent(host="::1")
    run = sipp("talk", agent, transport=transport)
    assert run.ladder == ANSWERED
    answer = run.response(200)
    assert "IN IP6 ::1" in answer.body
    assert f"@[::1]:{agent.udp_port if name == 'UDP' else agent.tcp_port}" in answer.header("Contact")
    record = agent.record(run.call_id)
    assert (record["transport"], record["outcome"]) == (name, "answered")
    assert record["source_address"].startswith("[::1]:")
    assert record["rtp"]["rx"]["packets"] > 5


def test_tls(start_agent: StartAgent, tls_files: dict[str, str]) -> None:
    """A call over TLS is answered, and its record says so."""
    agent = start_agent(sip={"tls": tls_files})
    with Peer(agent, "TLS") as peer:
        response = peer.invite()
        assert peer.bye().status == 200
        call_id = peer.call_id
    assert [message.status for message in peer.seen] == [100, 200, 200]
    assert "transport=TLS" in response.header("Contact").replace("tls", "TLS")
    record = agent.record(call_id)
    assert (record["transport"], record["outcome"]) == ("TLS", "answered")


@pytest.mark.parametrize(
    ("sdp", "codec", "clock_rate_hz"),
    [("pcmu", "PCMU", 8000), ("pcma", "PCMA", 8000), ("g722", "G722", 16000), ("opus", "opus", 48000)],
)
def test_codecs(agent: AgentProcess, sipp: Sipp, sdp: str, codec: str, clock_rate_hz: int) -> None:
    """Each codec is agreed when it is the only one offered, and telephone-event with it."""
    run = sipp("call", agent, sdp=sdp)
    assert run.ladder == ANSWERED
    answer = run.response(200).body
    assert f" {codec}/" in answer
    assert "telephone-event" in answer
    record = agent.record(run.call_id)
    assert (record["codec"], record["clock_rate_hz"]) == (codec, clock_rate_hz)


@pytest.mark.parametrize("srtp", ["optional", "mandatory"])
def test_srtp_is_agreed(start_agent: StartAgent, sipp: Sipp, srtp: str) -> None:
    """An offer of RTP/SAVP with SDES keys is answered in kind, and the record names the protection."""
    agent = start_agent(media={"srtp": srtp})
    run = sipp("call", agent, sdp="srtp")
    assert run.ladder == ANSWERED
    answer = run.response(200).body
    assert "RTP/SAVP " in answer
    assert "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" in answer
    assert agent.record(run.call_id)["srtp"] == "AES_CM_128_HMAC_SHA1_80"
    plain = sipp("refused" if srtp == "mandatory" else "call", agent, status="488")
    record = agent.record(plain.call_id)
    assert record["sip_status"] == (488 if srtp == "mandatory" else 200)
    assert record["srtp"] is None


def test_srtp_that_nobody_asked_for(agent: AgentProcess, sipp: Sipp) -> None:
    """An agent whose SRTP is off refuses an offer of nothing but RTP/SAVP with 488."""
    run = sipp("refused", agent, sdp="srtp", status="488")
    assert [step for step in run.ladder if step != "100"] == ["INVITE", "488", "ACK"]
    record = agent.record(run.call_id)
    assert (record["outcome"], record["sip_status"]) == ("rejected", 488)


def test_the_echo_is_heard(agent: AgentProcess) -> None:
    """What the caller says comes back as the same sound, without a gap."""
    with Peer(agent) as peer, RtpPeer() as rtp:
        response = peer.invite(sdp=peer.offer(port=rtp.port))
        rtp.send_to(audio_address(response.body))
        eventually(lambda: len(rtp.packets) > 75, "second and a half of sound")
        peer.bye()
    second = rtp.heard()[-CLOCK_RATE_HZ:]
    assert 1000.0 == pytest.approx(strongest_hz(second, CLOCK_RATE_HZ), abs=10)
    assert [packet.sequence for packet in rtp.packets] == [
        (rtp.packets[0].sequence + index) % 65_536 for index in range(len(rtp.packets))
    ]


def test_late_offer(agent: AgentProcess, sipp: Sipp) -> None:
    """An INVITE without SDP gets the agent's offer with every codec; the ACK's answer decides."""
    run = sipp("late_offer", agent)
    assert run.ladder == ANSWERED
    offer = run.response(200).body
    offered = [codec for codec in ("PCMU", "PCMA", "G722", "opus") if f" {codec}/" in offer]
    assert offered == ["PCMU", "PCMA", "G722", "opus"]
    record = agent.record(run.call_id)
    assert (record["outcome"], record["codec"]) == ("answered", "PCMA")
    assert record["rtp"]["rx"]["packets"] > 5


def test_early_media(agent: AgentProcess, sipp: Sipp) -> None:
    """A handler that sends sound before it answers is heard: 183 with SDP, then 200."""
    run = sipp("early_media", agent, user="early")
    assert run.ladder == ["INVITE", "100", "183", "200", "ACK", "BYE", "200"]
    assert "m=audio" in run.response(183).body
    record = agent.record(run.call_id)
    assert record["outcome"] == "answered"
    assert record["ringing_delay_ms"] + 150 < record["answer_delay_ms"]


def test_early_media_is_heard(agent: AgentProcess) -> None:
    """The sound sent before the answer reaches the caller before the 200."""
    with Peer(agent) as peer, RtpPeer() as rtp:
        peer.user = "early"
        branch = "z9hG4bKearly"
        peer.send(peer.build("INVITE", body=peer.offer(port=rtp.port), branch=branch))
        response = peer.final("INVITE")
        heard_before_answer = len(rtp.packets)
        peer.acknowledge(response, branch)
        peer.bye()
    assert heard_before_answer >= 8
    assert 425.0 == pytest.approx(strongest_hz(rtp.heard()[:1280], CLOCK_RATE_HZ), abs=10)


def test_ringing(agent: AgentProcess, sipp: Sipp) -> None:
    """A handler that rings first is heard ringing."""
    run = sipp("call", agent, user="rings")
    assert run.ladder == ["INVITE", "100", "180", "200", "ACK", "BYE", "200"]
    record = agent.record(run.call_id)
    assert record["ringing_at"] is not None
    assert 0 <= record["ringing_delay_ms"] <= record["answer_delay_ms"] <= record["setup_ms"]


def test_options(agent: AgentProcess, sipp: Sipp) -> None:
    """OPTIONS is answered with what the agent takes, and is no call."""
    run = sipp("options", agent)
    assert run.ladder == ["OPTIONS", "200"]
    response = run.response(200, "OPTIONS")
    allowed = {method.strip() for method in response.header("Allow").split(",")}
    assert allowed >= {"INVITE", "ACK", "CANCEL", "BYE", "OPTIONS"}
    assert "application/sdp" in response.header("Accept")
    assert {"100rel", "timer"} <= {tag.strip() for tag in response.header("Supported").split(",")}
    assert agent.records(run.call_id) == []


def test_digits_as_telephone_events(agent: AgentProcess) -> None:
    """Each digit pressed is recorded once, in order, though its last packet comes three times."""
    with Peer(agent) as peer, RtpPeer() as rtp:
        response = peer.invite("record", sdp=peer.offer(port=rtp.port))
        remote = audio_address(response.body)
        rtp.send_to(remote)
        eventually(lambda: rtp.sent > 10, "sound sent")
        rtp.send_to(None)
        for digit in "0119*#AD":
            rtp.send_digit(digit, remote)
        heard = len(rtp.packets)
        eventually(lambda: len(rtp.packets) > heard + 10, "tenth of a second in which the digits arrive")
        peer.bye()
        call_id = peer.call_id
    digits = agent.record(call_id)["dtmf"]
    assert "0119*#AD" == "".join(item["digit"] for item in digits)
    assert {"rfc4733"} == {item["method"] for item in digits}


def test_digits_of_the_agent_are_all_sent(agent: AgentProcess) -> None:
    """A handler that presses many keys and returns hangs up after the last of them."""
    with Peer(agent) as peer, RtpPeer() as rtp:
        response = peer.invite("digits", sdp=peer.offer(port=rtp.port))
        rtp.send_to(audio_address(response.body))
        peer.reply(peer.await_request("BYE", 20))
        events = [packet.payload[0] for packet in rtp.packets if packet.payload_type == 101]

    assert MANY_DIGITS == "".join("0123456789*#ABCD"[event] for event, _ in groupby(events))


def test_digits_as_info(agent: AgentProcess, sipp: Sipp) -> None:
    """Digits in SIP INFO (application/dtmf-relay) are recorded once each."""
    run = sipp("dtmf_info", agent)
    assert run.ladder == ["INVITE", "100", "200", "ACK", *["INFO", "200"] * 3, "BYE", "200"]
    digits = agent.record(run.call_id)["dtmf"]
    assert [("4", "info"), ("4", "info"), ("#", "info")] == [(item["digit"], item["method"]) for item in digits]


def test_a_handler_gathers_digits(agent: AgentProcess, sipp: Sipp) -> None:
    """`gather` returns the digits up to `#`."""
    run = sipp("digits_then_bye", agent, user="collect")
    assert run.ladder == ["INVITE", "100", "200", "ACK", *["INFO", "200"] * 3, "[BYE]"]
    record = agent.record(run.call_id)
    assert [("caller", "44")] == [(item["speaker"], item["text"]) for item in record["transcript"]]


def test_cancel(agent: AgentProcess, sipp: Sipp) -> None:
    """A caller who gives up while it rings gets 487; the record says cancelled, by the caller."""
    run = sipp("cancel", agent, user="ring", headers="Reason: Q.850;cause=26")
    assert run.ladder == ["INVITE", "100", "180", "CANCEL", "200", "487", "ACK"]
    record = agent.record(run.call_id)
    told = (record["outcome"], record["sip_status"], record["ended_by"], record["answered_at"], record["talk_ms"])
    assert told == ("cancelled", 487, "caller", None, None)


def test_bye_with_reason(agent: AgentProcess, sipp: Sipp) -> None:
    """The Q.850 cause of a BYE's Reason header is kept, beside the SIP status."""
    run = sipp("call", agent, bye_headers='Reason: SIP;cause=200, Q.850;cause=16;text="Terminated"')
    assert run.ladder == ANSWERED
    record = agent.record(run.call_id)
    assert (record["q850_cause"], record["sip_status"]) == (16, 200)


def test_the_agent_hangs_up(agent: AgentProcess, sipp: Sipp) -> None:
    """A handler that returns hangs up, after what it had to say was sent."""
    run = sipp("await_bye", agent, user="hang_up")
    assert run.ladder == ["INVITE", "100", "200", "ACK", "[BYE]"]
    record = agent.record(run.call_id)
    assert (record["outcome"], record["ended_by"]) == ("answered", "agent")
    assert record["talk_ms"] >= 80
