"""`kill -9` at any moment: no call is lost, none is doubled, and the next start says what was interrupted."""

from functools import partial

import pytest

from tests.calls.agent_process import AgentProcess, eventually
from tests.calls.conftest import ROUTES, StartAgent
from tests.calls.peer import Peer
from tests.calls.rtp import RtpPeer
from tests.calls.sdp_text import audio_address
from tests.calls.sipp import RunningSipp, Sipp

pytestmark = pytest.mark.sipp


def test_a_call_cut_by_a_crash(start_agent: StartAgent, sipp: Sipp) -> None:
    """A call that was in progress when the agent was killed is one record, `interrupted`, after the restart."""
    agent = start_agent(routes=ROUTES)
    done = agent.record(sipp("call", agent, headers="X-Run-Id: done").call_id)
    with Peer(agent) as peer, RtpPeer() as rtp:
        response = peer.invite(sdp=peer.offer(port=rtp.port), headers=["X-Run-Id: cut"])
        rtp.send_to(audio_address(response.body))
        eventually(lambda: len(rtp.packets) > 10, "sound")
        agent.kill()
        call_id = peer.call_id
    assert [None] == [record["ended_at"] for record in agent.records(call_id)]
    agent.start()
    record = agent.record(call_id)
    assert (record["outcome"], record["run_id"], record["handler"]) == ("interrupted", "cut", "echo")
    assert [record["call_uuid"]] == [item["call_uuid"] for item in agent.entries("call.interrupted")]
    assert agent.record(done["call_id"]) == done
    assert agent.record(sipp("call", agent).call_id)["outcome"] == "answered"


def test_a_call_that_was_ringing(start_agent: StartAgent) -> None:
    """A call that was not answered yet is closed the same way."""
    agent = start_agent(routes=ROUTES)
    with Peer(agent) as peer:
        peer.user = "ring"
        peer.send(peer.build("INVITE", body=peer.offer()))
        eventually(lambda: peer.receive().status == 180, "180")
        agent.kill()
        call_id = peer.call_id
    agent.start()
    record = agent.record(call_id)
    assert (record["outcome"], record["answered_at"]) == ("interrupted", None)


def test_kills_under_load(start_agent: StartAgent, sipp: Sipp) -> None:
    """Killed again and again while calls come in: every call that was answered has exactly one record."""
    agent = start_agent(routes=ROUTES)
    answered: list[str] = []
    for _ in range(3):
        with sipp.start("call", agent, "-r", "40", calls=400) as run:
            eventually(partial(answers, run), "answers")
            eventually(partial(is_one_over, agent), "a call that is over, and stored")
            agent.kill()
            answered += [
                item.header("Call-ID") for item in run.messages if item.status == 200 and item.method == "INVITE"
            ]
        agent.start()
    records = [agent.record(call_id) for call_id in dict.fromkeys(answered)]
    assert {"answered", "interrupted"} == {record["outcome"] for record in records}


def answers(run: RunningSipp) -> bool:
    """Tell whether thirty answers have come."""
    return sum(message.status == 200 for message in run.messages) > 30


def is_one_over(agent: AgentProcess) -> bool:
    """Tell whether a call is in the store that was answered, and is over."""
    return any(record["outcome"] == "answered" for record in agent.all_records())


def test_an_agent_that_is_stopped_ends_its_calls(start_agent: StartAgent) -> None:
    """SIGTERM sends a BYE to whoever is on a call, 480 or 503 to who is ringing, and records both."""
    agent = start_agent(routes=ROUTES)
    with Peer(agent) as talking, Peer(agent) as ringing:
        assert talking.invite().status == 200
        ringing.user = "ring"
        ringing.send(ringing.build("INVITE", body=ringing.offer()))
        eventually(lambda: ringing.receive().status == 180, "180")
        agent.terminate()
        talking.reply(talking.await_request("BYE"))
        assert ringing.final("INVITE").status in {480, 487, 503, 603}
        agent.stop()
    talked, rang = agent.record(talking.call_id), agent.record(ringing.call_id)
    assert (talked["outcome"], talked["ended_by"]) == ("answered", "system")
    assert rang["ended_by"] == "system"
    assert "shutting down" in talked["end_reason"]
