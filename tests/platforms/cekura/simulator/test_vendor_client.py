"""The vendor's own client (PyPI `cekura`), unchanged, against the stand-in, and real calls to an agent."""

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
import soundfile
from cekura import APIError, AuthenticationError, Cekura, NotFoundError

from tests.calls.agent_process import AgentProcess, eventually
from tests.platforms.cekura.simulator.processes import API_KEY, restaurant, stand_in


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    """Run the agent under test."""
    with restaurant(tmp_path_factory.mktemp("restaurant")) as process:
        yield process


@pytest.fixture(scope="module")
def url(agent: AgentProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run the stand-in."""
    with stand_in(tmp_path_factory.mktemp("stand-in"), agent) as address:
        yield address


@pytest.fixture
def client(url: str) -> Iterator[Cekura]:
    """Open the vendor's client."""
    with Cekura(api_key=API_KEY, base_url=url) as opened:
        yield opened


def run_cekura(url: str, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the vendor's command, pointed at the stand-in as its documentation says."""
    program = Path(sys.executable).with_name("cekura")
    return subprocess.run(
        [program, *arguments],
        env={**os.environ, "HOME": str(home), "CEKURA_API_URL": url, "CEKURA_API_KEY": API_KEY, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_run_start_wait(url: str, agent: AgentProcess, tmp_path: Path) -> None:
    """`cekura run start --mode sip --wait` waits for real calls, counts the one that failed, and judges by its rate."""
    done = run_cekura(
        url,
        tmp_path,
        *("run", "start", "--mode", "sip", "--agent-id", "5", "--scenario-ids", "101,102,103"),
        *("--wait", "--timeout", "60", "--fail-on-threshold", "0.9"),
    )

    output = done.stdout + done.stderr
    assert "2/3 passed, 1 failed." in output
    assert "Pass rate 66.7% is below threshold 90.0%" in output
    assert 1 == done.returncode, output
    result_id = output.partition("result ID: ")[2].split()[0]
    status = run_cekura(url, tmp_path, "run", "status", result_id)
    assert "Total: 3  Passed: 2  Failed: 1" in status.stdout
    taken = [record for record in agent.all_records() if record["result_id"] == result_id]
    assert {"101", "102", "103"} == {record["scenario_id"] for record in taken}
    assert {"cekura"} == {record["auth_user"] for record in taken}
    (booking,) = [record for record in taken if record["scenario_id"] == "101"]
    assert ["four"] == booking["headers"]["X-Party-Size"]
    assert "sip-agent-stand-in-for-cekura" == booking["user_agent"]


def test_the_sdk(client: Cekura, agent: AgentProcess) -> None:
    """A run is started, waited for, read by its id, and its recording has one party per channel."""
    started = client.scenarios.run_sip(agent_id=5, scenarios=[102], name="By the SDK")
    result = client.results.wait(started["id"], poll_interval=1, timeout=60)
    run_id = started["runs"][0]["id"]
    (run,) = client.runs.bulk(run_ids=str(run_id))

    assert ("completed", 1, 100.0) == (result["status"], result["success_runs_count"], result["success_rate"])
    assert (True, "Main agent-ended-call") == (run["success"], run["metadata"]["ended_reason"])
    assert run == client.runs.get(run_id)
    with urlopen(run["voice_recording_url"]) as response:  # noqa: S310  (the stand-in's)
        samples, _ = soundfile.read(io.BytesIO(response.read()))
    main, testing = samples.T if run["testing_channel_index"] else samples.T[::-1]
    assert abs(main).max() > 0.01
    assert abs(testing).max() < 0.01  # it has pressed a key, and said nothing
    assert "answered" == agent.record(f"run:{run_id}")["outcome"]


def test_what_is_set_up(client: Cekura) -> None:
    """Agents, scenarios, profiles and results are listed as the client reads them."""
    assert "Bella Vista" == client.agents.get(5)["name"]
    assert [101, 102, 103] == [item["id"] for item in client.scenarios.list(agent_id=5)["results"]]
    assert "Books a table" == client.scenarios.get(101)["name"]
    assert [12, 13] == [profile["id"] for profile in client.test_profiles.list(agent_id=5)]
    assert client.results.list(agent_id=5)["count"] >= 0


def test_calls_are_ended(client: Cekura, agent: AgentProcess) -> None:
    """`results.end_calls` hangs up a call that goes on, and its run is cancelled."""
    started = client.scenarios.run_sip(agent_id=5, scenarios=[101])
    run_id = started["runs"][0]["id"]
    eventually(lambda: any(record["answered_at"] for record in agent.records(f"run:{run_id}")), "answered call")
    client.results.end_calls(started["id"])
    result = client.results.wait(started["id"], poll_interval=1, timeout=60)

    assert ("cancelled", "cancelled") == (result["status"], result["runs"][str(run_id)]["status"])
    assert "caller" == agent.record(f"run:{run_id}")["ended_by"]


def test_an_endpoint_that_cannot_be_reached(client: Cekura) -> None:
    """A call that cannot even be sent fails its run, in the words of the SIP stack; the stand-in goes on."""
    started = client.scenarios.run_sip(agent_id=5, scenarios=[102], sip_endpoint="sip:agent@192.0.2.1")
    result = client.results.wait(started["id"], poll_interval=1, timeout=60)
    (run,) = result["runs"].values()

    assert ("failed", "failed", "Testing agent-pipeline-error") == (
        result["status"],
        run["status"],
        run["metadata"]["ended_reason"],
    )
    assert run["error_message"].startswith("call: ")


def test_refusals(client: Cekura, url: str) -> None:
    """A wrong key, an unknown result and unknown scenarios raise what the client has for them."""
    with Cekura(api_key="wrong", base_url=url) as stranger, pytest.raises(AuthenticationError):
        stranger.agents.get(5)
    with pytest.raises(NotFoundError):
        client.results.get(7)
    with pytest.raises(APIError) as refused:
        client.scenarios.run_sip(agent_id=5, scenarios=[999])
    assert {"scenarios": ["Invalid scenario IDs or scenarios not found"]} == refused.value.response_body
