"""From a real call to what Cekura has of it, across the death of the agent."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from sip_agent.store import reading
from tests.calls.agent_process import STORE_URL, AgentProcess, eventually
from tests.calls.conftest import StartAgent, dial
from tests.calls.peer import Peer
from tests.platforms.cekura.evidence_desk import KEY, TRANSCRIPT, Answer, EvidenceDesk
from tests.store.conftest import postgres_server, postgres_url

__all__ = ["postgres_server", "postgres_url"]

ROUTES = [
    dial("converse", "tests.calls.evidence_handlers:Converse"),
    dial("busy", "tests.calls.evidence_handlers:Busy"),
    dial("stay", "tests.calls.evidence_handlers:Stay"),
]


@pytest.fixture
def desk() -> Iterator[EvidenceDesk]:
    """Open the place where evidence goes."""
    with EvidenceDesk().open() as opened:
        yield opened


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store_url(request: pytest.FixtureRequest) -> str:
    """Return the URL of an empty database, of each kind in turn."""
    return request.getfixturevalue("postgres_url") if request.param == "postgres" else STORE_URL


def cekura(desk: EvidenceDesk, **settings: Any) -> dict[str, Any]:
    """Return the section [cekura] for this desk."""
    return {"base_url": desk.url, "api_key": KEY} | settings


def call(agent: AgentProcess, user: str = "converse", run_id: str | None = "456789", *headers: str) -> str:
    """Place a call that is over when its handler is done; return its Call-ID."""
    with Peer(agent) as peer:
        response = peer.invite(user, sdp=peer.offer(), headers=[*([f"X-Run-Id: {run_id}"] if run_id else []), *headers])
        if response.status == 200:
            peer.reply(peer.await_request("BYE"))
        return peer.call_id


def evidence(
    agent: AgentProcess, call_id: str, state: str, url: str = STORE_URL, *, attempts: int = 0
) -> dict[str, Any]:
    """Return what became of a call's evidence, once it is in this state after so many attempts."""

    def look() -> dict[str, Any] | None:
        with reading(url, base_dir=agent.folder) as store:
            found = [record["evidence"] for record in store.find(call_id) if record["evidence"]]
        return next((each for each in found if each["state"] == state and each["attempts"] >= attempts), None)

    return eventually(look, f"evidence that is {state}, see {agent.log_file}")


def test_a_call_with_a_run_id_is_sent(start_agent: StartAgent, desk: EvidenceDesk) -> None:
    """Transcript, tools, end and ids arrive as documented, and the record says so."""
    agent = start_agent(routes=ROUTES, cekura=cekura(desk, recordings_url="https://files.example.com/calls"))
    call_id = call(
        agent, "converse", "456789", "X-Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    )

    sent = evidence(agent, call_id, "sent")

    (record,) = agent.records(call_id)
    (accepted,) = desk.accepted
    assert (1, None, "4bf92f3577b34da6a3ce929d0e0e4736") == (sent["attempts"], sent["reason"], sent["trace_id"])
    assert (record["call_uuid"], 456789) == (accepted["id"], accepted["run_id"])
    assert (record["answered_at"], record["ended_at"]) == (accepted["startedAt"], accepted["endedAt"])
    assert ("Main agent-ended-call", sent["trace_id"]) == (accepted["endedReason"], accepted["trace_id"])
    assert ["bot", "function_call", "function_call_result", "user"] == sorted(
        message["role"] for message in accepted["messages"]
    )
    day = Path(record["recording"]["path"]).parent.name
    assert f"https://files.example.com/calls/{day}/{record['call_uuid']}.wav" == accepted["metadata"]["recording_url"]


def test_killed_between_the_call_and_its_delivery(start_agent: StartAgent, desk: EvidenceDesk, store_url: str) -> None:
    """What could not be sent before the agent was killed is sent after its start, once."""
    desk.always = Answer(status=503, headers={"Retry-After": "4"})
    agent = start_agent(routes=ROUTES, cekura=cekura(desk), store={"url": store_url})
    call_id = call(agent)
    evidence(agent, call_id, "waiting", store_url, attempts=1)
    agent.kill()
    assert [] == desk.accepted
    desk.always = None

    agent.start()

    evidence(agent, call_id, "sent", store_url)
    agent.stop()
    agent.start()
    assert 1 == len(desk.accepted)


def test_killed_while_it_is_sent(start_agent: StartAgent, desk: EvidenceDesk) -> None:
    """An agent that died before it had the answer sends again: Cekura may never have got it."""
    desk.instead.append(Answer(hold=True))
    agent = start_agent(routes=ROUTES, cekura=cekura(desk))
    call_id = call(agent)
    eventually(lambda: TRANSCRIPT in desk.seen, "request")
    agent.kill()

    agent.start()

    assert 2 == evidence(agent, call_id, "sent")["attempts"]
    assert 1 == len(desk.accepted)


def test_a_stop_sends_what_waits(start_agent: StartAgent, desk: EvidenceDesk) -> None:
    """A call that the stop itself ends is sent before the agent is gone, as in a CI job."""
    agent = start_agent(routes=ROUTES, cekura=cekura(desk))
    with Peer(agent) as peer:
        peer.invite("stay", sdp=peer.offer(), headers=["X-Run-Id: 456789"])
        agent.stop()
    assert [456789] == [item["run_id"] for item in desk.accepted]


def test_a_refused_call_says_why(start_agent: StartAgent, desk: EvidenceDesk) -> None:
    """A handler that is busy is told as such; an INVITE that was not admitted is not told at all."""
    agent = start_agent(routes=ROUTES, cekura=cekura(desk))
    busy = call(agent, "busy")
    unknown = call(agent, "nobody")

    evidence(agent, busy, "sent")

    assert ["Main agent-busy"] == [item["endedReason"] for item in desk.accepted]
    assert agent.record(unknown)["evidence"] is None


def test_too_long_a_call(start_agent: StartAgent, desk: EvidenceDesk) -> None:
    """A call that reached its longest duration ends for that reason."""
    agent = start_agent(routes=ROUTES, cekura=cekura(desk), admission={"max_duration": "1s"})
    call_id = call(agent, "stay")

    evidence(agent, call_id, "sent")

    assert ["exceeded-max-duration"] == [item["endedReason"] for item in desk.accepted]


def test_what_cannot_be_sent_says_why(start_agent: StartAgent, desk: EvidenceDesk) -> None:
    """An id that is no integer stays here; one that Cekura does not know is refused in its own words."""
    agent = start_agent(routes=ROUTES, cekura=cekura(desk))
    odd, unknown = call(agent, run_id="run-7"), call(agent, run_id="77")

    refused = evidence(agent, unknown, "refused")

    assert "the run id 'run-7' is no integer" in evidence(agent, odd, "not_sent")["reason"]
    assert "Run IDs not found or deleted: [77]" in refused["reason"]
    assert [TRANSCRIPT] == desk.seen


def test_production_calls_go_to_observability(start_agent: StartAgent, desk: EvidenceDesk) -> None:
    """A call without a run id is sent with its stereo recording, if that is asked for."""
    agent = start_agent(routes=ROUTES, cekura=cekura(desk, observe=True, agent_id=5))
    call_id = call(agent, run_id=None)

    evidence(agent, call_id, "sent")

    (record,) = agent.records(call_id)
    (accepted,) = desk.accepted
    assert (record["call_uuid"], 5, "cekura", 1) == (
        accepted["call_id"],
        accepted["agent"],
        accepted["transcript_type"],
        accepted["main_agent_channel_index"],
    )
    assert Path(record["recording"]["path"]).read_bytes() == desk.recordings[0]


SECRET = "hook-secret-0815"


def post(agent: AgentProcess, event: dict[str, Any], **headers: str) -> dict[str, Any]:
    """Send an event to the agent's webhook; return what it answers."""
    (started,) = agent.entries("api.started")
    request = Request(f"{started['url']}/cekura/webhook", json.dumps(event).encode(), headers, method="POST")  # noqa: S310
    with urlopen(request, timeout=5) as response:  # noqa: S310  (our own address)
        answer: dict[str, Any] = json.load(response)
        return answer


def test_only_announced_runs(start_agent: StartAgent, desk: EvidenceDesk) -> None:
    """Calls of other runs, and of none, are refused with 403 and a record; the verdict comes to the record later."""
    section = cekura(desk, webhook_secret=SECRET, announced_runs_only=True)
    agent = start_agent(routes=ROUTES, cekura=section, api={"bind": "127.0.0.1:0", "token": "of-the-api"})
    early = call(agent)
    announced = {"result_id": 95, "agent_id": "1", "runs": {"456789": {"id": 456789, "scenario": {"id": 205}}}}

    answer = post(agent, {"event_type": "result.pre_trigger", "data": announced}, **{"X-CEKURA-SECRET": SECRET})

    assert (1, "95") == (answer["expected_runs"], answer["result_id"])
    admitted, other, none = call(agent), call(agent, run_id="1"), call(agent, run_id=None)
    assert ["answered", "rejected", "rejected", "rejected"] == [
        agent.record(call_id)["outcome"] for call_id in (admitted, early, other, none)
    ]
    refused = agent.record(other)
    assert (403, "the run 1 was not announced") == (refused["sip_status"], refused["end_reason"].partition(" (")[0])
    run = {"id": 456789, "success": False, "scenario": {"name": "Booking"}, "error_message": "no table"}
    completed = {"id": 95, "status": "completed", "runs": {"456789": run}}

    post(agent, {"event_type": "result.completed", "data": completed}, **{"X-CEKURA-SECRET": SECRET})

    verdict = agent.record(admitted)["verdict"]
    assert (False, ["no table"], "Booking", "95") == (
        verdict["passed"],
        verdict["reasons"],
        verdict["scenario_name"],
        verdict["result_id"],
    )
    assert SECRET not in agent.log_file.read_text()
