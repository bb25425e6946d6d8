"""The light engine (PyPI's pjsua2): up to four calls, through the same agent."""

import pytest

from tests.calls.agent_process import eventually
from tests.calls.conftest import ROUTES, StartAgent
from tests.calls.peer import Peer
from tests.calls.rtp import CLOCK_RATE_HZ, RtpPeer, strongest_hz
from tests.calls.sdp_text import audio_address
from tests.calls.sipp import Sipp

pytestmark = [pytest.mark.light, pytest.mark.sipp]

LIGHT = {"engine": "light"}


def test_it_says_what_it_is(start_agent: StartAgent) -> None:
    """The start-up entry names the engine and its limits."""
    agent = start_agent(media=LIGHT)
    (started,) = agent.entries("agent.started")
    assert (started["engine"], started["max_calls"]) == ("light", 4)
    assert any("4 calls" in limit for limit in started["limits"])
    assert agent.entries("agent.fewer_calls")


def test_a_call_with_digest(start_agent: StartAgent, sipp: Sipp) -> None:
    """A challenged call is answered and is one record."""
    agent = start_agent(media=LIGHT, auth={"users": {"cekura": "secret"}})
    run = sipp("digest", agent, "-au", "cekura", "-ap", "secret", headers="")
    assert run.exit_status == 0, run.output
    record = agent.record(run.call_id)
    assert (record["auth_user"], record["outcome"]) == ("cekura", "answered")
    refused = sipp("digest_refused", agent, "-au", "cekura", "-ap", "guess")
    record = agent.record(refused.call_id)
    assert (record["outcome"], record["sip_status"]) == ("rejected", 401)


def test_the_fifth_call(start_agent: StartAgent, sipp: Sipp) -> None:
    """Four calls are held; the fifth is refused; when one has ended there is room again."""
    agent = start_agent(media=LIGHT, routes=ROUTES)
    peers = [Peer(agent) for _ in range(4)]
    try:
        assert [200] * 4 == [peer.invite().status for peer in peers]
        run = sipp("refused_somehow", agent)
        finals = [message.status for message in run.messages if message.status >= 200]
        assert finals[0] in {486, 503}
        assert peers[0].bye().status == 200
        agent.record(peers[0].call_id)
        assert sipp("call", agent).exit_status == 0
        assert [200] * 3 == [peer.bye().status for peer in peers[1:]]
    finally:
        for peer in peers:
            peer.close()


def test_echo_and_recording(start_agent: StartAgent) -> None:
    """The caller hears itself, and the recording has both."""
    agent = start_agent(media=LIGHT)
    with Peer(agent) as peer, RtpPeer() as rtp:
        response = peer.invite(sdp=peer.offer(port=rtp.port))
        rtp.send_to(audio_address(response.body))
        eventually(lambda: len(rtp.packets) > 75, "second and a half of echo")
        assert peer.bye().status == 200
        record = agent.record(peer.call_id)
    assert strongest_hz(rtp.heard()[-CLOCK_RATE_HZ // 2 :], CLOCK_RATE_HZ) == pytest.approx(1000, abs=10)
    assert (record["outcome"], record["recording"]["state"]) == ("answered", "ok")
    assert record["rtp"]["rx"]["packets"] > 50


def test_refusals(start_agent: StartAgent, sipp: Sipp) -> None:
    """No route, busy, a caller who gives up: the same statuses and outcomes as on the native engine."""
    agent = start_agent(media=LIGHT, routes=ROUTES)
    told = []
    for status, user in ((404, "nobody"), (486, "busy")):
        record = agent.record(sipp("refused", agent, status=str(status), user=user).call_id)
        told.append((record["outcome"], record["sip_status"]))
    assert told == [("rejected", 404), ("rejected", 486)]
    cancelled = sipp("cancel", agent, user="ring")
    assert cancelled.exit_status == 0, cancelled.output
    assert agent.record(cancelled.call_id)["outcome"] == "cancelled"
    # The stack refuses this one before the agent hears of it: there is no record on this engine.
    assert sipp("refused", agent, sdp="g729", status="488").exit_status == 0
