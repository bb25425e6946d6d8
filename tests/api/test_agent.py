"""The API of a whole agent: a process of its own, called by SIPp, asked over HTTP."""

import io
import json
import os
import signal
import urllib.error
import urllib.request
import wave
from http.client import HTTPResponse
from typing import Any

import pytest

from tests.calls.agent_process import ENGINE, AgentProcess, eventually
from tests.calls.conftest import ROUTES, StartAgent
from tests.calls.peer import Peer
from tests.calls.sipp import Sipp

pytestmark = pytest.mark.sipp


class Client:
    """Asks the API of an agent."""

    def __init__(self, agent: AgentProcess) -> None:
        (entry,) = agent.entries("api.started")
        self.url: str = entry["url"]

    def read(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        """Return the status and the body of a response."""
        request = urllib.request.Request(f"{self.url}{path}", method=method)  # noqa: S310  (our own address)
        try:
            response: HTTPResponse
            with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def get(self, path: str) -> Any:
        """Return the JSON document at a path."""
        status, body = self.read(path)
        assert 200 == status, body
        return json.loads(body)


@pytest.fixture
def agent(start_agent: StartAgent) -> AgentProcess:
    """Run an agent with its API on a free port."""
    return start_agent(api={"bind": "127.0.0.1:0"}, routes=ROUTES)


def test_the_record_and_the_recording_of_a_call(agent: AgentProcess, sipp: Sipp) -> None:
    """After a call its record and its recording are there to be fetched, and the metrics have counted it."""
    client = Client(agent)
    assert {"healthy": True} == client.get("/health")
    assert client.get("/ready")["ready"]

    run = sipp("talk", agent, headers="X-Run-Id: 4711")
    stored = agent.record(run.call_id)

    assert stored == client.get("/calls/run:4711")
    assert [stored] == client.get("/calls?header=X-Run-Id:4711&outcome=answered&since=10m")["calls"]
    status, sound = client.read(f"/calls/{stored['call_uuid']}/recording")
    assert 200 == status
    with wave.open(io.BytesIO(sound)) as recording:
        assert (2, stored["recording"]["sample_rate_hz"]) == (recording.getnchannels(), recording.getframerate())
        assert recording.getnframes() > 0
    page = eventually(lambda: _metrics_with(client, 'outcome="answered"} 1.0'), "call in the metrics")
    native = ("sip_agent_media_clock_ticks_total ", 'sip_agent_invite_gate_events_total{event="passed"} 1.0')
    assert [ENGINE == "native"] * 2 == [figure in page for figure in native]


def test_an_active_call_is_hung_up(agent: AgentProcess) -> None:
    """A call that goes on is listed; hung up over HTTP it ends with a BYE, and the record says so."""
    client = Client(agent)
    with Peer(agent) as peer:
        peer.invite(headers=["X-Run-Id: 12"])
        (active,) = eventually(
            lambda: [call for call in client.get("/calls/active")["calls"] if call["state"] == "confirmed"],
            "confirmed call",
        )
        status, _ = client.read(f"/calls/{active['call_uuid']}/hangup", "POST")
        peer.reply(peer.await_request("BYE"))
        call_id = peer.call_id

    record = agent.record(call_id)
    assert 202 == status
    assert ("12", "PCMA", "echo") == (active["run_id"], active["codec"], active["handler"])
    assert ("agent", "hung up through the API") == (record["ended_by"], record["end_reason"])


def test_an_agent_that_stops_is_not_ready(agent: AgentProcess) -> None:
    """While the last call ends the API still answers: not ready, as the agent is shutting down."""
    client = Client(agent)
    with Peer(agent) as peer:
        peer.invite()
        os.kill(agent.pid, signal.SIGTERM)
        bye = peer.await_request("BYE")
        status, body = client.read("/ready")
        peer.reply(bye)

    assert (503, "the agent is shutting down") == (status, json.loads(body)["error"])


def test_refusals_are_counted_also_where_they_share_a_record(start_agent: StartAgent, sipp: Sipp) -> None:
    """Each refusal counts, though only the first of a source has a record of its own; the summary counts nothing."""
    agent = start_agent(api={"bind": "127.0.0.1:0"}, admission={"refusal_records_per_hour": 1}, routes=ROUTES[:1])
    client = Client(agent)

    for _ in range(3):
        sipp("refused", agent, user="nobody", status="404")

    page = eventually(lambda: _metrics_with(client, 'refusals_total{sip_status="404"} 3.0'), "three refusals")
    assert 'sip_agent_calls_total{direction="inbound",outcome="rejected"} 3.0' in page
    assert 1 == len(client.get("/calls")["calls"])


def _metrics_with(client: Client, text: str) -> str:
    status, page = client.read("/metrics")
    assert 200 == status
    return page.decode() if text in page.decode() else ""
