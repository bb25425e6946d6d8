"""The life of runs: queued, called, judged, ended."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sip_agent.errors import UserAgentError
from sip_agent.platforms.cekura.simulator.dialing import Pace
from sip_agent.platforms.cekura.simulator.server import Simulator
from sip_agent.platforms.cekura.simulator.world import Setup
from tests.platforms.cekura.simulator.switchboard import (
    Client,
    Switchboard,
    answered_record,
    serving,
    until_over,
    write_setup,
)
from tests.platforms.clock import FakeClock

RunningSimulator = tuple[Simulator, Client]


async def statuses(client: Client, *run_ids: int) -> list[str]:
    """Return where runs stand."""
    runs = await client.get("/v2/runs/bulk/", run_ids=",".join(map(str, run_ids)))
    return [run["status"] for run in runs]


async def test_a_call_is_what_the_scenario_says(client: Client, telephone: Switchboard) -> None:
    """Endpoint, credentials, ids as integers, the profile's headers, and the script with its variables."""
    started = await client.start(scenarios=[101])
    await telephone.until(1)

    request = telephone.calls[0].request
    assert "sip:agent@127.0.0.1:5060" == request.uri
    assert ("cekura", "pw") == (request.caller.username, request.caller.password)
    run_id, result_id = str(started["runs"][0]["id"]), str(started["id"])
    ids = {"X-Run-Id": run_id, "X-Scenario-Id": "101", "X-Result-Id": result_id}
    assert {**ids, "X-Tier": "premium", "X-Count": "3"} == dict(request.headers)
    assert request.script is not None
    assert {"people": "four"} == request.script.script.variables


async def test_a_run_goes_through_its_statuses(client: Client, telephone: Switchboard) -> None:
    """It is in progress with its call, evaluated after it, and then completed."""
    started = await client.start(scenarios=[102])
    run_id = started["runs"][0]["id"]
    await telephone.until(1)

    assert ["in_progress"] == await statuses(client, run_id)
    telephone.calls[0].disconnected.set_result(None)
    assert ["evaluating"] == await statuses(client, run_id)
    assert "evaluating" == (await client.get(f"/v2/results/{started['id']}/"))["status"]
    telephone.calls[0].end()
    result = await until_over(client, started["id"])
    assert ["completed"] == await statuses(client, run_id)
    run = result["runs"][str(run_id)]
    assert (True, "success", "01:01") == (run["success"], run["evaluation_status"], run["duration"])
    assert {"ended_reason": "Main agent-ended-call", "ringing_duration": 1.5} == run["metadata"]


async def test_runs_wait_for_room(client: Client, telephone: Switchboard) -> None:
    """No more calls at the same time than the request allows; the rest is in the queue."""
    started = await client.start(scenarios=[101, 102, 103], concurrency_limit=1)
    ids = [run["id"] for run in started["runs"]]
    await telephone.until(1)

    assert ["in_progress", "in_queue", "in_queue"] == await statuses(client, *ids)
    for number in (1, 2, 3):
        await telephone.until(number)
        telephone.calls[number - 1].end()
    result = await until_over(client, started["id"])
    assert (3, 3, 1) == (result["success_runs_count"], len(telephone.calls), telephone.most)


async def test_the_organisation_has_a_limit(tmp_path: Path, telephone: Switchboard) -> None:
    """Results share the places of the organisation."""
    setup = write_setup(tmp_path, "concurrency_limit: 1\ncalls_per_second: 100\n")
    async with serving(setup, telephone, tmp_path) as (_, client):
        first = await client.start(scenarios=[101])
        await telephone.until(1)
        second = await client.start(scenarios=[101])

        assert ["in_queue"] == await statuses(client, second["runs"][0]["id"])
        telephone.calls[0].end()
        await telephone.until(2)
        telephone.calls[1].end()
        await until_over(client, first["id"])
        await until_over(client, second["id"])
    assert 1 == telephone.most


async def test_five_calls_a_second() -> None:
    """Whoever comes too early waits for the rest of a fifth of a second."""
    clock = FakeClock()
    pace = Pace(5, clock.clock)

    for _ in range(3):
        await pace.wait()
    clock.now_s += 1
    await pace.wait()

    assert [0.2, 0.2] == pytest.approx(clock.waits)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (486, "Main agent-busy"),
        (480, "Main agent-did-not-answer"),
        (603, "call-rejected"),
        (488, "sip-call-failed"),
    ],
)
async def test_an_agent_that_does_not_answer(client: Client, telephone: Switchboard, status: int, reason: str) -> None:
    """The run fails with the SIP status, and is counted as not connected."""
    telephone.answer = lambda _: answered_record(answered_at=None, sip_status=status, talk_ms=None)
    started = await client.start(scenarios=[101])

    result = await until_over(client, started["id"])
    run = result["runs"][str(started["runs"][0]["id"])]
    assert ("failed", "failed", False, reason) == (
        result["status"],
        run["status"],
        run["success"],
        run["metadata"]["ended_reason"],
    )
    assert f"SIP {status}" in run["error_message"]
    assert [run["id"]] == result["not_connected_runs"]
    assert [run["error_message"]] == result["failed_reasons"]


async def test_an_agent_that_rings_too_long(client: Client, telephone: Switchboard) -> None:
    """Then it is the testing agent that gives up, and not a SIP status that says why."""
    telephone.answer = lambda _: answered_record(answered_at=None, sip_status=500, error="not answered within 60 s")
    started = await client.start(scenarios=[101])

    (run,) = (await until_over(client, started["id"]))["runs"].values()
    assert "the agent did not answer the call: not answered within 60 s" == run["error_message"]
    assert "Main agent-did-not-answer" == run["metadata"]["ended_reason"]


async def test_a_failed_check_fails_a_completed_run(client: Client, telephone: Switchboard) -> None:
    """The run is completed and no success; the result is completed all the same, as at Cekura."""
    telephone.answer = lambda _: answered_record(error="script guest.yaml, line 4: nothing was heard")
    started = await client.start(scenarios=[101])

    result = await until_over(client, started["id"])
    run = result["runs"][str(started["runs"][0]["id"])]
    assert ("completed", "completed", False) == (result["status"], run["status"], run["success"])
    assert ["script guest.yaml, line 4: nothing was heard"] == run["expected_outcome"]["explanation"]
    assert (1, 0, 1, 0.0) == (
        result["completed_runs_count"],
        result["success_runs_count"],
        result["failed_runs_count"],
        result["success_rate"],
    )


@pytest.mark.parametrize(
    ("error", "message"),
    [(UserAgentError("call", "no such URI"), "call: no such URI"), (ZeroDivisionError("x"), "the stand-in failed")],
)
async def test_a_call_that_cannot_be_placed(
    client: Client, telephone: Switchboard, error: Exception, message: str
) -> None:
    """Whatever goes wrong with one call, its run is over, and others go on."""
    telephone.answer = lambda request: error if dict(request.headers)["X-Scenario-Id"] == "101" else answered_record()
    started = await client.start(scenarios=[101, 102])

    runs = (await until_over(client, started["id"]))["runs"]
    first, second = (runs[str(run["id"])] for run in started["runs"])
    assert ("failed", "Testing agent-pipeline-error") == (first["status"], first["metadata"]["ended_reason"])
    assert message in first["error_message"]
    assert "completed" == second["status"]


async def test_ending_the_calls_of_a_result(client: Client, telephone: Switchboard) -> None:
    """Those that go on are hung up, those that wait are never placed, and all are cancelled."""
    started = await client.start(scenarios=[101, 102], concurrency_limit=1)
    await telephone.until(1)

    status, _, _ = await client.ask("POST", f"/test_framework/v2/results/{started['id']}/end_calls/")
    result = await until_over(client, started["id"])
    assert (200, "cancelled", 1) == (status, result["status"], len(telephone.calls))
    assert ["run-cancelled-by-user"] == telephone.calls[0].hung_up
    assert {"cancelled"} == {run["status"] for run in result["runs"].values()}


async def test_ending_one_call(client: Client, telephone: Switchboard) -> None:
    """The others go on; ending it once more does no harm."""
    started = await client.start(scenarios=[101, 102])
    await telephone.until(2)
    run_id = started["runs"][0]["id"]

    for _ in range(2):
        status, _, _ = await client.ask("POST", f"/test_framework/v1/runs-external/{run_id}/end_call")
        assert 200 == status
    ended, other = sorted(telephone.calls, key=lambda line: line.headers["X-Run-Id"])
    assert (["run-cancelled-by-user"], []) == (ended.hung_up, other.hung_up)
    other.end()
    assert "completed" == (await until_over(client, started["id"]))["status"]


async def test_a_call_that_takes_too_long(tmp_path: Path, telephone: Switchboard) -> None:
    """It is hung up, and its run is a timeout."""
    setup = write_setup(tmp_path)
    scenario = setup.scenarios[102]
    tester = scenario.testing_agent.model_copy(update={"max_duration": timedelta()})
    setup.scenarios[102] = scenario.model_copy(update={"testing_agent": tester})
    setup.world.scenarios[1] = setup.scenarios[102]
    async with serving(setup, telephone, tmp_path) as (_, client):
        started = await client.start(scenarios=[102])
        result = await until_over(client, started["id"])

    run = result["runs"][str(started["runs"][0]["id"])]
    assert ("timeout", "exceeded-max-duration") == (run["status"], run["metadata"]["ended_reason"])
    assert ["exceeded-max-duration"] == telephone.calls[0].hung_up


async def test_closing_ends_the_calls(setup: Setup, telephone: Switchboard, tmp_path: Path) -> None:
    """No call is left behind."""
    async with serving(setup, telephone, tmp_path) as (_, client):
        await client.start(scenarios=[101, 102], concurrency_limit=1)
        await telephone.until(1)

    assert [["run-cancelled-by-user"]] == [line.hung_up for line in telephone.calls]
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert [] == [task for task in others if task.get_name().startswith("result")]


async def test_the_recording_is_served(
    simulator: RunningSimulator, client: Client, telephone: Switchboard, tmp_path: Path
) -> None:
    """`voice_recording_url` leads to the testing agent's stereo recording; another address leads nowhere."""
    (tmp_path / "call.wav").write_bytes(b"RIFF-sound")
    recording: dict[str, Any] = {"state": "ok", "path": str(tmp_path / "call.wav")}
    telephone.answer = lambda _: answered_record(recording=recording)
    started = await client.start(scenarios=[101])
    result = await until_over(client, started["id"])

    run = result["runs"][str(started["runs"][0]["id"])]
    address = run["voice_recording_url"].removeprefix(simulator[0].url)
    async with client.session.get(run["voice_recording_url"]) as response:
        assert (200, b"RIFF-sound") == (response.status, await response.read())
    assert 1 == run["testing_channel_index"]
    status, _, _ = await client.ask("GET", address.replace(".wav", "x.wav"), key="")
    assert 404 == status
