"""Malformed and hostile SIP: whatever arrives, the agent lives, serves the next caller, and does not grow."""

import re
import socket
import time
from contextlib import ExitStack, suppress

import pytest

from sip_agent.status import SipStatus
from tests.attacks.torture import HOSTILE, mutations, well_framed
from tests.calls.agent_process import AgentProcess, eventually
from tests.calls.conftest import StartAgent, dial
from tests.calls.peer import Peer
from tests.calls.sipp import Sipp, SippRun
from tests.ports import free_rtp_range

pytestmark = pytest.mark.sipp

MUTANTS = 1500
SEEDS = (1, 2, 3)

PLACES = 400

WORKING_SET_KB = 160_000
"""What the first storm of messages may add to the memory: a thousand INVITEs wait undecided at most, and what
was refused or challenged is remembered for 32 s (RFC 3261 §17.2.1)."""

MUTANT_KB = 24
"""What each message that gets as far as a call may add until its transaction is forgotten, 32 s later."""

GROWTH_KB = 40_000
"""What each further storm of the same size may add."""


@pytest.fixture
def target(start_agent: StartAgent) -> AgentProcess:
    """Run an agent that answers everybody, since more of it can be reached so.

    A call that nobody acknowledges holds its place for half a minute: there are places enough.
    """
    return start_agent(
        routes=[dial("busy", "reject"), {"handler": "echo"}],
        admission={"max_calls": PLACES, "calls_per_second": 10_000},
        media={"rtp_timeout": "1s", "rtp_ports": free_rtp_range(4 * PLACES)},
    )


@pytest.fixture
def guarded(start_agent: StartAgent) -> AgentProcess:
    """Run an agent that asks everybody for a password."""
    return start_agent(auth={"users": {"cekura": "secret"}}, admission={"calls_per_second": 10_000})


def assert_serves(agent: AgentProcess) -> None:
    """Fail unless the agent lives and answers."""
    assert agent.is_alive(), agent.tail()
    with Peer(agent) as peer:
        assert peer.request("OPTIONS").status == 200


def assert_takes_calls(agent: AgentProcess, sipp: Sipp) -> None:
    """Fail unless the agent takes a call; while it works off what it was sent, it may say 503."""

    def answered() -> SippRun | None:
        run = sipp("call_or_503", agent)
        assert run.exit_status == 0, run.output
        return run if any(message.status == SipStatus.OK for message in run.messages) else None

    run = eventually(answered, "place for a call")
    assert agent.record(run.call_id)["outcome"] == "answered"


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_told_apart(name: str) -> None:
    """Each rewriting does change a good INVITE."""
    good = good_invite()
    assert HOSTILE[name](good) != good


def test_hostile_datagrams(target: AgentProcess, sipp: Sipp) -> None:
    """One by one over UDP, each followed by a question that has to be answered."""
    for name, rewrite in HOSTILE.items():
        with Peer(target) as peer:
            message = rewrite(good_invite(peer))
            with suppress(OSError):
                peer.send(message[:65_000])
        assert target.is_alive(), name
        assert_serves(target)
    assert_takes_calls(target, sipp)


@pytest.mark.parametrize("framed", [True, False], ids=["framed", "raw"])
def test_hostile_streams(target: AgentProcess, sipp: Sipp, framed: bool) -> None:
    """One by one over TCP, with the right Content-Length and without, each on a connection of its own."""
    send_streams(target, framed=framed)
    assert_takes_calls(target, sipp)


def test_connections_are_given_back(guarded: AgentProcess) -> None:
    """No connection and no file is left when those who sent hostile messages have gone."""
    before = guarded.open_files()
    send_streams(guarded, framed=True)
    send_streams(guarded, framed=False)
    eventually(lambda: guarded.open_files() <= before + 4, "end of the connections", timeout_s=40)


def send_streams(target: AgentProcess, *, framed: bool) -> None:
    """Send every hostile message over TCP, and ask after each whether the agent lives."""
    for name, rewrite in HOSTILE.items():
        with Peer(target, "TCP") as peer, suppress(OSError):
            message = rewrite(good_invite(peer))
            peer.send(well_framed(message) if framed and b"\r\n\r\n" in message else message)
        assert target.is_alive(), name
        assert_serves(target)


def test_random_mutations(target: AgentProcess, sipp: Sipp) -> None:
    """Thousands of random changes of a good INVITE, the same at every run, over UDP and TCP."""
    send_mutants(target, 0, 500)
    before_kb = target.rss_kb()
    for seed in SEEDS:
        send_mutants(target, seed, MUTANTS)
    grown_kb = target.rss_kb() - before_kb
    assert_takes_calls(target, sipp)
    assert grown_kb < MUTANTS * len(SEEDS) * MUTANT_KB


def send_mutants(target: AgentProcess, seed: int, count: int) -> None:
    """Send mutants, and ask now and then whether the agent lives."""
    with Peer(target) as udp:
        # A call to `busy` is taken from the stack, looked at and refused at once: nothing waits for an ACK.
        udp.user = "busy"
        for number, mutant in enumerate(mutations(good_invite(udp), seed, count)):
            # Each its own transaction, or the stack would take them for retransmissions of the first.
            own_branch = re.sub(rb"z9hG4bK\w*", b"z9hG4bK%dx%d" % (seed, number), mutant)
            message = re.sub(rb"Call-ID: \w+", b"Call-ID: %dx%d" % (seed, number), own_branch)
            with suppress(OSError):
                udp.send(message)
            if number % 20 == 0:
                with suppress(OSError), Peer(target, "TCP") as tcp:
                    tcp.send(message)
            # Without a pause now and then the socket's buffer would overflow, and the mutants be lost.
            if number % 50 == 0:
                assert_serves(target)
    assert_serves(target)


def test_half_open_connections(target: AgentProcess, sipp: Sipp) -> None:
    """Two hundred connections that say nothing, or stop in the middle, keep nobody out and are given back."""
    before = target.open_files()
    with ExitStack() as connections:
        for number in range(200):
            connection = connections.enter_context(socket.create_connection((target.host, target.tcp_port), 5))
            if number % 2:
                connection.sendall(b"INVITE sip:echo@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127")
        assert_serves(target)
        assert sipp("call", target, transport="t1").exit_status == 0
    eventually(lambda: target.open_files() <= before + 8, "end of the connections", timeout_s=40)


def test_a_slow_stream(target: AgentProcess) -> None:
    """An INVITE that comes byte by byte is answered, and holds nobody up meanwhile."""
    with Peer(target, "TCP") as slow:
        message = slow.build("OPTIONS")
        for byte in message[:-1]:
            slow.send(bytes([byte]))
        began = time.monotonic()
        assert_serves(target)
        assert time.monotonic() - began < 1
        slow.send(message[-1:])
        assert slow.final("OPTIONS").status == 200


def test_a_stream_without_end(target: AgentProcess) -> None:
    """A header section that never ends is cut off, and takes no memory."""
    before_kb = target.rss_kb()
    with Peer(target, "TCP") as peer, suppress(OSError):
        peer.send(b"INVITE sip:echo@127.0.0.1 SIP/2.0\r\n")
        for _ in range(2_000):
            peer.send(b"X-Endless: " + b"a" * 10_000 + b"\r\n")
    assert_serves(target)
    assert target.rss_kb() - before_kb < 8_000


def test_storms_of_refused_invites(guarded: AgentProcess, sipp: Sipp) -> None:
    """Thousands of INVITEs of a stranger, as fast as they go: an honest caller is served, memory is bounded."""
    memory_kb = [guarded.rss_kb()]
    for _ in range(3):
        send_storm(guarded, 2_500)
        memory_kb.append(guarded.rss_kb())
        run = sipp("digest", guarded, "-au", "cekura", "-ap", "secret")
        assert run.exit_status == 0, run.output
        assert guarded.record(run.call_id)["auth_user"] == "cekura"
    assert memory_kb[1] - memory_kb[0] < WORKING_SET_KB
    assert memory_kb[2] - memory_kb[1] < GROWTH_KB
    assert memory_kb[3] - memory_kb[2] < GROWTH_KB


def send_storm(target: AgentProcess, count: int) -> None:
    """Send INVITEs without credentials, and with wrong ones."""
    wrong = 'Authorization: Digest username="cekura", realm="sip-agent", nonce="x", uri="sip:x", response="y"'
    with Peer(target) as peer:
        for number in range(count):
            peer.new_dialog()
            peer.send(peer.build("INVITE", body=peer.offer(), headers=[wrong] if number % 2 else []))
            if number % 50 == 0:
                assert_serves(target)
    assert_serves(target)


def good_invite(peer: Peer | None = None) -> bytes:
    """Return an INVITE that would be answered."""
    if peer is not None:
        return peer.build("INVITE", body=peer.offer())
    return (
        b"INVITE sip:echo@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKx;rport\r\n"
        b"From: <sip:peer@127.0.0.1>;tag=1\r\nTo: <sip:echo@127.0.0.1>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n"
        b"Contact: <sip:peer@127.0.0.1:5060>\r\nMax-Forwards: 70\r\nContent-Type: application/sdp\r\n"
        b"Content-Length: 200\r\n\r\nv=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        b"m=audio 40000 RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
    )
