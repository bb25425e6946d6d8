"""Faults of a route, each measured by the peer that suffers it.

The random ones are drawn from a seed, so a test sees the same packets hit each time; the bounds are five standard
deviations of the share, for whoever changes the seed.
"""

import base64
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.calls.agent_process import REPOSITORY, AgentProcess, eventually, to_toml
from tests.calls.baresip import TONE_HZ, Baresip
from tests.calls.conftest import StartAgent, dial
from tests.calls.peer import Peer
from tests.calls.rtp import CLOCK_RATE_HZ, FRAME_SAMPLES, RtpPeer, decode_pcma, strongest_hz
from tests.calls.sdp_text import audio_address
from tests.calls.sipp import Sipp

PACKETS = 150
RTCP_BYE = 203


def spoilt(user: str, handler: str = "tone", **faults: Any) -> dict[str, Any]:
    """Return a route from a dialled user to a handler with faults."""
    return {**dial(user, handler), "faults": faults}


ROUTES = [
    dial("tone"),
    spoilt("lossy", loss_percent=20),
    spoilt("lossy_receiver", "record", loss_percent=30, direction="from_caller"),
    spoilt("doubling", duplicate_percent=25),
    spoilt("reordering", reorder_percent=20),
    spoilt("jittery", jitter_ms=100),
    spoilt("awful", "echo", loss_percent=5, jitter_ms=40, reorder_percent=5, duplicate_percent=5, direction="both"),
    spoilt("wrong", wrong_codec="G729"),
    spoilt("unheard", one_way="agent_unheard"),
    spoilt("deaf", one_way="caller_unheard"),
    spoilt("noisy", "silence", noise_dbov=-30),
    spoilt("falls_silent", silence_after="1s"),
    spoilt("slow", reply_delay="600ms"),
    spoilt("busy", refuse=486),
    spoilt("declines", refuse=603),
    spoilt("rejects", "reject", refuse=404),
    spoilt("rings", ring_only="200ms"),
    spoilt("late", answer_after="500ms"),
    spoilt("hangs_up", hang_up_after="500ms"),
    spoilt("breaks_off", hang_up_mid_sentence="500ms"),
    spoilt("vanishes", vanish_after="500ms"),
    spoilt("right", wrong_codec="PCMA"),
]


@pytest.fixture(scope="module")
def agent(agent_folders: Iterator[Any]) -> Iterator[AgentProcess]:
    """Run an agent on which each fault can be dialled by its name."""
    with AgentProcess(next(agent_folders), {"routes": ROUTES}) as process:
        yield process


@contextmanager
def talking(agent: AgentProcess, user: str) -> Iterator[tuple[Peer, RtpPeer]]:
    """Call `user`, who answers, and say a tone of 1000 Hz."""
    with Peer(agent) as peer, RtpPeer() as rtp:
        response = peer.invite(user, sdp=peer.offer(port=rtp.port))
        assert response.status == 200
        rtp.send_to(audio_address(response.body))
        yield peer, rtp


def call(agent: AgentProcess, user: str, packets: int = PACKETS) -> tuple[RtpPeer, dict[str, Any]]:
    """Listen to `user` for some packets, hang up, and return what arrived with the record of the call."""
    with talking(agent, user) as (peer, rtp):
        eventually(lambda: len(rtp.packets) >= packets, "sound of the agent")
        assert peer.bye().status == 200
        return rtp, agent.record(peer.call_id)


def positions(rtp: RtpPeer) -> list[int]:
    """Return the place of each packet in the stream, the first being 0, in the order of arrival."""
    first = rtp.packets[0].sequence
    return [(packet.sequence - first + 0x8000) % 0x10000 - 0x8000 for packet in rtp.packets]


def bounds(share: float, count: int) -> tuple[float, float]:
    """Return five standard deviations below and above the expected number of hits."""
    deviation = (count * share * (1 - share)) ** 0.5
    return count * share - 5 * deviation, count * share + 5 * deviation


def level_dbov(samples: npt.NDArray[np.int16]) -> float:
    """Return the root mean square, relative to full scale."""
    return float(20 * np.log10(np.sqrt(np.mean(samples.astype(float) ** 2)) / 32768))


def packet_types(compound: bytes) -> list[int]:
    """Return the types of the packets in an RTCP compound (RFC 3550 §6.1)."""
    types = []
    while len(compound) >= 4:
        types.append(compound[1])
        compound = compound[4 * (int.from_bytes(compound[2:4], "big") + 1) :]
    return types


# Packets


def test_lost_packets(agent: AgentProcess) -> None:
    """One packet in five never arrives, the others in order and once; the record names the fault."""
    rtp, record = call(agent, "lossy")
    places = positions(rtp)
    span = places[-1] + 1
    low, high = bounds(0.2, span)
    assert sorted(set(places)) == places
    assert low <= span - len(places) <= high
    assert record["faults"] == ["loss_percent=20 to_caller seed=1"]
    assert record["outcome"] == "answered"
    (entry,) = agent.entries("call.spoilt", call_uuid=record["call_uuid"])
    assert entry["faults"] == record["faults"]


def test_the_same_seed_hits_the_same_packets(agent: AgentProcess) -> None:
    """Two calls lose the same packets, counted from the first."""
    one, other = (positions(call(agent, "lossy", 60)[0]) for _ in range(2))
    assert one[:60] == other[:60]


def test_packets_lost_on_the_way_to_the_agent(agent: AgentProcess) -> None:
    """With direction from_caller the agent's own statistics see the loss, and its packets all arrive."""
    rtp, record = call(agent, "lossy_receiver")
    received = record["rtp"]["rx"]
    low, high = bounds(0.3, received["packets"] + received["lost"])
    assert low <= received["lost"] <= high
    assert received["packets"] + received["lost"] <= rtp.sent
    assert positions(rtp) == list(range(len(rtp.packets)))


def test_doubled_packets(agent: AgentProcess) -> None:
    """One packet in four comes twice, and none is missing."""
    rtp, _ = call(agent, "doubling")
    places = positions(rtp)
    low, high = bounds(0.25, places[-1] + 1)
    assert sorted(set(places)) == list(range(places[-1] + 1))
    assert low <= len(places) - len(set(places)) <= high
    twins = [(one.payload, other.payload) for one, other in pairwise(rtp.packets) if one.sequence == other.sequence]
    assert twins
    assert all(one == other for one, other in twins)


def test_reordered_packets(agent: AgentProcess) -> None:
    """One packet in five is overtaken by the next one, and none is missing or doubled."""
    rtp, _ = call(agent, "reordering")
    places = positions(rtp)
    swaps = [(one, other) for one, other in pairwise(places) if other < one]
    low, high = bounds(0.2, len(places))
    assert low <= len(swaps) <= high
    assert {1} == {one - other for one, other in swaps}
    assert sorted(places)[: len(places) - 1] == list(range(min(places), min(places) + len(places) - 1))


def test_jitter(agent: AgentProcess) -> None:
    """Packets are late by 0 to 100 ms, as evenly as their order allows; none is lost or overtaken."""
    deviations_ms = {}
    for user in ("tone", "jittery"):
        rtp, _ = call(agent, user)
        assert positions(rtp) == list(range(len(rtp.packets)))
        late_s = [packet.arrived_s - 0.02 * place for packet, place in zip(rtp.packets, positions(rtp), strict=True)]
        deviations_ms[user] = 1000 * float(np.std(late_s))
    assert 15 < deviations_ms["jittery"] < 60
    assert deviations_ms["tone"] < deviations_ms["jittery"] / 2


def test_wrong_codec(agent: AgentProcess) -> None:
    """Every packet of sound says G.729, though PCMA was agreed."""
    rtp, record = call(agent, "wrong", 50)
    assert {packet.payload_type for packet in rtp.packets} == {18}
    heard = decode_pcma(b"".join(packet.payload for packet in rtp.packets))
    assert strongest_hz(heard[-4000:], CLOCK_RATE_HZ) == pytest.approx(440, abs=10)
    assert (record["codec"], record["faults"]) == ("PCMA", ["wrong_codec=G729"])


def test_a_wrong_codec_that_is_the_right_one(agent: AgentProcess) -> None:
    """Where the label is that of the codec agreed, nothing is wrong: the record names no fault."""
    rtp, record = call(agent, "right", 10)
    assert {packet.payload_type for packet in rtp.packets} == {8}
    assert (record["codec"], record["faults"]) == ("PCMA", [])


def test_the_agent_is_not_heard(agent: AgentProcess) -> None:
    """One way: nothing arrives at the caller, whom the agent hears."""
    with talking(agent, "unheard") as (peer, rtp):
        eventually(lambda: rtp.sent > 50, "second of sound sent")
        peer.bye()
        record = agent.record(peer.call_id)
    assert rtp.packets == []
    assert record["rtp"]["rx"]["packets"] > 30


def test_the_caller_is_not_heard(agent: AgentProcess) -> None:
    """One way: nothing arrives at the agent, whom the caller hears."""
    rtp, record = call(agent, "deaf", 50)
    assert strongest_hz(rtp.heard()[-4000:], CLOCK_RATE_HZ) == pytest.approx(440, abs=10)
    assert (record["rtp"]["rx"]["packets"], record["rx_first_audio_ms"]) == (0, None)


def test_many_calls_on_awful_lines(agent: AgentProcess, sipp: Sipp) -> None:
    """Calls that begin and end while packets are under way on both sides all end well, and the agent lives."""
    run = sipp("talk", agent, "-r", "20", "-l", "30", user="awful", calls=60)
    assert run.exit_status == 0, run.output
    outcomes = {agent.record(call_id)["outcome"] for call_id in run.call_ids}
    assert outcomes == {"answered"}


def test_a_spoilt_line_survives_a_reinvite(agent: AgentProcess) -> None:
    """After hold and resume the sound is there again, as spoilt as before."""
    with talking(agent, "jittery") as (peer, rtp):
        eventually(lambda: len(rtp.packets) > 20, "sound")
        peer.reinvite(peer.offer(port=rtp.port, extra="a=sendonly\r\n"))
        peer.reinvite(peer.offer(port=rtp.port))
        heard = len(rtp.packets)
        eventually(lambda: len(rtp.packets) > heard + 50, "sound after the resumption")
        assert peer.bye().status == 200
        record = agent.record(peer.call_id)
    assert record["outcome"] == "answered"


# Encrypted packets


@pytest.fixture(scope="module")
def srtp_agent(agent_folders: Iterator[Any]) -> Iterator[AgentProcess]:
    """Run the same agent with SRTP."""
    with AgentProcess(next(agent_folders), {"routes": ROUTES, "media": {"srtp": "mandatory"}}) as process:
        yield process


@pytest.mark.parametrize("user", ["lossy", "doubling", "reordering", "wrong"])
def test_srtp_packets_are_spoilt_on_the_wire(srtp_agent: AgentProcess, user: str) -> None:
    """Faults hit packets that are encrypted already: a doubled one is the same to the last bit of its tag."""
    key = base64.b64encode(bytes(range(30))).decode()
    with Peer(srtp_agent) as peer, RtpPeer() as rtp:
        offer = peer.offer(port=rtp.port, extra=f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{key}\r\n")
        assert peer.invite(user, sdp=offer.replace("RTP/AVP", "RTP/SAVP")).status == 200
        eventually(lambda: len(rtp.packets) >= PACKETS, "sound of the agent")
        peer.bye()
        record = srtp_agent.record(peer.call_id)
    places = positions(rtp)
    found = {
        "lossy": max(places) + 1 - len(places),
        "doubling": sum(one.payload == other.payload for one, other in pairwise(rtp.packets)),
        "reordering": sum(other < one for one, other in pairwise(places)),
        "wrong": sum(packet.payload_type == 18 for packet in rtp.packets),
    }
    low, high = bounds({"lossy": 0.2, "doubling": 0.25, "reordering": 0.2, "wrong": 1}[user], max(places) + 1)
    assert low <= found[user] <= high
    assert {FRAME_SAMPLES + 10} == {len(packet.payload) for packet in rtp.packets}
    assert record["srtp"] == "AES_CM_128_HMAC_SHA1_80"


@pytest.mark.baresip
def test_srtp_on_an_awful_line_is_understood(srtp_agent: AgentProcess, tmp_path: Path) -> None:
    """What gets through is what the peers have encrypted: a softphone hears its tone come back."""
    with Baresip(tmp_path, "mediaenc=srtp-mand", "audio_codecs=PCMA/8000/1") as phone:
        call_id = phone.call(srtp_agent, "awful")
        eventually(lambda: phone.heard_ms() > 1500, "echo")
        phone.hang_up()
        record = srtp_agent.record(call_id)
    heard, rate_hz = phone.heard()
    assert strongest_hz(heard[-rate_hz:], rate_hz) == pytest.approx(TONE_HZ, abs=15)
    assert record["srtp"]
    assert record["rtp"]["rx"]["lost"] > 0


# Sound


def test_noise(agent: AgentProcess) -> None:
    """White noise of the level asked for is heard, also while the agent says nothing."""
    rtp, _ = call(agent, "noisy", 60)
    heard = rtp.heard()[10 * FRAME_SAMPLES :]
    assert level_dbov(heard) == pytest.approx(-30, abs=1.5)
    spectrum = np.abs(np.fft.rfft(heard.astype(float))) ** 2
    low, high = np.array_split(spectrum[50 : len(spectrum) * 3 // 4], 2)
    assert np.mean(low) / np.mean(high) == pytest.approx(1, abs=0.5)


def test_silence(agent: AgentProcess) -> None:
    """The tone ends a second after the answer, and RTP goes on without a gap."""
    rtp, _ = call(agent, "falls_silent", 100)
    levels = np.array([np.max(np.abs(decode_pcma(packet.payload))) for packet in rtp.packets])
    loud = np.flatnonzero(levels > 1000)
    assert 35 <= len(loud) <= 60
    assert np.max(levels[loud[-1] + 2 :]) <= 8
    assert positions(rtp) == list(range(len(rtp.packets)))


def test_a_slow_reply(agent: AgentProcess) -> None:
    """The agent's sound begins 600 ms later than that of the same handler without the fault."""
    began = {}
    for user in ("tone", "slow"):
        rtp, _ = call(agent, user, 60)
        loud = [np.max(np.abs(decode_pcma(packet.payload))) > 1000 for packet in rtp.packets]
        began[user] = loud.index(True)
    assert began["slow"] - began["tone"] == pytest.approx(30, abs=5)


# Signalling


@pytest.mark.parametrize(("user", "status"), [("busy", 486), ("declines", 603), ("rejects", 404)])
def test_refused(agent: AgentProcess, user: str, status: int) -> None:
    """The call is refused with the status of the fault, whatever the handler is."""
    with Peer(agent) as peer:
        assert peer.invite(user).status == status
        record = agent.record(peer.call_id)
    assert (record["outcome"], record["sip_status"]) == ("rejected", status)
    assert (record["faults"], record["end_reason"]) == ([f"refuse={status}"], f"fault: refuse={status}")


def test_ringing_only(agent: AgentProcess) -> None:
    """It rings, and nobody answers."""
    with Peer(agent) as peer:
        assert peer.invite("rings").status == 480
        statuses = [message.status for message in peer.seen]
        record = agent.record(peer.call_id)
    assert statuses == [100, 180, 480]
    assert (record["outcome"], record["answered_at"], record["faults"]) == ("rejected", None, ["ring_only=200ms"])


def test_answered_late(agent: AgentProcess) -> None:
    """It rings for half a second before the answer."""
    with Peer(agent) as peer:
        assert peer.invite("late").status == 200
        peer.bye()
        record = agent.record(peer.call_id)
    assert [message.status for message in peer.seen] == [100, 180, 200, 200]
    assert record["ringing_delay_ms"] + 490 <= record["answer_delay_ms"]


def test_a_caller_gives_up_before_a_late_answer(agent: AgentProcess, sipp: Sipp) -> None:
    """A CANCEL while the answer is held back ends the call as any other."""
    run = sipp("cancel", agent, user="late")
    assert run.exit_status == 0, run.output
    assert agent.record(run.call_id)["outcome"] == "cancelled"


def test_hanging_up(agent: AgentProcess) -> None:
    """The agent sends BYE half a second after the answer."""
    with talking(agent, "hangs_up") as (peer, _):
        peer.reply(peer.await_request("BYE"))
        record = agent.record(peer.call_id)
    assert (record["ended_by"], record["end_reason"]) == ("agent", "fault: hang_up_after")
    assert 490 <= record["talk_ms"]


def test_hanging_up_in_mid_sentence(agent: AgentProcess) -> None:
    """The agent sends BYE when half a second of its sound is out, and its last packets are loud."""
    with talking(agent, "breaks_off") as (peer, rtp):
        peer.reply(peer.await_request("BYE"))
        record = agent.record(peer.call_id)
    levels = [np.max(np.abs(decode_pcma(packet.payload))) for packet in rtp.packets]
    assert 23 <= sum(level > 1000 for level in levels) <= 50
    assert levels[-2] > 1000
    assert (record["ended_by"], record["end_reason"]) == ("agent", "fault: hang_up_mid_sentence")


def test_vanishing(agent: AgentProcess) -> None:
    """The agent stops sending anything, says no BYE, and does not answer one; other calls go on."""
    with talking(agent, "vanishes") as (peer, rtp), talking(agent, "tone") as (other, _):
        record = agent.record(peer.call_id)
        heard = len(rtp.packets)
        peer.send(peer.build("BYE"))
        assert peer.is_silent(1.0)
        assert len(rtp.packets) <= heard + 2
        assert other.bye().status == 200
    assert (record["outcome"], record["ended_by"]) == ("answered", "agent")
    assert (record["end_reason"], record["faults"]) == ("fault: vanish_after", ["vanish_after=500ms"])


@pytest.mark.parametrize(("user", "says_goodbye"), [("hangs_up", True), ("vanishes", False)])
def test_vanishing_from_rtcp(agent: AgentProcess, user: str, *, says_goodbye: bool) -> None:
    """An agent that hangs up says BYE in RTCP too (RFC 3550 §6.6); one that has vanished does not."""
    with Peer(agent) as peer, RtpPeer() as rtp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rtcp:
        rtcp.bind(("127.0.0.1", 0))
        rtcp.settimeout(0.5)
        offer = peer.offer(port=rtp.port, extra=f"a=rtcp:{rtcp.getsockname()[1]}\r\n")
        rtp.send_to(audio_address(peer.invite(user, sdp=offer).body))
        if says_goodbye:
            peer.reply(peer.await_request("BYE"))
        agent.record(peer.call_id)
        types: list[int] = []
        with suppress(TimeoutError):
            while RTCP_BYE not in types:
                types += packet_types(rtcp.recv(2048))
    assert (RTCP_BYE in types) == says_goodbye


# The light engine


@pytest.mark.light
def test_the_light_engine_refuses_what_it_cannot_do(agent_folders: Iterator[Any]) -> None:
    """A fault of packets on the light engine is a settings error that names the setting."""
    folder = next(agent_folders)
    folder.mkdir()
    routes = [{"handler": "echo"}, {"handler": "echo", "faults": {"loss_percent": 5}}]
    settings = {"media": {"engine": "light"}, "routes": routes, "store": {"url": "sqlite:///calls.db"}}
    file = folder / "sip-agent.toml"
    file.write_text("".join(f"{name} = {to_toml(value)}\n" for name, value in settings.items()), encoding="utf-8")
    command = [sys.executable, "-m", "sip_agent", "serve", "--config", str(file)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "routes[1].faults.loss_percent: the light engine cannot do that" in " ".join(done.stderr.split())


@pytest.mark.light
def test_the_light_engine_does_what_it_can(start_agent: StartAgent) -> None:
    """Faults of signalling, time and silence work on the light engine too."""
    agent = start_agent(media={"engine": "light"}, routes=[spoilt("slow", reply_delay="600ms"), ROUTES[13]])
    with Peer(agent) as peer:
        assert peer.invite("busy").status == 486
    rtp, record = call(agent, "slow", 60)
    loud = [np.max(np.abs(decode_pcma(packet.payload))) > 1000 for packet in rtp.packets]
    assert loud.index(True) >= 28
    assert record["faults"] == ["reply_delay=600ms"]
