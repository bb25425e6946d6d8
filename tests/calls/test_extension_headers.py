"""X- headers on the wire: what arrives is what the handler, the record and the log have."""

from typing import Any

import pytest

from tests.calls.agent_process import AgentProcess, eventually
from tests.calls.conftest import ROUTES, StartAgent
from tests.calls.peer import Peer
from tests.calls.sipp import Sipp

pytestmark = pytest.mark.sipp


def call_with(agent: AgentProcess, *headers: str | bytes, transport: str = "UDP") -> dict[str, Any]:
    """Call with these headers, hang up, and return the record."""
    with Peer(agent, transport) as peer:
        assert peer.invite(headers=headers).status == 200
        assert peer.bye().status == 200
        return agent.record(peer.call_id)


def test_the_ids_of_the_test_run(agent: AgentProcess, sipp: Sipp) -> None:
    """The run's ids are in the record exactly as received, and the run is found by each of them."""
    lines = ["X-Run-Id: 0042", "X-Scenario-Id:   checkout/3 ", "x-result-id: 9f-7"]
    run = sipp("call", agent, headers="\n".join(lines))
    assert run.ladder == ["INVITE", "100", "200", "ACK", "BYE", "200"]
    record = agent.record(run.call_id)
    assert (record["run_id"], record["scenario_id"], record["result_id"]) == ("0042", "checkout/3", "9f-7")
    assert [record["call_uuid"]] == [item["call_uuid"] for item in agent.records("run:0042")]
    assert [record["call_uuid"]] == [item["call_uuid"] for item in agent.records("result:9f-7")]


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        (["X-Plain: one"], {"X-Plain": ["one"]}),
        (["x-lOwEr: 1", "X-LOWER: 2"], {"x-lOwEr": ["1", "2"]}),
        (["X-Twice: b", "X-Other: x", "X-Twice: a"], {"X-Twice": ["b", "a"], "X-Other": ["x"]}),
        (["X-Folded: one\r\n two\r\n\tthree"], {"X-Folded": ["one two three"]}),
        (["X-Empty:", "X-Blank:   "], {"X-Empty": [""], "X-Blank": [""]}),
        (["X-Spaced   :   padded  "], {"X-Spaced": ["padded"]}),
        (["X-Utf8: Grüße 你好 ☎"], {"X-Utf8": ["Grüße 你好 ☎"]}),
        ([b"X-Latin: caf\xe9"], {"X-Latin": ["café"]}),
        ([b"X-Broken: \xff\xfe\x80"], {"X-Broken": ["\xff\xfe\x80"]}),
        (['X-Json: {"a": [1, "b;c,d"]}'], {"X-Json": ['{"a": [1, "b;c,d"]}']}),
        (["X-Long: " + "v" * 3000], {"X-Long": ["v" * 3000]}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("transport", ["UDP", "TCP"])
def test_values_as_received(
    agent: AgentProcess, transport: str, lines: list[str | bytes], kept: dict[str, list[str]]
) -> None:
    """Values reach the record as received, in order, whatever their letters; folds become one space."""
    assert call_with(agent, *lines, transport=transport)["headers"] == kept


@pytest.mark.parametrize("transport", ["UDP", "TCP"])
def test_many_and_long(agent: AgentProcess, transport: str) -> None:
    """As much as a datagram carries arrives: fifty headers of a kilobyte, over UDP as over TCP."""
    lines = [f"X-Part-{number}: {str(number % 10) * 1000}" for number in range(50)]
    record = call_with(agent, *lines, transport=transport)
    assert {f"X-Part-{number}": [str(number % 10) * 1000] for number in range(50)} == record["headers"]


@pytest.mark.parametrize(
    ("lines", "run_id"),
    [
        ([], None),
        (["X-Run-Id:"], ""),
        (["X-Run-Id: ' OR 1=1; --"], "' OR 1=1; --"),
        (["X-Run-Id: \x07\x1b[31m"], "␇␛[31m"),
        (["X-Run-Id: 1", "X-Run-Id: 2"], "1"),
        (["X-Run-Id: " + "9" * 2000], "9" * 2000),
    ],
    ids=["missing", "empty", "injection", "control characters", "two of them", "long"],
)
def test_garbage_ids_do_not_stop_a_call(agent: AgentProcess, lines: list[str | bytes], run_id: str | None) -> None:
    """A run id that is missing or makes no sense is recorded as such; the call goes on."""
    record = call_with(agent, *lines, transport="TCP")
    assert (record["run_id"], record["outcome"]) == (run_id, "answered")


def test_a_run_id_may_be_required(start_agent: StartAgent) -> None:
    """With correlation.required an INVITE without a run id gets 400, one with it a call."""
    agent = start_agent(correlation={"required": True})
    with Peer(agent) as peer:
        assert peer.invite().status == 400
        record = agent.record(peer.call_id)
        assert (record["outcome"], record["sip_status"], record["run_id"]) == ("rejected", 400, None)
        peer.new_dialog()
        assert peer.invite(headers=["X-Run-Id: 7"]).status == 200
        assert peer.bye().status == 200


def test_another_profile(start_agent: StartAgent) -> None:
    """A profile of one's own names the headers that carry the ids."""
    correlation = {"profile": "mine", "profiles": {"mine": {"run_id": "X-Test-Run", "scenario_id": "X-Case"}}}
    agent = start_agent(correlation=correlation)
    record = call_with(agent, "X-Test-Run: r1", "X-Case: c1", "X-Run-Id: no")
    assert (record["run_id"], record["scenario_id"], record["result_id"]) == ("r1", "c1", None)


def test_secrets_reach_the_handler_and_nobody_else(start_agent: StartAgent) -> None:
    """A secret header reaches the handler in clear, and record and log as the same fingerprint every time."""
    secret = "sk-live-5d41402abc4b2a76"
    agent = start_agent(routes=ROUTES)
    with Peer(agent) as peer:
        headers = [f"X-Api-Key: {secret}", f"X-Auth-Token: {secret}", "X-Run-Id: 5", "X-Public: shown"]
        response = peer.invite("headers", headers=headers)
        assert response.header("X-Seen") == secret
        assert peer.bye().status == 200
        record = agent.record(peer.call_id)
    kept = record["headers"]
    assert kept["X-Api-Key"] == kept["X-Auth-Token"]
    assert kept["X-Api-Key"][0].startswith("fingerprint:")
    assert (kept["X-Public"], record["run_id"]) == (["shown"], "5")
    (entry,) = eventually(lambda: agent.entries("call.ended", call_uuid=record["call_uuid"]), "entry of the call's end")
    assert entry["headers"] == kept
    agent.stop()
    for path in agent.folder.rglob("*"):
        assert path.is_dir() or secret.encode() not in path.read_bytes(), path


def test_fingerprints_may_be_turned_off(start_agent: StartAgent) -> None:
    """Who wants secret headers in clear gets them."""
    agent = start_agent(headers={"fingerprint": False})
    assert call_with(agent, "X-Api-Key: open")["headers"] == {"X-Api-Key": ["open"]}


def test_routes_by_header(start_agent: StartAgent, sipp: Sipp) -> None:
    """A route may ask for a header's value; the first route that matches takes the call."""
    agent = start_agent(
        routes=[
            {"match": {"header.X-Mode": "busy"}, "handler": "reject", "options": {"status": 600}},
            {"match": {}, "handler": "silence"},
        ]
    )
    refused = sipp("refused", agent, status="600", headers="x-mode: busy")
    assert [step for step in refused.ladder if step != "100"] == ["INVITE", "600", "ACK"]
    assert agent.record(refused.call_id)["handler"] == "reject"
    answered = sipp("call", agent, headers="X-Mode: idle")
    assert agent.record(answered.call_id)["handler"] == "silence"


def test_the_log_is_bound_to_the_call(agent: AgentProcess, sipp: Sipp) -> None:
    """Every log entry of a call has its call_uuid and run id; one `call.ended` entry carries the whole record."""
    run = sipp("talk", agent, headers="X-Run-Id: bound-1")
    record = agent.record(run.call_id)
    (ended,) = eventually(lambda: agent.entries("call.ended", call_uuid=record["call_uuid"]), "entry of the call's end")
    entries = agent.entries(call_uuid=record["call_uuid"])
    assert {"call.received", "call.confirmed", "call.media_changed", "call.ended"} <= {
        item["event"] for item in entries
    }
    assert {"bound-1"} == {entry["run_id"] for entry in entries}
    assert record == {key: ended[key] for key in record}
