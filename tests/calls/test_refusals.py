"""Calls that are refused or go wrong: the status that the caller sees, and the record of it."""

import pytest

from tests.calls.agent_process import AgentProcess, eventually
from tests.calls.conftest import ROUTES, StartAgent
from tests.calls.peer import Peer
from tests.calls.sipp import Sipp

pytestmark = pytest.mark.sipp

REFUSED = {"outcome": "rejected", "ended_by": "agent", "answered_at": None, "talk_ms": None}


def refusal(record: dict[str, object]) -> dict[str, object]:
    """Return what a record says of a refusal."""
    return {key: record[key] for key in REFUSED}


@pytest.mark.parametrize(
    ("user", "sdp", "status"),
    [("busy", "pcma", 486), ("nobody", "pcma", 404), ("echo", "g729", 488)],
    ids=["the handler rejects", "no route", "no codec in common"],
)
def test_refusals(agent: AgentProcess, sipp: Sipp, user: str, sdp: str, status: int) -> None:
    """A call is refused with the status that says why, and the refusal is recorded."""
    run = sipp("refused", agent, user=user, sdp=sdp, status=str(status))
    assert run.exit_status == 0, run.output
    assert [step for step in run.ladder if step != "100"] == ["INVITE", str(status), "ACK"]
    record = agent.record(run.call_id)
    assert record["sip_status"] == status
    assert refusal(record) == REFUSED


def test_ringing_out(start_agent: StartAgent, sipp: Sipp) -> None:
    """The ring handler gives up after its time with 480."""
    agent = start_agent(routes=[{"handler": "ring", "options": {"seconds": 0.5}}])
    run = sipp("refused", agent, status="480")
    assert run.ladder == ["INVITE", "100", "180", "480", "ACK"]
    record = agent.record(run.call_id)
    assert (record["sip_status"], record["end_reason"] != "") == (480, True)
    assert record["ringing_at"] is not None
    assert refusal(record) == REFUSED


def test_a_source_that_is_not_allowed(start_agent: StartAgent, sipp: Sipp) -> None:
    """A caller outside the allow-list gets 403, before any challenge."""
    agent = start_agent(admission={"allow": ["192.0.2.0/24"]}, auth={"users": {"cekura": "secret"}})
    run = sipp("refused", agent, status="403")
    assert [step for step in run.ladder if step != "100"] == ["INVITE", "403", "ACK"]
    assert agent.record(run.call_id)["sip_status"] == 403


def test_an_unknown_method(agent: AgentProcess) -> None:
    """A method that is not for us gets 405 with Allow, or 501; and the agent serves on."""
    with Peer(agent) as peer:
        responses = [peer.request(method) for method in ("SUBSCRIBE", "MESSAGE", "REGISTER", "PUBLISH", "DANCE")]
        assert {405, 501} >= {response.status for response in responses}
        assert all("INVITE" in response.header("Allow") for response in responses if response.status == 405)
        peer.new_dialog()
        assert peer.invite().status == 200
        assert peer.bye().status == 200


def test_a_method_that_needs_a_dialog(agent: AgentProcess) -> None:
    """A BYE, or an UPDATE, of a call that does not exist gets 481."""
    with Peer(agent) as peer:
        peer.to_tag = "nosuchcall"
        assert [peer.request("BYE").status, peer.request("UPDATE").status] == [481, 481]
        assert agent.records(peer.call_id) == []


def test_a_call_over_the_maximum(start_agent: StartAgent, sipp: Sipp) -> None:
    """One call more than max_calls gets 503 with Retry-After; when one has ended there is room again."""
    agent = start_agent(admission={"max_calls": 2}, routes=ROUTES)
    with Peer(agent) as first, Peer(agent) as second:
        assert [first.invite().status, second.invite().status] == [200, 200]
        run = sipp("refused", agent, status="503")
        assert [step for step in run.ladder if step != "100"] == ["INVITE", "503", "ACK"]
        assert int(run.response(503).header("Retry-After")) > 0
        record = agent.record(run.call_id)
        assert (record["sip_status"], record["end_reason"]) == (503, "at capacity")
        assert refusal(record) == REFUSED
        assert first.bye().status == 200
        agent.record(first.call_id)
        assert sipp("call", agent).exit_status == 0
        assert second.bye().status == 200


def test_calls_that_come_too_fast(start_agent: StartAgent, sipp: Sipp) -> None:
    """What exceeds calls_per_second gets 503 with Retry-After."""
    agent = start_agent(admission={"calls_per_second": 2})
    run = sipp("call_or_503", agent, "-r", "50", calls=6)
    assert run.exit_status == 0, run.output
    finals = [item.status for item in run.messages if item.method == "INVITE" and item.status >= 200]
    assert finals.count(503) >= 3
    assert finals.count(200) >= 2
    assert {int(item.header("Retry-After")) for item in run.messages if item.status == 503} == {1}
    outcomes = [agent.record(call_id)["sip_status"] for call_id in run.call_ids]
    assert sorted(outcomes) == sorted(finals)


def test_a_repeated_invite_is_one_call(agent: AgentProcess) -> None:
    """An INVITE that comes three times is answered by one call and one record."""
    with Peer(agent) as peer:
        branch = "z9hG4bKrepeated"
        peer.user = "rings"
        invite = peer.build("INVITE", body=peer.offer(), branch=branch)
        for _ in range(3):
            peer.send(invite)
        response = peer.final("INVITE")
        peer.acknowledge(response, branch)
        assert peer.bye().status == 200
        tags = {message.header("To") for message in peer.seen if message.status > 100}
        call_id = peer.call_id
    assert len(tags) == 1
    assert agent.record(call_id)["outcome"] == "answered"


def test_a_refused_invite_that_is_repeated_is_one_refusal(agent: AgentProcess) -> None:
    """A refused INVITE that comes again gets the same answer again, and no second record."""
    with Peer(agent) as peer:
        branch = "z9hG4bKrefused"
        peer.user = "nobody"
        invite = peer.build("INVITE", body=peer.offer(), branch=branch)
        peer.send(invite)
        first = peer.final("INVITE")
        peer.send(invite)
        again = peer.final("INVITE")
        peer.acknowledge(again, branch)
        call_id = peer.call_id
    assert (first.status, first.raw) == (404, again.raw)
    assert agent.record(call_id)["sip_status"] == 404


def test_a_cancel_before_the_answer_leaves_nothing_behind(agent: AgentProcess) -> None:
    """INVITE and CANCEL in one breath: 487 and 200, in whatever order, and one record that says cancelled."""
    with Peer(agent) as peer:
        branch = "z9hG4bKbreath"
        peer.user = "ring"
        peer.send(peer.build("INVITE", body=peer.offer(), branch=branch))
        peer.send(peer.build("CANCEL", branch=branch, cseq=1))
        finals: dict[str, int] = {}
        while len(finals) < 2:
            message = peer.receive()
            if message.status >= 200:
                finals[message.method] = message.status
        call_id = peer.call_id
        peer.to_tag = peer.seen[-1].header("To").partition(";tag=")[2]
        peer.send(peer.build("ACK", branch=branch, cseq=1))
    assert finals == {"INVITE": 487, "CANCEL": 200}
    record = agent.record(call_id)
    assert (record["outcome"], record["sip_status"], record["ended_by"]) == ("cancelled", 487, "caller")


def test_two_requests_in_a_row_on_one_tcp_segment(agent: AgentProcess) -> None:
    """Requests that arrive glued together, or in pieces, are told apart by Content-Length."""
    with Peer(agent, "TCP") as peer:
        both = peer.build("OPTIONS") + b"\r\n\r\n" + peer.build("OPTIONS")
        peer.send(both[:300])
        eventually(lambda: peer.is_silent(0.05), "pause in the middle of a message")
        peer.send(both[300:])
        assert [peer.final("OPTIONS").status, peer.final("OPTIONS").status] == [200, 200]
